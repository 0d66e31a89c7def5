// Runs the teacher over calibration text layer by layer: input statistics for the tie, and the fit of distance means.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Graph, Value } from "../graph/ir.ts";
import { add, cast, div, gemm, matmul, mul, reduceSum, scale, softmax, sub } from "../graph/ops.ts";
import { makeFloat32Tensor, type Tensor } from "../graph/session.ts";
import { concat, readSize, transpose, unsqueeze } from "../graph/shape-ops.ts";
import { embedWindowsApart, type Hidden, openLayerSession } from "../inference/layerwise.ts";
import { type AttentionContext, computeScoreScale, makeBucketTable, splitHeads } from "../model/attention.ts";
import type { BlockOutput } from "../model/gpt2.ts";
import { DISTANCE_BUCKETS } from "../model/variants.ts";
import type { CutTools } from "./cut.ts";
import { DistanceFit } from "./distance-mean.ts";
import { borderGram, sumOverWindows } from "./layer-sums.ts";
import { computeTrust } from "./moments.ts";

/** The tied matrix S of one layer, as it will be stored: its scores are sᵢ·sⱼ with s = xS + bias. */
export interface TiedWeights {
  weight: Float32Array; // [C, C]
  bias: Float32Array | null; // [C]
}

/** Moments of the teacher's text that the tie of a layer is weighted by. */
export interface LayerStatistics {
  /** Σ = E[x̃ x̃ᵀ] with x̃ = [ln_1(x), 1], float64 [(C+1), (C+1)]; without biases x̃ = ln_1(x), [C, C] */
  sigma: Float64Array;
  /** Per head Γ = E_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ with z = [q, k], z̄_i = Σ_j p_ij z_j: H times [2D, 2D] */
  keyMoments: Float64Array[];
  /** Per head E[qᵀq]: H times [D, D] */
  queryMoments: Float64Array[];
  /** Per head E[aᵀa] of the mixed values a_i = Σ_j p_ij v_j: H times [D, D] */
  mixedMoments: Float64Array[];
  /** Per head E[a]: H times [D] */
  mixedMeans: Float64Array[];
  /** Γ with z = v: H times [D, D] */
  valueMoments: Float64Array[];
  /** E|x|² of the hidden states plus E|a|² of what attention adds to them. */
  power: number;
  /** Share of these moments in the metric of the tie, as `computeTrust` gives it for their positions. */
  trust: number;
}

export type CalibrationOptions = Pick<CutTools, "device" | "threads" | "signal">;

/**
 * The teacher's hidden states over the calibration windows, advanced layer by layer. For each layer in turn call
 * `inputStatistics` (which also computes the next layer's states), then `distanceMean` if needed, then `advance`.
 */
export class Calibration {
  private readonly checkpoint: Checkpoint;
  private readonly options: CalibrationOptions;
  private hidden: Hidden[];
  private next: Hidden[] = [];
  /** [1, H, T, T] each, written by every window of every layer. */
  private scores: { residual: Tensor; weight: Tensor } | null = null;

  private constructor(checkpoint: Checkpoint, hidden: Hidden[], { device, threads, signal }: CalibrationOptions) {
    this.checkpoint = checkpoint;
    this.hidden = hidden;
    this.options = { device, threads, signal };
  }

  /** Once the signal is aborted, every measurement ends with "aborted". */
  static async open(
    checkpoint: Checkpoint,
    windows: readonly Int32Array[],
    options: CalibrationOptions = {},
  ): Promise<Calibration> {
    return new Calibration(checkpoint, await embedWindowsApart(checkpoint, windows), options);
  }

  async inputStatistics(layer: number): Promise<LayerStatistics> {
    const { bias, n_head } = this.checkpoint.config;
    const next: Hidden[] = [];
    const { sums, positions } = await sumOverWindows(this.checkpoint, layer, this.hidden, {
      ...this.options,
      values: measureAttention,
      onWindow: ({ output }, hidden) => next.push({ ...hidden, x: Float32Array.from(output?.data as Float32Array) }),
    });
    this.next = next;
    const average = (values: Float64Array) =>
      splitEvenly(values, n_head).map((part) => part.map((sum) => sum / positions));
    const gram = bias ? borderGram(sums.gram, sums.sum, positions) : sums.gram;
    const squares = this.hidden.reduce((sum, { x }) => sum + sumSquares(x), 0);
    return {
      sigma: gram.map((value) => value / positions),
      keyMoments: average(sums.spread),
      queryMoments: average(sums.queries),
      mixedMoments: average(sums.mixed),
      mixedMeans: average(sums.mixedSum),
      valueMoments: average(sums.valueSpread),
      power: (sums.outputSquares.reduce((sum, value) => sum + value, 0) + squares) / positions,
      trust: computeTrust(positions),
    };
  }

