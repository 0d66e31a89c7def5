// The graph that scores text: negative log-likelihoods of a model, and its divergence from another model.
import { Graph, type Value } from "../graph/ir.ts";
import { argMax, cast, equal, exp, logSoftmax, mul, reduceSum, scale, sub } from "../graph/ops.ts";
import { gather, pick } from "../graph/shape-ops.ts";
import type { NoiseMode } from "../model/attention.ts";
import type { ModelConfig } from "../model/config.ts";
import { type Gpt2Inputs, gpt2, lmHead, textInputs } from "../model/gpt2.ts";
import { parametersOf } from "../model/layers.ts";

/**
 * Per scored position: negative log-likelihoods of the model and of `against`, KL, agreement. Inputs: ids and positions
 * [B, T]; rows [M], the scored positions among B·T; labels [M].
 */
export function scoringGraph(own: ModelConfig, against: ModelConfig | undefined, noise: NoiseMode): Graph {
  const graph = new Graph();
  const inputs = textInputs(graph);
  const rows = graph.input("rows", "int64", ["scored"]);
  const labels = graph.input("labels", "int64", ["scored"]);
  const logProbabilities = (config: ModelConfig, prefix: string, mode: NoiseMode) =>
    logSoftmax(scoredLogits(graph, config, prefix, inputs, rows, mode)); // [M, V]
  const ownScores = logProbabilities(own, "", noise);
  graph.output(scale(pick(ownScores, labels), -1), "nll"); // [M]
  if (against) {
    const other = logProbabilities(against, AGAINST, { kind: "mean" });
    graph.output(scale(pick(other, labels), -1), "nll_against"); // [M]
    graph.output(reduceSum(mul(exp(other), sub(other, ownScores)), [1]), "kl"); // Σ p·(ln p − ln q): [M]
    graph.output(cast(equal(argMax(ownScores), argMax(other)), "float32"), "agreement"); // [M]
  }
  return graph;
}

/** Prefix of the other model's weights. */
export const AGAINST = "against/";

function scoredLogits(
  graph: Graph,
  config: ModelConfig,
  prefix: string,
  inputs: Gpt2Inputs,
  rows: Value,
  noise: NoiseMode,
): Value {
  const parameters = parametersOf(graph, config, prefix);
  const { hidden } = gpt2(config, parameters, inputs, noise); // [B·T, C]
  return lmHead(gather(hidden, rows), config, parameters); // [M, V]
}
