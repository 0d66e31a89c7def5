// Builds the softmax over a vocabulary in chunks: the softmax of each chunk, and its share of the whole.
import type { Value } from "../../graph/ir.ts";
import { exp, log, reduceLogSumExp, reduceMax, softmax, sub } from "../../graph/ops.ts";
import { concat, slice } from "../../graph/shape-ops.ts";

/** softmax over one chunk, and the chunk's share of the whole probability: p = softmax·share. */
export interface ChunkDistribution {
  logits: Value; // [n, v]
  softmax: Value; // [n, v]
  share: Value; // [n, 1]
  /** What `chunkedSoftmax` was asked for of the chunk: [n, 1] */
  statistic: Value | null;
}

export interface Distribution {
  parts: ChunkDistribution[];
  /** ln Σ e^z over the whole vocabulary: [n, 1] */
  logNormalizer: Value;
}

/**
 * Chunk by chunk: ln Σ e^z = max z − ln max softmax(z) within a chunk; the chunks' sums are joined the same way.
 * @param measure a statistic of each chunk from its logits and softmax [n, v]: [n, 1]. The sums are joined beside the
 * statistics, so that those are computed chunk by chunk too, and no logits are kept for them.
 */
export function chunkedSoftmax(
  logits: readonly Value[],
  measure?: (logits: Value, softmax: Value, chunk: number) => Value,
): Distribution {
  const chunks = logits.map((z, c) => {
    const p = softmax(z); // [n, v]
    const sum = sub(reduceMax(z, [1], true), log(reduceMax(p, [1], true))); // [n, 1]
    return { z, p, sum, statistic: measure?.(z, p, c) ?? null };
  });
  const sums = chunks.map(({ sum }) => sum);
  const statistics = chunks.flatMap(({ statistic }) => statistic ?? []);
  const logNormalizer = sums.length === 1 ? (sums[0] as Value) : joinSums(sums, statistics); // [n, 1]
  const parts = chunks.map(({ z, p, sum, statistic }) => {
    return { logits: z, softmax: p, share: exp(sub(sum, logNormalizer)), statistic };
  });
  return { parts, logNormalizer };
}

/** ln Σ e^sum of each row, from columns [n, 1]: [n, 1] */
function joinSums(sums: readonly Value[], statistics: readonly Value[]): Value {
  const columns = concat([...sums, ...statistics], 1);
  return reduceLogSumExp(statistics.length > 0 ? slice(columns, 1, 0, sums.length) : columns, [1], true);
}
