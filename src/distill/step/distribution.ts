// Builds the softmax over a vocabulary in chunks: the softmax of each chunk, and its share of the whole.
import type { Value } from "../../graph/ir.ts";
import { exp, log, reduceLogSumExp, reduceMax, softmax, sub } from "../../graph/ops.ts";
import { concat } from "../../graph/shape-ops.ts";

/** softmax over one chunk, and the chunk's share of the whole probability: p = softmax·share. */
export interface ChunkDistribution {
  logits: Value; // [n, v]
  softmax: Value; // [n, v]
  share: Value; // [n, 1]
}

export interface Distribution {
  parts: ChunkDistribution[];
  /** ln Σ e^z over the whole vocabulary: [n, 1] */
  logNormalizer: Value;
}

/** Chunk by chunk: ln Σ e^z = max z − ln max softmax(z) within a chunk; the chunks' sums are joined the same way. */
export function chunkedSoftmax(logits: readonly Value[]): Distribution {
  const chunks = logits.map((z) => {
    const p = softmax(z); // [n, v]
    return { z, p, sum: sub(reduceMax(z, [1], true), log(reduceMax(p, [1], true))) };
  });
  const sums = chunks.map(({ sum }) => sum);
  const logNormalizer = sums.length === 1 ? (sums[0] as Value) : reduceLogSumExp(concat(sums, 1), [1], true); // [n, 1]
  const parts = chunks.map(({ z, p, sum }) => ({ logits: z, softmax: p, share: exp(sub(sum, logNormalizer)) }));
  return { parts, logNormalizer };
}
