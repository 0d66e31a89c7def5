// What the repair of a half-block measures: the inputs of its output weights, and what is missing after them.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { Value } from "../../graph/ir.ts";
import { gemm, reduceSum, sub } from "../../graph/ops.ts";
import { makeFloat32Tensor } from "../../graph/session.ts";
import type { Hidden } from "../../inference/layerwise.ts";
import type { BlockOutput } from "../../model/gpt2.ts";
import type { CutTools } from "../cut.ts";
import { borderGram, requireFinite, sumOverWindows } from "../statistics/layer-sums.ts";

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

export interface HalfRun extends Pick<CutTools, "device" | "threads" | "signal"> {
  checkpoint: Checkpoint;
  layer: number;
  half: Half;
  /** In place of the checkpoint's own, by name. */
  weights: ReadonlyMap<string, Float32Array>;
}

/**
 * @param streams before the layer; `targets` are what they should be after this half of it: [T, C] each
 * @throws NfcError "invalid-file" where the model's activations are not finite; "aborted"
 */
export async function measureHalf(
  { checkpoint, layer, half, ...options }: HalfRun,
  streams: readonly Hidden[],
  targets: readonly Hidden[],
): Promise<HalfMoments> {
  const { n_embd: width, bias } = checkpoint.config;
  const { sums, positions } = await sumOverWindows(checkpoint, layer, streams, {
    ...options,
    values: (graph, block) => {
      const [u, reached] = pickHalf(block, half); // [T, n], [T, C]
      const r = sub(graph.input("target", "float32", reached.shape), reached); // [T, C]
      return {
        gram: gemm(u, u, { transA: true }), // [n, n]
        cross: gemm(u, r, { transA: true }), // [n, C]
        sum: reduceSum(u, [0]), // [n]
        missing: reduceSum(r, [0]), // [C]
      };
    },
    inputs: (window) => {
      const { x, length } = targets[window] as Hidden;
      return { target: makeFloat32Tensor(x, [length, width]) };
    },
  });
  requireFinite(sums, checkpoint, `h.${layer}.${half}`);
  const { gram, cross, sum, missing } = sums;
  const size = sum.length;
  if (!bias) return { gram, cross, size, positions };
  return { gram: borderGram(gram, sum, positions), cross: append(cross, missing), size: size + 1, positions };
}

function pickHalf({ attention, middle, inner, output }: BlockOutput, half: Half): [Value, Value] {
  return half === "attn" ? [attention.mixed, middle] : [inner, output];
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
