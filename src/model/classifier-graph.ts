// The exported graph of a classifier: it takes texts padded on either side and gives one row of logits for each.
import type { Dim } from "../graph/dims.ts";
import { Graph, type Value } from "../graph/ir.ts";
import { add, max, mul, reduceMax, reduceSum, sub } from "../graph/ops.ts";
import { range, readSize, reshape } from "../graph/shape-ops.ts";
import type { NoiseMode } from "./attention.ts";
import { classifier } from "./classifier.ts";
import type { ModelConfig } from "./config.ts";
import { buildDecoderGraph } from "./decoder-graph.ts";
import { makeParameterLookup } from "./layers.ts";

const BATCH = "batch_size";
const LENGTH = "sequence_length";

/** The graph that is exported: a classifier where the model has labels, else a decoder. */
export function buildExportGraph(config: ModelConfig, noise: NoiseMode): Graph {
  return config.labels ? buildClassifierGraph(config, noise) : buildDecoderGraph(config, noise);
}

/** Inputs: input_ids, attention_mask [B, T], 1 on the text, which is one piece. Output: logits [B, labels]. */
function buildClassifierGraph(config: ModelConfig, noise: NoiseMode): Graph {
  const graph = new Graph();
  const ids = graph.input("input_ids", "int64", [BATCH, LENGTH]);
  const attentionMask = graph.input("attention_mask", "int64", [BATCH, LENGTH]);
  const { positions, last } = findTokenPlaces(ids, attentionMask);
  const inputs = { ids, positions, attentionMask, past: [] };
  const { logits } = classifier(config, makeParameterLookup(graph, config), inputs, { last, noise });
  graph.output(logits, "logits");
  return graph;
}

/**
 * The positions of each row's tokens, and the place of its last one among the B·T. The mask is 1 in the columns
 * first … end of the text, so positions count from `first`, and the last token is at `end`:
 * end = max(mask·column), first = end + 1 − Σ mask
 */
function findTokenPlaces(ids: Value, mask: Value): { positions: Value; last: Value } {
  const { graph } = ids;
  const [batch, length] = ids.shape as [Dim, Dim];
  const columns = range(readSize(ids, 1), length); // [T]
  const end = reduceMax(mul(mask, columns), [1], true); // [B, 1]
  const first = sub(add(end, graph.ints([1])), reduceSum(mask, [1], true)); // [B, 1]
  const positions = max(sub(columns, first), graph.ints([0])); // [B, T]
  const rows = mul(range(readSize(ids, 0), batch), readSize(ids, 1)); // b·T: [B]
  return { positions, last: add(rows, reshape(end, [batch])) };
}
