// Runs the teacher over calibration text layer by layer: input statistics for the tie, and the fit of distance means.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { Graph, Value } from "../../graph/ir.ts";
import { add, gemm, matmul, mul, reduceSum, softmax, sub } from "../../graph/ops.ts";
import { makeFloat32Tensor, type Tensor } from "../../graph/session.ts";
import { concat, slice, transpose, unsqueeze } from "../../graph/shape-ops.ts";
import { embedWindowsApart, type Hidden, openLayerSession } from "../../inference/layerwise.ts";
import { timePhase } from "../../io/timings.ts";
import { type AttentionContext, computeScoreScale, makeBucketTable, splitHeads } from "../../model/attention.ts";
import type { BlockOutput } from "../../model/gpt2.ts";
import { DISTANCE_BUCKETS } from "../../model/variants.ts";
import { takeBlock } from "../../numeric/linalg.ts";
import { DistanceFit } from "../attention/distance-mean.ts";
import type { InputMoments } from "../attention/tie.ts";
import type { CutTools } from "../cut.ts";
import {
  attendInBlocks,
  type BlockAttention,
  listRowBlocks,
  type RowBlock,
  scoreBlock,
  takeValues,
} from "./attention-blocks.ts";
import { borderGram, sumOverWindows } from "./layer-sums.ts";
import { computeTrust } from "./moments.ts";

/** The tied matrix S of one layer, as it will be stored: its scores are sᵢ·sⱼ with s = xS + bias. */
export interface TiedWeights {
  weight: Float32Array; // [C, C]
  bias: Float32Array | null; // [C]
}

/** Moments of the teacher's text that the tie of a layer is weighted by. */
export interface LayerStatistics {
  /** Of the rows x̃ = [ln_1(x), 1]; without biases x̃ = ln_1(x). */
  inputs: InputMoments;
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
  /** The states after the layer at hand. */
  private next: Hidden[];
  /** q and k of each window at the layer at hand, [1, H, T, D] each, where they are kept. */
  private heads: { query: Tensor; key: Tensor }[] = [];
  /** What the fit reads, by name: [1, H, rows, keys] each, written by every window of every layer. */
  private scores: Record<string, Tensor> | null = null;

