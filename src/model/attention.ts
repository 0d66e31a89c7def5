// Causal self-attention, dense or with Q = K and noise: score = (q·k + μ + σε)·scale, P = softmax(score), out = P·v.
import { addDims, type Dim, multiplyDims, type Shape } from "../graph/dims.ts";
import type { Value } from "../graph/ir.ts";
import {
  add,
  and,
  equal,
  exp,
  less,
  matmul,
  max,
  min,
  mul,
  randomNormalLike,
  scale,
  softmax,
  sub,
  where,
} from "../graph/ops.ts";
import {
  appendToCache,
  type DimSources,
  expand,
  gather,
  range,
  readDimSize,
  readSize,
  reshape,
  slice,
  sliceTo,
  split,
  transpose,
  unsqueeze,
} from "../graph/shape-ops.ts";
import type { ModelConfig } from "./config.ts";
import { getHeadSize, listAttentionParts } from "./head-widths.ts";
import { linear, type ParameterLookup } from "./layers.ts";
import { countDraws, DISTANCE_BUCKETS, hasDistanceMean, VARIANT_TRAITS } from "./variants.ts";

/** Stands for −∞ in masks. It is finite (−largest float32), so that a row with nothing to attend to stays finite. */
export const MASKED = -3.4028234663852886e38;

/**
 * How the noise enters. With `mean`, ε = 0, and a constant mean drops out, since softmax(x + c) = softmax(x). With
 * `fed`, ε comes in as inputs `eps.N` [B, 1 or H, T, S]. With `generated`, the graph draws ε itself at each run.
 */
export type NoiseMode = { kind: "mean" } | { kind: "fed" } | { kind: "generated"; seed: number };

export interface KeyValue {
  key: Value; // [B, H, S, D], or fewer numbers a head: `getHeadWidths`
  value: Value; // [B, H, S, D], the same
}

/** The values that the attention of all layers shares. T new positions attend to S = past + T. */
export interface AttentionContext {
  config: ModelConfig;
  noise: NoiseMode;
  batch: Dim;
  length: Dim;
  keyLength: Dim;
  sources: DimSources;
  /** 0 where a query may look, else MASKED: [1 or B, 1, T, S] */
  mask: Value;
  /** Buckets of the distances as {@link skew} wants them, int64 [S + 1]; null unless the mean depends on the distance */
  buckets: Value | null;
}

export interface AttentionInputs {
  /** Token ids [B, T], for the run-time sizes. */
  ids: Value;
  /** int64 [B, S], 1 where a key may be looked at; null: all of them, and S = T. */
  attentionMask: Value | null;
}

/** Makes the mask and the distance buckets from the inputs' sizes. */
export function buildAttentionContext(
  config: ModelConfig,
  inputs: AttentionInputs,
  noise: NoiseMode,
): AttentionContext {
  const { ids, attentionMask } = inputs;
  const [batch, length] = ids.shape as [Dim, Dim];
  const keySource = attentionMask ?? ids;
  const keyLength = keySource.shape[1] as Dim;
  const sources = new Map<string, { value: Value; axis: number }>();
  for (const [dim, value, axis] of [
    [batch, ids, 0],
    [length, ids, 1],
    [keyLength, keySource, 1],
  ] as const)
    if (typeof dim === "string") sources.set(dim, { value, axis });
  const queries = range(readSize(ids, 1), length); // [T]
  const keys = range(readSize(keySource, 1), keyLength); // [S]
  const past = sub(readSize(keySource, 1), readSize(ids, 1)); // [1]
  const distance = sub(unsqueeze(add(queries, past), [1]), unsqueeze(keys, [0])); // i − j: [T, S]
  return {
    config,
    noise,
    batch,
    length,
    keyLength,
    sources,
    mask: buildAdditiveMask(distance, attentionMask),
    buckets: hasDistanceMean(config.variant) ? buildSkewedBuckets(keySource, past, config.n_positions) : null,
  };
}

