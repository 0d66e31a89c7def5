// The decoder as nfc runs it to write text: the cache is read where it lies, and only what is new comes out.
import { Graph, type Value } from "../graph/ir.ts";
import { add, matmul, mul, scale, softmax } from "../graph/ops.ts";
import { concat, gather, readSize, splitAt, transpose, unsqueeze } from "../graph/shape-ops.ts";
import {
  type AttentionContext,
  buildAttentionContext,
  buildScoreBias,
  computeScoreScale,
  joinHeads,
  type KeyValue,
  project,
} from "./attention.ts";
import type { ModelConfig } from "./config.ts";
import { embed, lmHead, wrapAttention } from "./gpt2.ts";
import { listCacheParts } from "./head-widths.ts";
import { linear, makeLayerLookup, makeParameterLookup, norm, type ParameterLookup } from "./layers.ts";
import { hasDistanceMean } from "./variants.ts";

const BATCH = "batch_size";
const LENGTH = "sequence_length";
/** Places in the cache; those after the text so far are empty, and masked. */
const PLACES = "cache_places";
const ROWS = "logit_rows";

/** What the layers share: T new positions of B texts, and a cache of P places. */
interface StepContext extends AttentionContext {
  /** 0 for a place of the cache that counts, else a large negative number: [B, 1, 1, P] */
  pastMask: Value;
  /** Buckets of the distances to the places of the cache, int64 [T, P]; null unless the mean depends on the distance */
  pastBuckets: Value | null;
  /** P and T: int64 [2] */
  sizes: Value;
}

/**
 * Computes what `buildDecoderGraph` does for the noise at its mean. The cache is an input alone: its places are read, and
 * the caller writes what is new into them, so that a step copies nothing but that. Masks and distances are the caller's.
 *
 * Inputs: input_ids, position_ids [B, T]; logit_rows [R], which of the B·T rows get logits; new_mask [B, 1, T, T] and
 * past_mask [B, 1, 1, P], which are added to scores; past_buckets [T, P] where the mean depends on the distance;
 * past_key_values.N.{key,value} [B, H, P, D], each as wide as `listCacheParts` says.
 * Outputs: logits [R, V], new.N.{key,value} [B, H, T, D].
 */
export function buildPlaceGraph(config: ModelConfig): Graph {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const ids = graph.input("input_ids", "int64", [BATCH, LENGTH]);
  const positions = graph.input("position_ids", "int64", [BATCH, LENGTH]);
  const rows = graph.input("logit_rows", "int64", [ROWS]);
  const context = declareStepContext(graph, config, ids);
  let x = embed(parameters, { ids, positions }); // [B·T, C]
  for (let layer = 0; layer < config.n_layer; layer++) {
    const own = makeLayerLookup(parameters, layer);
    const past = declarePlaces(graph, config, layer);
    const built = wrapAttention(x, own, config, (normed) => attendToPlaces(normed, own, context, layer, past));
    x = built.output;
    graph.output(built.attention.key, `new.${layer}.key`);
    graph.output(built.attention.value, `new.${layer}.value`);
  }
  const chosen = norm(gather(x, rows), "ln_f", parameters, config); // [R, C]
  graph.output(lmHead(chosen, config, parameters), "logits"); // [R, V]
  return graph;
}

function declareStepContext(graph: Graph, config: ModelConfig, ids: Value): StepContext {
  const pastMask = graph.input("past_mask", "float32", [BATCH, 1, 1, PLACES]);
  const mask = graph.input("new_mask", "float32", [BATCH, 1, LENGTH, LENGTH]);
  const pastBuckets = hasDistanceMean(config.variant) ? graph.input("past_buckets", "int64", [LENGTH, PLACES]) : null;
  const sizes = concat([readSize(pastMask, 3), readSize(ids, 1)], 0); // [2]
  const own = buildAttentionContext(config, { ids, attentionMask: null }, { kind: "mean" });
  return { ...own, mask, pastMask, pastBuckets, sizes };
}

function declarePlaces(graph: Graph, config: ModelConfig, layer: number): KeyValue {
  const [key, value] = listCacheParts(config, layer).map(({ part, width }) =>
    graph.input(`past_key_values.${layer}.${part}`, "float32", [BATCH, config.n_head, PLACES, width]),
  ) as [Value, Value];
  return { key, value };
}

/** Attention of one layer on normalized hidden states x [B·T, C]: softmax over the scores of both parts at once. */
function attendToPlaces(
  x: Value,
  parameters: ParameterLookup,
  context: StepContext,
  layer: number,
  past: KeyValue,
): KeyValue & { output: Value } {
  const { config, length, sizes } = context;
  const { query, key, value } = project(x, parameters, context, layer); // [B, H, T, D]
  const factor = computeScoreScale(config, layer);
  const scaled = scaleEvenly(query, factor); // [B, H, T, D]
  const score = (keys: Value) => matmul(scaled, transpose(keys, [0, 1, 3, 2]));
  const scores = concat(
    [
      add(score(past.key), buildPastBias(parameters, context, factor)), // [B, H, T, P]
      add(score(key), buildScoreBias(parameters, context, factor)), // [B, H, T, T]
    ],
    3,
  );
  const [over, among] = splitAt(softmax(scores), sizes, [PLACES, length], 3) as [Value, Value]; // [B, H, T, P], [·, T]
  const mixed = joinHeads(add(matmul(over, past.value), matmul(among, value)), context); // [B·T, C]
  return { key, value, output: linear(mixed, "attn.c_proj", parameters) };
}

/**
 * x·factor, by a vector: ONNX Runtime would take a scalar into the product that follows, and its kernel for a single row,
 * which reads the keys where they lie, is for products without a factor.
 */
function scaleEvenly(x: Value, factor: number): Value {
  if (factor === 1) return x;
  const width = x.shape.at(-1) as number;
  return mul(x, x.graph.constant(new Float32Array(width).fill(factor), [width], "float32"));
}

/** The mask of the places, plus the mean μ[h, bucket]·scale of their distances: [B, 1 or H, 1 or T, P] */
function buildPastBias(parameters: ParameterLookup, { pastMask, pastBuckets }: StepContext, factor: number): Value {
  if (!pastBuckets) return pastMask;
  const mean = scale(parameters("attn.noise_mean"), factor); // [H, 32]
  const rows = gather(mean, pastBuckets, 1); // [H, T, P]
  return add(pastMask, unsqueeze(rows, [0]));
}