  private constructor(checkpoint: Checkpoint, hidden: Hidden[], { device, threads, signal }: CalibrationOptions) {
    this.checkpoint = checkpoint;
    this.hidden = hidden;
    this.next = hidden.map((states) => ({ ...states, x: new Float32Array(states.x.length) }));
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

  /** @param keep whether `distanceMean` is to follow at this layer */
  async inputStatistics(layer: number, { keep = false }: { keep?: boolean } = {}): Promise<LayerStatistics> {
    const { bias, n_embd, n_head, n_layer } = this.checkpoint.config;
    const goesOn = layer < n_layer - 1; // nobody reads what the last layer gives
    const { length } = this;
    this.heads = keep ? this.hidden.map((_, window) => this.heads[window] ?? this.makeHeads()) : [];
    const { sums, positions } = await sumOverWindows(this.checkpoint, layer, this.hidden, {
      ...this.options,
      attend: attendInBlocks,
      windowLength: length,
      values: (graph, block) => {
        if (goesOn) graph.output(block.output, "output");
        if (keep) for (const name of KEPT) graph.output(block.attention[name], name);
        return measureAttention(block);
      },
      into: (window) => ({
        ...(goesOn && { output: makeFloat32Tensor((this.next[window] as Hidden).x, [length, n_embd]) }),
        ...(keep && this.heads[window]),
      }),
    });
    const divide = (part: Float64Array) => part.map((sum) => sum / positions);
    const average = (values: Float64Array) => splitEvenly(values, n_head).map(divide);
    const totals = splitEvenly(sums.total, n_head);
    const grams = splitEvenly(sums.gram, n_head).map((gram, head) =>
      bias ? borderGram(gram, totals[head] as Float64Array, positions) : gram,
    );
    const D = n_embd / n_head;
    const width = 2 * D + (bias ? 1 : 0); // of z
    const power = sums.inputSquares.reduce((sum, value) => sum + value, 0) / positions;
    const squares = this.hidden.reduce((sum, { x }) => sum + sumSquares(x), 0);
    return {
      inputs: { heads: grams.map(divide), level: bias ? (power + 1) / (n_embd + 1) : power / n_embd },
      keyMoments: average(sums.spread),
      queryMoments: grams.map((gram) => divide(takeBlock(gram, width, 0, D))),
      mixedMoments: average(sums.mixed),
      mixedMeans: average(sums.mixedSum),
      valueMoments: average(sums.valueSpread),
      power: (sums.outputSquares.reduce((sum, value) => sum + value, 0) + squares) / positions,
      trust: computeTrust(positions),
    };
  }

  /**
   * Fits μ[h, bucket], float32 [H, 32]: the teacher's scores minus the tied ones, as a function of distance.
   * `inputStatistics` must have kept q and k of this layer.
   */
  async distanceMean(layer: number, tied: TiedWeights): Promise<Float32Array> {
    const { config } = this.checkpoint;
    const weights = new Map([[STUDENT_WEIGHT, tied.weight]]);
    if (tied.bias) weights.set(STUDENT_BIAS, tied.bias);
    const blocks = listRowBlocks(this.length);
    const fit = new DistanceFit(config.n_head, DISTANCE_BUCKETS, makeBucketTable(config.n_positions));
    const scores = this.takeScores(blocks);
    const session = await openLayerSession(this.checkpoint, layer, {
      ...this.options,
      given: true,
      weights,
      windowLength: this.length,
      outputs: (graph, { normed }, context) =>
        buildFitOutputs(graph, normed, context, { tied, blocks, factor: computeScoreScale(config, layer) }),
    });
    try {
      for (const [window, hidden] of this.hidden.entries()) {
        const heads = this.heads[window];
        if (!heads) throw new Error("q and k of this layer were not kept");
        await session.runInto(hidden, scores, heads);
        timePhase("fitting distance means", () => {
          for (const [at, block] of blocks.entries())
            fit.add(take(scores, "residual", at), take(scores, "weight", at), block);
        });
      }
    } finally {
      await session.close();
    }
    return fit.solve(1 / computeScoreScale(config, layer));
  }

  /** Tokens of a window, the same for all. */
  private get length(): number {
    return this.hidden[0]?.length ?? 0;
  }

  private takeScores(blocks: readonly RowBlock[]): Record<string, Tensor> {
    const { n_head } = this.checkpoint.config;
    this.scores ??= Object.fromEntries(
      blocks.flatMap(({ first, end }, at) =>
        ["residual", "weight"].map((name) => {
          const data = new Float32Array(n_head * (end - first) * end);
          return [`${name}.${at}`, makeFloat32Tensor(data, [1, n_head, end - first, end])];
        }),
      ),
    );
    return this.scores;
  }

  private makeHeads(): { query: Tensor; key: Tensor } {
    const { n_embd, n_head } = this.checkpoint.config;
    const shape = [1, n_head, this.length, n_embd / n_head];
    const make = () => makeFloat32Tensor(new Float32Array(this.length * n_embd), shape);
    return { query: make(), key: make() };
  }

  advance(): void {
    [this.hidden, this.next] = [this.next, this.hidden];
  }
}

/** What `distanceMean` needs of a layer's attention. */
const KEPT = ["query", "key"] as const;

/** The sums behind `LayerStatistics`. */
function measureAttention({ normed, attention }: BlockOutput<BlockAttention>) {
  const { query, key, mixed, centered, means, received } = attention;
  const z = concat([query, key], 3);
  const width = z.shape[3] as number;
  const takeScores = (z: Value) => slice(z, 3, 0, width); // [q, k]
  return {
    inputSquares: reduceSum(mul(normed, normed), [0]), // [C]
    gram: multiplyHeads(z, z), // [1, H, 2D, 2D]
    total: reduceSum(z, [2]), // [1, H, 2D]
    spread: measureSpread(takeScores(centered), takeScores(means), received), // of z = [q, k]: [1, H, 2D, 2D]
    valueSpread: measureSpread(takeValues(centered, mixed), takeValues(means, mixed), received), // [1, H, D, D]
    outputSquares: reduceSum(mul(attention.output, attention.output), [0]), // [C]
    mixed: multiplyHeads(mixed, mixed), // [1, H, D, D]
    mixedSum: reduceSum(mixed, [2]), // [1, H, D]
  };
}

const STUDENT_WEIGHT = "student.weight";
const STUDENT_BIAS = "student.bias";

interface FitInput {
  tied: TiedWeights;
  blocks: readonly RowBlock[];
  factor: number;
}

/**
 * For each block residual = teacher's − student's scores and weight = the sum of both probabilities, [1, H, rows, keys]
 * each, from the teacher's q and k, which are fed.
 */
function buildFitOutputs(
  graph: Graph,
  normed: Value,
  context: AttentionContext,
  { tied, blocks, factor }: FitInput,
): void {
  const { n_embd: width, n_head: heads } = context.config;
  const c = tied.bias ? graph.parameter(STUDENT_BIAS, [width]) : null;
  const s: Value = splitHeads(gemm(normed, graph.parameter(STUDENT_WEIGHT, [width, width]), { c }), context); // [1, H, T, D]
  const feed = (name: string) => graph.input(name, "float32", [1, heads, context.length, width / heads]);
  const [query, key] = [feed("query"), feed("key")];
  const bias = context.mask;
  for (const [at, block] of blocks.entries()) {
    const teacher = scoreBlock(query, key, block, { bias, factor });
    const student = scoreBlock(s, s, block, { bias, factor });
    graph.output(sub(teacher, student), `residual.${at}`);
    graph.output(add(softmax(teacher), softmax(student)), `weight.${at}`);
  }
}

function take(scores: Readonly<Record<string, Tensor>>, name: string, block: number): Float32Array {
  return scores[`${name}.${block}`]?.data as Float32Array;
}

/**
 * Σ_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ = Σ_j r_j z_j z_jᵀ − Σ_i z̄_i z̄_iᵀ with r_j = Σ_i p_ij: [1, H, N, N]. That z is
 * centered changes nothing but the rounding.
 * @param z [1, H, T, N] @param means z̄: [1, H, T, N] @param received r: [1, H, T]
 */
function measureSpread(z: Value, means: Value, received: Value): Value {
  return sub(multiplyHeads(z, mul(unsqueeze(received, [3]), z)), multiplyHeads(means, means));
}

/** aᵀb of each head: [1, H, T, N] · [1, H, T, N] → [1, H, N, N] */
function multiplyHeads(a: Value, b: Value): Value {
  return matmul(transpose(a, [0, 1, 3, 2]), b);
}

function sumSquares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  return sum;
}

function splitEvenly(values: Float64Array, parts: number): Float64Array[] {
  const size = values.length / parts;
  return Array.from({ length: parts }, (_, part) => values.slice(part * size, (part + 1) * size));
}
