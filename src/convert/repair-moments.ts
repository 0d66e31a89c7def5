// What the repair of a half-block measures: the inputs of its output weights, and what is missing after them.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Value } from "../graph/ir.ts";
import { gemm, reduceSum, sub } from "../graph/ops.ts";
import { makeFloat32Tensor } from "../graph/session.ts";
import { type Hidden, openLayerSession } from "../inference/layerwise.ts";
import type { BlockOutput } from "../model/gpt2.ts";
import { addInto } from "../numeric/linalg.ts";

/** The halves of a block in their order, by the scope of their parameters. */
export const HALVES = ["attn", "mlp"] as const;
export type Half = (typeof HALVES)[number];

/** With ũ = [u, 1] the inputs of c_proj (u alone in a model without biases), n numbers, and r what is missing after it. */
export interface HalfMoments {
  /** Σ ũᵀũ: [n, n] */
  gram: Float64Array;
  /** Σ ũᵀr: [n, C] */
  cross: Float64Array;
  /** n */
  size: number;
  positions: number;
}

export interface HalfRun {
  checkpoint: Checkpoint;
  layer: number;
  half: Half;
  /** In place of the checkpoint's own, by name. */
  weights: ReadonlyMap<string, Float32Array>;
  threads?: number | undefined;
}

/** @param streams before the layer; `targets` are what they should be after this half of it: [T, C] each */
export async function measureHalf(
  { checkpoint, layer, half, weights, threads }: HalfRun,
  streams: readonly Hidden[],
  targets: readonly Hidden[],
): Promise<HalfMoments> {
  const { n_embd: width, bias } = checkpoint.config;
  let units = 0;
  const session = await openLayerSession(checkpoint, layer, {
    threads,
    weights,
    outputs: (graph, block) => {
      const [u, reached] = pickHalf(block, half); // [T, n], [T, C]
      units = u.shape[1] as number;
      const r = sub(graph.input("target", "float32", reached.shape), reached); // [T, C]
      graph.output(gemm(u, u, { transA: true }), "gram"); // [n, n]
      graph.output(gemm(u, r, { transA: true }), "cross"); // [n, C]
      graph.output(reduceSum(u, [0]), "sum"); // [n]
      graph.output(reduceSum(r, [0]), "missing"); // [C]
    },
  });
  const sums = { gram: units ** 2, cross: units * width, sum: units, missing: width };
  const moments = Object.entries(sums).map(([name, size]) => ({ name, values: new Float64Array(size) }));
  let positions = 0;
  try {
    for (const [w, hidden] of streams.entries()) {
      const target = makeFloat32Tensor((targets[w] as Hidden).x, [hidden.length, width]);
      const outputs = await session.run(hidden, {}, { target });
      for (const { name, values } of moments) addInto(values, outputs[name]?.data as Float32Array);
      positions += hidden.length;
    }
  } finally {
    await session.close();
  }
  const [gram, cross, sum, missing] = moments.map(({ values }) => values) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  if (!bias) return { gram, cross, size: units, positions };
  return { gram: borderGram(gram, sum, positions), cross: append(cross, missing), size: units + 1, positions };
}

function pickHalf({ attention, middle, inner, output }: BlockOutput, half: Half): [Value, Value] {
  return half === "attn" ? [attention.mixed, middle] : [inner, output];
}

/** Σ ãᵀã with ã = [a, 1] from Σ aᵀa [n, n] and Σ a [n]: [n + 1, n + 1] */
export function borderGram(gram: Float64Array, sum: Float64Array, count: number): Float64Array {
  const n = sum.length;
  const bordered = new Float64Array((n + 1) ** 2);
  for (let i = 0; i < n; i++) {
    bordered.set(gram.subarray(i * n, (i + 1) * n), i * (n + 1));
    bordered[i * (n + 1) + n] = bordered[n * (n + 1) + i] = sum[i] as number;
  }
  bordered[bordered.length - 1] = count;
  return bordered;
}

function append(first: Float64Array, last: Float64Array): Float64Array {
  const all = new Float64Array(first.length + last.length);
  all.set(first);
  all.set(last, first.length);
  return all;
}

/** c_proj of a half-block with its bias as the last row, where there is one: [n, C] */
export async function joinWeights(checkpoint: Checkpoint, layer: number, half: Half): Promise<Float64Array> {
  const [weight, bias] = nameWeights(layer, half);
  const matrix = Float64Array.from(await checkpoint.readF32(weight));
  return checkpoint.config.bias ? append(matrix, Float64Array.from(await checkpoint.readF32(bias))) : matrix;
}

/** The tensors of what `joinWeights` has joined, by name. */
export function splitWeights(
  { config: { n_embd: width, bias } }: Checkpoint,
  layer: number,
  half: Half,
  joined: Float64Array,
): [string, Float32Array][] {
  const [weightName, biasName] = nameWeights(layer, half);
  if (!bias) return [[weightName, Float32Array.from(joined)]];
  return [
    [weightName, Float32Array.from(joined.subarray(0, -width))],
    [biasName, Float32Array.from(joined.subarray(-width))],
  ];
}

const nameWeights = (layer: number, half: Half): [string, string] => [
  `h.${layer}.${half}.c_proj.weight`,
  `h.${layer}.${half}.c_proj.bias`,
];
