// Runs the teacher over calibration text layer by layer: input statistics for the tie, and the fit of distance means.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Graph, Value } from "../graph/ir.ts";
import { add, cast, div, gemm, matmul, mul, reduceSum, scale, softmax, sub } from "../graph/ops.ts";
import { makeFloat32Tensor, type Tensor } from "../graph/session.ts";
import { concat, readSize, transpose, unsqueeze } from "../graph/shape-ops.ts";
import { embedWindowsApart, type Hidden, openLayerSession } from "../inference/layerwise.ts";
import {
  type AttentionContext,
  type AttentionOutput,
  computeScoreScale,
  makeBucketTable,
  splitHeads,
} from "../model/attention.ts";
import type { BlockOutput } from "../model/gpt2.ts";
import { DISTANCE_BUCKETS } from "../model/variants.ts";
import { addInto } from "../numeric/linalg.ts";
import { DistanceFit } from "./distance-mean.ts";
import { computeTrust } from "./tie.ts";

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
  /** Share of these moments in the metric of the tie, as `computeTrust` gives it for their positions. */
  trust: number;
}

/**
 * The teacher's hidden states over the calibration windows, advanced layer by layer. For each layer in turn call
 * `inputStatistics` (which also computes the next layer's states), then `distanceMean` if needed, then `advance`.
 */
export class Calibration {
  private readonly checkpoint: Checkpoint;
  private readonly threads: number;
  private hidden: Hidden[];
  private next: Hidden[] = [];
  /** [1, H, T, T] each, written by every window of every layer. */
  private scores: { residual: Tensor; weight: Tensor } | null = null;

  private constructor(checkpoint: Checkpoint, hidden: Hidden[], threads: number) {
    this.checkpoint = checkpoint;
    this.hidden = hidden;
    this.threads = threads;
  }

  static async open(checkpoint: Checkpoint, windows: readonly Int32Array[], threads = 0): Promise<Calibration> {
    return new Calibration(checkpoint, await embedWindowsApart(checkpoint, windows), threads);
  }

  async inputStatistics(layer: number): Promise<LayerStatistics> {
    const { bias, n_head } = this.checkpoint.config;
    const { sums, count } = await this.sumOver(layer, (graph, { normed, attention }) => {
      const { query, probabilities, present } = attention;
      const mixed = matmul(probabilities, present.value); // a: [1, H, T, D]
      graph.output(gemm(normed, normed, { transA: true }), "gram"); // xᵀx: [C, C]
      graph.output(reduceSum(normed, [0]), "sum"); // [C]
      graph.output(measureKeySpread(attention), "spread"); // [1, H, 2D, 2D]
      graph.output(multiplyHeads(query, query), "queries"); // [1, H, D, D]
      graph.output(multiplyHeads(mixed, mixed), "mixed"); // [1, H, D, D]
      graph.output(reduceSum(mixed, [2]), "mixedSum"); // [1, H, D]
    });
    const take = (name: string) => sums.get(name) as Float64Array;
    const average = (name: string) => splitEvenly(take(name), n_head).map((part) => part.map((sum) => sum / count));
    return {
      sigma: averageMoments(take("gram"), bias ? take("sum") : null, count),
      keyMoments: average("spread"),
      queryMoments: average("queries"),
      mixedMoments: average("mixed"),
      mixedMeans: average("mixedSum"),
      trust: computeTrust(count),
    };
  }

  /** Sums named outputs of a layer over all windows, and keeps what the next layer gets. */
  private async sumOver(
    layer: number,
    outputs: (graph: Graph, block: BlockOutput) => void,
  ): Promise<{ sums: Map<string, Float64Array>; count: number }> {
    const session = await openLayerSession(this.checkpoint, layer, {
      threads: this.threads,
      outputs: (graph, block) => {
        outputs(graph, block);
        graph.output(block.output, "output");
      },
    });
    const sums = new Map<string, Float64Array>();
    let count = 0;
    this.next = [];
    for (const hidden of this.hidden) {
      const { output, ...parts } = await session.run(hidden);
      for (const [name, { data }] of Object.entries(parts)) {
        const sum = sums.get(name) ?? new Float64Array(data.length);
        addInto(sum, data as Float32Array);
        sums.set(name, sum);
      }
      count += hidden.length;
      this.next.push({ ...hidden, x: Float32Array.from(output?.data as Float32Array) });
    }
    await session.close();
    return { sums, count };
  }

  /** Fits μ[h, bucket], float32 [H, 32]: the teacher's scores minus the tied ones, as a function of distance. */
  async distanceMean(layer: number, tied: TiedWeights): Promise<Float32Array> {
    const { config } = this.checkpoint;
    const weights = new Map([[STUDENT_WEIGHT, tied.weight]]);
    if (tied.bias) weights.set(STUDENT_BIAS, tied.bias);
    const session = await openLayerSession(this.checkpoint, layer, {
      threads: this.threads,
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
    for (const hidden of this.hidden) {
      await session.run(hidden, this.scores);
      fit.add(residual.data as Float32Array, weight.data as Float32Array, length);
    }
    await session.close();
    return fit.solve(1 / computeScoreScale(config, layer));
  }

  advance(): void {
    this.hidden = this.next;
    this.next = [];
  }
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
 * Σ_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ = Σ_j r_j z_j z_jᵀ − Σ_i z̄_i z̄_iᵀ with r_j = Σ_i p_ij: [1, H, 2D, 2D]. z is
 * centered first, which changes nothing but the rounding.
 */
function measureKeySpread({ query, present, probabilities }: AttentionOutput): Value {
  const z = concat([query, present.key], 3); // [1, H, T, 2D]
  const centered = sub(z, div(reduceSum(z, [2], true), cast(readSize(z, 2), "float32")));
  const received = unsqueeze(reduceSum(probabilities, [2]), [3]); // r: [1, H, T, 1]
  const means = matmul(probabilities, centered); // z̄: [1, H, T, 2D]
  return sub(multiplyHeads(centered, mul(received, centered)), multiplyHeads(means, means));
}

/** aᵀb of each head: [1, H, T, N] · [1, H, T, N] → [1, H, N, N] */
function multiplyHeads(a: Value, b: Value): Value {
  return matmul(transpose(a, [0, 1, 3, 2]), b);
}

function splitEvenly(values: Float64Array, parts: number): Float64Array[] {
  const size = values.length / parts;
  return Array.from({ length: parts }, (_, part) => values.slice(part * size, (part + 1) * size));
}

/** Σ of `LayerStatistics` from Σ xᵀx [C, C] and Σ x [C] over `count` positions; without the constant 1 if `sum` is null. */
function averageMoments(gram: Float64Array, sum: Float64Array | null, count: number): Float64Array {
  if (!sum) return gram.map((value) => value / count);
  const n = sum.length;
  const sigma = new Float64Array((n + 1) ** 2);
  for (let i = 0; i < n; i++) {
    sigma.set(gram.subarray(i * n, (i + 1) * n), i * (n + 1));
    sigma[i * (n + 1) + n] = sigma[n * (n + 1) + i] = sum[i] as number;
  }
  sigma[sigma.length - 1] = count;
  return sigma.map((value) => value / count);
}
