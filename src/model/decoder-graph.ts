// The exported graph: GPT-2 with KV cache, padding mask and positions, named as transformers.js and optimum expect.
import { Graph, type Value } from "../graph/ir.ts";
import { reshape } from "../graph/shape-ops.ts";
import type { KeyValue, NoiseMode } from "./attention.ts";
import type { ModelConfig } from "./config.ts";
import { type Gpt2Inputs, gpt2, lmHead } from "./gpt2.ts";
import { type CachePart, isNarrowCache, listCacheParts } from "./head-widths.ts";
import { makeParameterLookup } from "./layers.ts";

/** Dimension names exactly as optimum evaluates them. */
const BATCH = "batch_size";
const LENGTH = "sequence_length";
const PAST = "past_sequence_length";
const TOTAL = `${PAST} + ${LENGTH}`;

/**
 * Inputs: input_ids, attention_mask, position_ids, past_key_values.N.{key,value} [B, H, past, D]. The width of a narrow
 * cache has a name instead of its number: transformers.js and optimum make the first, empty one as wide as GPT-2's.
 * Outputs: logits [B, T, V], present.N.{key,value} [B, H, past + T, D].
 */
export function buildDecoderGraph(config: ModelConfig, noise: NoiseMode): Graph {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const { hidden, present, sources } = gpt2(config, parameters, declareExportInputs(graph, config), noise);
  const logits = lmHead(hidden, config, parameters); // [B·T, V]
  graph.output(reshape(logits, [BATCH, LENGTH, config.vocab_size], sources), "logits"); // [B, T, V]
  for (const [layer, { key, value }] of present.entries()) {
    graph.output(key, `present.${layer}.key`);
    graph.output(value, `present.${layer}.value`);
  }
  return graph;
}

function declareExportInputs(graph: Graph, config: ModelConfig): Gpt2Inputs {
  const ids = graph.input("input_ids", "int64", [BATCH, LENGTH]);
  const attentionMask = graph.input("attention_mask", "int64", [BATCH, TOTAL]);
  const positions = graph.input("position_ids", "int64", [BATCH, LENGTH]);
  const past = Array.from({ length: config.n_layer }, (_, layer): KeyValue => {
    const declare = ({ part, width }: CachePart) => {
      const size = isNarrowCache(config, width) ? `${part}_size_${layer}` : width;
      return graph.input(`past_key_values.${layer}.${part}`, "float32", [BATCH, config.n_head, PAST, size]); // [B, H, past, D]
    };
    const [key, value] = listCacheParts(config, layer).map(declare) as [Value, Value];
    return { key, value };
  });
  return { ids, positions, attentionMask, past };
}