function buildAdditiveMask(distance: Value, attentionMask: Value | null): Value {
  const { graph } = distance;
  let visible = unsqueeze(less(graph.ints([-1]), distance), [0, 1]); // j ≤ i: [1, 1, T, S]
  if (attentionMask) visible = and(visible, unsqueeze(equal(attentionMask, graph.ints([1])), [1, 2])); // [B, 1, T, S]
  return where(visible, graph.scalar(0), graph.scalar(MASKED));
}

/**
 * bucket(d_k) for k = 0 … S with d_k = past − k, or past − k + S + 1 where that is negative, through a table of
 * n_positions entries; distances outside it are clamped (they are masked anyway): int64 [S + 1]
 */
function buildSkewedBuckets(keySource: Value, past: Value, nPositions: number): Value {
  const { graph } = past;
  const count = add(readSize(keySource, 1), graph.ints([1])); // S + 1
  const k = range(count, addDims(keySource.shape[1] as Dim, 1)); // [S + 1]
  const distance = add(sub(past, k), where(less(past, k), count, graph.ints([0]))); // [S + 1]
  const table = graph.constant(BigInt64Array.from(makeBucketTable(nPositions), BigInt), [nPositions], "int64");
  return gather(table, min(max(distance, graph.ints([0])), graph.ints([nPositions - 1]))); // [S + 1]
}

/**
 * Rows r [H, S + 1] as the matrices [H, T, S] with entry (i, j) = r[(j − i) mod (S + 1)]: constant along each diagonal.
 * r written T times in a row and cut into rows of S moves one entry to the right with each row, which copies memory in
 * long pieces where a lookup of T·S single entries would take several times as long.
 */
function skew(r: Value, { config, length, keyLength, sources }: AttentionContext): Value {
  const row = r.shape[1] as Dim;
  const repeated = expand(unsqueeze(r, [1]), [config.n_head, length, row], sources); // [H, T, S + 1]
  const flat = reshape(repeated, [config.n_head, multiplyDims(length, row)]); // [H, T·(S + 1)]
  const entries = mul(readDimSize(length, sources, r.graph), readDimSize(keyLength, sources, r.graph)); // T·S: [1]
  const cut = sliceTo(flat, 1, entries, multiplyDims(length, keyLength)); // [H, T·S]
  return reshape(cut, [config.n_head, length, keyLength], sources); // [H, T, S]
}

/**
 * T5's buckets: bucket(d) = d for d < 16, else min(31, 16 + ⌊16·ln(d/16)/ln(n_positions/16) + 1e-9⌋); one entry a
 * distance 0 … n_positions − 1.
 */
export function makeBucketTable(nPositions: number): number[] {
  const exact = DISTANCE_BUCKETS / 2;
  return Array.from({ length: nPositions }, (_, d) => {
    if (d < exact) return d;
    const far = exact + Math.floor((exact * Math.log(d / exact)) / Math.log(nPositions / exact) + 1e-9);
    return Math.min(far, DISTANCE_BUCKETS - 1);
  });
}

/** The factor on q·k + noise: 1/√D unless scale_attn_weights is off, and 1/(layer + 1) when asked. */
export function computeScoreScale(config: ModelConfig, layer: number): number {
  const base = config.scale_attn_weights ? 1 / Math.sqrt(getHeadSize(config)) : 1;
  return config.scale_attn_by_inverse_layer_idx ? base / (layer + 1) : base;
}

export interface AttentionOutput {
  output: Value; // [B·T, C]
  /** The heads' mixed values, the input of attn.c_proj: [B·T, C], or narrower where v is */
  mixed: Value;
  present: KeyValue;
  scores: Value; // masked, before the softmax: [B, H, T, S]
  probabilities: Value; // [B, H, T, S]
}

