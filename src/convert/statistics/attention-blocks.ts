// Attention over one window, in blocks of rows: each looks at the keys up to its last row alone, which
// saves half of the products, and the scores of a window are never in memory as a whole.
import type { Value } from "../../graph/ir.ts";
import { add, cast, div, matmul, reduceSum, scale, softmax, sub } from "../../graph/ops.ts";
import { concat, padAxis, readSize, slice, transpose } from "../../graph/shape-ops.ts";
import { type AttentionContext, buildScoreBias, computeScoreScale, joinHeads, project } from "../../model/attention.ts";
import { linear, type ParameterLookup } from "../../model/layers.ts";

/** Rows of a block, at most. */
const BLOCK_ROWS = 256;

/** Rows `first` … `end` − 1 of a window, which look at the keys before `end`. */
export interface RowBlock {
  first: number;
  end: number;
}

/** Cuts the rows of a window into blocks of almost equal size. */
export function listRowBlocks(length: number): RowBlock[] {
  const rows = Math.ceil(length / Math.ceil(length / BLOCK_ROWS));
  return Array.from({ length: Math.ceil(length / rows) }, (_, block) => {
    return { first: block * rows, end: Math.min(length, (block + 1) * rows) };
  });
}

/** Scores q·k·factor + bias of a block, [1, H, rows, end], from q and k [1, H, T, D] and bias [1, 1 or H, T, T] */
export function scoreBlock(
  query: Value,
  key: Value,
  { first, end }: RowBlock,
  { bias, factor }: { bias: Value; factor: number },
): Value {
  const scaled = scale(slice(query, 2, first, end), factor); // smaller than the scores
  const dots = matmul(scaled, transpose(slice(key, 2, 0, end), [0, 1, 3, 2]));
  return add(dots, slice(slice(bias, 2, first, end), 3, 0, end));
}

/** The columns of v in z = [q, k, v]: [1, H, T, 3D] → [1, H, T, D]. Of a narrower head, each part has its own width. */
export function takeValues(z: Value, value: Value): Value {
  const end = z.shape[3] as number;
  return slice(z, 3, end - (value.shape[3] as number), end);
}

export interface BlockAttention {
  output: Value; // [T, C]
  query: Value; // [1, H, T, D]
  key: Value; // [1, H, T, D]
  /** The mixed values a_i = Σ_j p_ij v_j: [1, H, T, D] */
  mixed: Value;
  /** z = [q, k, v], less its mean over the window: [1, H, T, 3D] */
  centered: Value;
  /** z̄_i = Σ_j p_ij z_j of the centered z: [1, H, T, 3D] */
  means: Value;
  /** r_j = Σ_i p_ij: [1, H, T] */
  received: Value;
}

/** Attention on normalized hidden states x [T, C] of one window of static length, noise at its mean. */
export function attendInBlocks(
  x: Value,
  parameters: ParameterLookup,
  context: AttentionContext,
  layer: number,
): BlockAttention {
  const length = context.length as number;
  const { query, key, value } = project(x, parameters, context, layer); // [1, H, T, D]
  const z = concat([query, key, value], 3);
  const average = div(reduceSum(z, [2], true), cast(readSize(z, 2), "float32")); // [1, H, 1, 3D]
  const centered = sub(z, average);
  const factor = computeScoreScale(context.config, layer);
  const bias = buildScoreBias(parameters, context, factor);
  const blocks = listRowBlocks(length).map((block) => {
    const probabilities = softmax(scoreBlock(query, key, block, { bias, factor })); // [1, H, rows, end]
    return {
      means: matmul(probabilities, slice(centered, 2, 0, block.end)), // [1, H, rows, 3D]
      received: padAxis(reduceSum(probabilities, [2]), 2, 0, length - block.end), // [1, H, T]
    };
  });
  const means =
    blocks.length === 1
      ? (blocks[0]?.means as Value)
      : concat(
          blocks.map((block) => block.means),
          2,
        );
  // The rows of p sum to 1, so that the mean comes out as it went in.
  const mixed = add(takeValues(means, value), takeValues(average, value));
  return {
    ...{ query, key, mixed, centered, means },
    output: linear(joinHeads(mixed, context), "attn.c_proj", parameters),
    received: blocks.map((block) => block.received).reduce(add),
  };
}