  /** Fits μ[h, bucket], float32 [H, 32]: the teacher's scores minus the tied ones, as a function of distance. */
  async distanceMean(layer: number, tied: TiedWeights): Promise<Float32Array> {
    const { config } = this.checkpoint;
    const weights = new Map([[STUDENT_WEIGHT, tied.weight]]);
    if (tied.bias) weights.set(STUDENT_BIAS, tied.bias);
    const session = await openLayerSession(this.checkpoint, layer, {
      ...this.options,
      weights,
      outputs: (graph, block, context) =>
        buildFitOutputs(graph, block, context, tied, computeScoreScale(config, layer)),
    });
    const fit = new DistanceFit(config.n_head, DISTANCE_BUCKETS, makeBucketTable(config.n_positions));
    const length = this.hidden[0]?.length ?? 0; // the same for all windows
    const shape = [1, config.n_head, length, length];
    const fresh = () => makeFloat32Tensor(new Float32Array(config.n_head * length * length), shape);
    this.scores ??= { residual: fresh(), weight: fresh() };
    const { residual, weight } = this.scores;
    try {
      for (const hidden of this.hidden) {
        await session.run(hidden, this.scores);
        fit.add(residual.data as Float32Array, weight.data as Float32Array, length);
      }
    } finally {
      await session.close();
    }
    return fit.solve(1 / computeScoreScale(config, layer));
  }

  advance(): void {
    this.hidden = this.next;
    this.next = [];
  }
}

/** The sums behind `LayerStatistics`, and the stream after the layer as "output". */
function measureAttention(graph: Graph, { normed, attention, output }: BlockOutput) {
  const { query, probabilities, present } = attention;
  const mixed = matmul(probabilities, present.value); // a: [1, H, T, D]
  graph.output(output, "output");
  return {
    gram: gemm(normed, normed, { transA: true }), // xᵀx: [C, C]
    sum: reduceSum(normed, [0]), // [C]
    spread: measureSpread(concat([query, present.key], 3), probabilities), // z = [q, k]: [1, H, 2D, 2D]
    valueSpread: measureSpread(present.value, probabilities), // [1, H, D, D]
    outputSquares: reduceSum(mul(attention.output, attention.output), [0]), // [C]
    queries: multiplyHeads(query, query), // [1, H, D, D]
    mixed: multiplyHeads(mixed, mixed), // [1, H, D, D]
    mixedSum: reduceSum(mixed, [2]), // [1, H, D]
  };
}

const STUDENT_WEIGHT = "student.weight";
const STUDENT_BIAS = "student.bias";

/** residual = teacher's − student's scores; weight = the mean of both probabilities: [1, H, T, T] each */
function buildFitOutputs(
  graph: Graph,
  block: BlockOutput,
  context: AttentionContext,
  tied: TiedWeights,
  factor: number,
): void {
  const width = context.config.n_embd;
  const c = tied.bias ? graph.parameter(STUDENT_BIAS, [width]) : null;
  const s: Value = splitHeads(gemm(block.normed, graph.parameter(STUDENT_WEIGHT, [width, width]), { c }), context); // [1, H, T, D]
  const scores = add(scale(matmul(s, transpose(s, [0, 1, 3, 2])), factor), context.mask); // [1, H, T, T]
  graph.output(sub(block.attention.scores, scores), "residual");
  graph.output(scale(add(block.attention.probabilities, softmax(scores)), 0.5), "weight");
}

/**
 * Σ_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ = Σ_j r_j z_j z_jᵀ − Σ_i z̄_i z̄_iᵀ with r_j = Σ_i p_ij, for z [1, H, T, N]: [1, H, N, N]. z
 * is centered first, which changes nothing but the rounding.
 */
function measureSpread(z: Value, probabilities: Value): Value {
  const centered = sub(z, div(reduceSum(z, [2], true), cast(readSize(z, 2), "float32")));
  const received = unsqueeze(reduceSum(probabilities, [2]), [3]); // r: [1, H, T, 1]
  const means = matmul(probabilities, centered); // z̄: [1, H, T, N]
  return sub(multiplyHeads(centered, mul(received, centered)), multiplyHeads(means, means));
}

/** aᵀb of each head: [1, H, T, N] · [1, H, T, N] → [1, H, N, N] */
function multiplyHeads(a: Value, b: Value): Value {
  return matmul(transpose(a, [0, 1, 3, 2]), b);
}

function sumSquares(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

function splitEvenly(values: Float64Array, parts: number): Float64Array[] {
  const size = values.length / parts;
  return Array.from({ length: parts }, (_, part) => values.slice(part * size, (part + 1) * size));
}