/** Attention of one layer on normalized hidden states x [B·T, C]. */
export function attention(
  x: Value,
  parameters: ParameterLookup,
  context: AttentionContext,
  layer: number,
  past: KeyValue | null = null,
): AttentionOutput {
  const { config } = context;
  const { query, key: newKey, value: newValue } = project(x, parameters, context, layer);
  const key = past ? appendToCache(past.key, newKey, 2) : newKey; // [B, H, S, D]
  const value = past ? appendToCache(past.value, newValue, 2) : newValue; // [B, H, S, D]
  const factor = computeScoreScale(config, layer);
  const dots = scale(matmul(query, transpose(key, [0, 1, 3, 2])), factor); // [B, H, T, S]
  const scores = add(addNoise(dots, parameters, context, layer, factor), buildScoreBias(parameters, context, factor));
  const probabilities = softmax(scores); // [B, H, T, S]
  const mixed = joinHeads(matmul(probabilities, value), context); // [B·T, C]
  const output = linear(mixed, "attn.c_proj", parameters); // [B·T, C]
  return { output, mixed, present: { key, value }, scores, probabilities };
}

/** Queries, keys and values of the new positions: [B, H, T, D] each, or as wide as `getHeadWidths` says. */
export function project(x: Value, parameters: ParameterLookup, context: AttentionContext, layer: number) {
  const { config } = context;
  const { tied, paired } = VARIANT_TRAITS[config.variant];
  const projected = linear(x, "attn.c_attn", parameters); // [B·T, 3C or 2C]
  const sizes = listAttentionParts(config, layer).map(({ columns }) => columns);
  const parts = split(projected, sizes, 1).map((part) => splitHeads(part, context));
  const [first, key, value] = (tied ? [parts[0], parts[0], parts[1]] : parts) as [Value, Value, Value];
  const query = paired ? matmul(first, parameters("attn.pair")) : first; // q = sA: [B, H, T, D] · [H, D, D]
  return { query, key, value };
}

/** [B·T, H·D] → [B, H, T, D] */
export function splitHeads(x: Value, { config, batch, length, sources }: AttentionContext): Value {
  const shape: Shape = [batch, length, config.n_head, (x.shape[1] as number) / config.n_head];
  return transpose(reshape(x, shape, sources), [0, 2, 1, 3]);
}

/** [B, H, T, D] → [B·T, H·D], which is C unless v is narrow */
export function joinHeads(x: Value, { config, batch, length, sources }: AttentionContext): Value {
  const width = config.n_head * (x.shape[3] as number);
  return reshape(transpose(x, [0, 2, 1, 3]), [multiplyDims(batch, length), width], sources);
}

/** Mask plus the distance-dependent mean μ[h, bucket(i − j)]·scale: [1 or B, 1 or H, T, S] */
export function buildScoreBias(parameters: ParameterLookup, context: AttentionContext, factor: number): Value {
  const { buckets, mask } = context;
  if (!buckets) return mask;
  const mean = parameters("attn.noise_mean"); // [H, 32]
  return add(mask, skew(gather(scale(mean, factor), buckets, 1), context)); // [·, H, T, S]
}

/** dots + σ·ε·scale; σ = exp(log_std), one a layer or a head. */
function addNoise(
  dots: Value,
  parameters: ParameterLookup,
  context: AttentionContext,
  layer: number,
  factor: number,
): Value {
  const { config, noise, batch, length, keyLength } = context;
  const draws = countDraws(config.variant, config.n_head);
  if (noise.kind === "mean" || draws === 0) return dots;
  const logStd = parameters("attn.noise_log_std"); // [1 or H]
  const sigma = reshape(scale(exp(logStd), factor), [draws, 1, 1]); // [1 or H, 1, 1]
  const epsilon =
    noise.kind === "fed"
      ? dots.graph.input(`eps.${layer}`, "float32", [batch, draws, length, keyLength])
      : randomNormalLike(draws === 1 ? slice(dots, 1, 0, 1) : dots, noise.seed + layer); // [B, 1 or H, T, S]
  return add(dots, mul(sigma, epsilon));
}
