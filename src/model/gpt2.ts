// GPT-2 and its tied variants as graph ops: the one definition that evaluation, export and training share.

import { type Dim, multiplyDims } from "../graph/dims.ts";
import type { Graph, Value } from "../graph/ir.ts";
import { add, gemm } from "../graph/ops.ts";
import { makeInt64Tensor, type Tensor } from "../graph/session.ts";
import { gather, reshape } from "../graph/shape-ops.ts";
import {
  type AttentionContext,
  type AttentionOutput,
  attention,
  buildAttentionContext,
  type KeyValue,
  type NoiseMode,
} from "./attention.ts";
import type { ModelConfig } from "./config.ts";
import { makeLayerLookup, mlp, norm, type ParameterLookup } from "./layers.ts";
import { nameHead } from "./parameters.ts";

export interface Gpt2Inputs {
  /** int64 [B, T] */
  ids: Value;
  /** int64 [B, T] */
  positions: Value;
  /** int64 [B, past + T], 1 = look at; null for unpadded text without a cache */
  attentionMask: Value | null;
  /** One entry a layer, [B, H, past, D]; empty without a cache */
  past: readonly KeyValue[];
}

export interface Gpt2Output {
  embedded: Value; // the input of the first block: [B·T, C]
  hidden: Value; // after ln_f: [B·T, C]
  present: KeyValue[]; // one a layer: [B, H, past + T, D]
  sources: AttentionContext["sources"];
}

/** Token and position embedding, all blocks, final norm. */
export function gpt2(
  config: ModelConfig,
  parameters: ParameterLookup,
  inputs: Gpt2Inputs,
  noise: NoiseMode,
): Gpt2Output {
  const context = buildAttentionContext(config, inputs, noise);
  const embedded = embed(parameters, inputs);
  let x = embedded;
  const present: KeyValue[] = [];
  for (let layer = 0; layer < config.n_layer; layer++) {
    const result = block(x, makeLayerLookup(parameters, layer), context, layer, inputs.past[layer] ?? null);
    x = result.output;
    present.push(result.attention.present);
  }
  return { embedded, hidden: norm(x, "ln_f", parameters, config), present, sources: context.sources };
}

/** wte[ids] + wpe[positions]: [B·T, C] */
export function embed(parameters: ParameterLookup, { ids, positions }: Pick<Gpt2Inputs, "ids" | "positions">): Value {
  const rows: [Dim] = [multiplyDims(...(ids.shape as [Dim, Dim]))];
  const tokens = gather(parameters("wte.weight"), reshape(ids, rows)); // [B·T, C]
  return add(tokens, gather(parameters("wpe.weight"), reshape(positions, rows))); // [B·T, C]
}

export interface BlockOutput<Attention = AttentionOutput> {
  /** ln_1(x), the input of c_attn: [B·T, C] */
  normed: Value;
  attention: Attention;
  /** x + attention, the stream between the two halves of the block: [B·T, C] */
  middle: Value;
  /** The hidden units of the MLP, the input of mlp.c_proj: [B·T, n_inner] */
  inner: Value;
  output: Value; // [B·T, C]
}

/** x + attention(ln_1(x)), then + mlp(ln_2(·)). */
export function block(
  x: Value,
  parameters: ParameterLookup,
  context: AttentionContext,
  layer: number,
  past: KeyValue | null = null,
): BlockOutput {
  return wrapAttention(x, parameters, context.config, (normed) => attention(normed, parameters, context, layer, past));
}

/** A block around any attention on normalized hidden states [B·T, C]. */
export function wrapAttention<Attention extends { output: Value }>(
  x: Value,
  parameters: ParameterLookup,
  config: ModelConfig,
  attend: (normed: Value) => Attention,
): BlockOutput<Attention> {
  const normed = norm(x, "ln_1", parameters, config);
  const attended = attend(normed);
  const middle = add(x, attended.output); // [B·T, C]
  const { inner, output } = mlp(norm(middle, "ln_2", parameters, config), parameters, config);
  return { normed, attention: attended, middle, inner, output: add(middle, output) };
}

/** hidden · wteᵀ, or · lm_headᵀ where the head is not tied: [N, V]. Gemm's transB keeps the tied weight stored once. */
export function lmHead(hidden: Value, config: ModelConfig, parameters: ParameterLookup): Value {
  return gemm(hidden, parameters(nameHead(config)), { transB: true });
}

/** Inputs named as transformers.js and optimum name them, for text without padding or cache: ids and positions [B, T]. */
export function declareTextInputs(
  graph: Graph,
  batch: Dim = "batch_size",
  length: Dim = "sequence_length",
): Gpt2Inputs {
  return {
    ids: graph.input("input_ids", "int64", [batch, length]),
    positions: graph.input("position_ids", "int64", [batch, length]),
    attentionMask: null,
    past: [],
  };
}

/** Feeds those inputs: ids [B·T] and their positions, each [B, T]. */
export function makeTextFeeds(ids: Int32Array, [batch, length]: readonly [number, number]): Record<string, Tensor> {
  const positions = ids.map((_, i) => i % length);
  return {
    input_ids: makeInt64Tensor(ids, [batch, length]),
    position_ids: makeInt64Tensor(positions, [batch, length]),
  };
}
