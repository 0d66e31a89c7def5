// Builds the graphs that score text: negative log-likelihoods of a model, and its divergence from another model.
import { Graph, type Value } from "../../graph/ir.ts";
import { argMax, cast, equal, exp, logSoftmax, mul, reduceSum, scale, sub } from "../../graph/ops.ts";
import { gather, pick } from "../../graph/shape-ops.ts";
import type { NoiseMode } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { declareTextInputs, type Gpt2Inputs, gpt2, lmHead } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";

/**
 * Per scored position: negative log-likelihoods of the model and of `against`, KL, agreement. Inputs: ids and positions
 * [B, T]; rows [M], the scored positions among B·T; labels [M].
 */
export function buildScoringGraph(own: ModelConfig, against: ModelConfig | undefined, noise: NoiseMode): Graph {
  const graph = new Graph();
  const inputs = declareTextInputs(graph);
  const { rows, labels } = buildScoredInputs(graph);
  const logits = buildScoredLogits(graph, own, "", inputs, rows, noise);
  const other = against && buildScoredLogits(graph, against, AGAINST, inputs, rows, { kind: "mean" });
  buildScoreOutputs(graph, labels, logits, other);
  return graph;
}

/** The logits of files from other tools may be float16; those of nfc are float32. */
type LogitsDtype = "float32" | "float16";

/**
 * Scores the logits [N, V] that two models have given: `logits`, and `reference` unless its dtype is null. Adds
 * `squared_error` [M], the variance of the logits' differences at a position, whose mean the softmax does not see.
 */
export function buildComparisonGraph(vocabulary: number, own: LogitsDtype, reference: LogitsDtype | null): Graph {
  const graph = new Graph();
  const input = (name: string, dtype: LogitsDtype) => graph.input(name, dtype, ["positions", vocabulary]);
  const logits = input("logits", own);
  const against = reference && input("reference", reference);
  const { rows, labels } = buildScoredInputs(graph);
  const scored = (all: Value) => cast(gather(all, rows), "float32"); // [M, V]
  const mine = scored(logits);
  if (!against) {
    buildScoreOutputs(graph, labels, mine);
    return graph;
  }
  const theirs = scored(against);
  buildScoreOutputs(graph, labels, mine, theirs);
  const difference = sub(mine, theirs);
  const centered = sub(difference, scale(reduceSum(difference, [1], true), 1 / vocabulary));
  graph.output(scale(reduceSum(mul(centered, centered), [1]), 1 / vocabulary), "squared_error");
  return graph;
}

function buildScoredInputs(graph: Graph): { rows: Value; labels: Value } {
  return { rows: graph.input("rows", "int64", ["scored"]), labels: graph.input("labels", "int64", ["scored"]) };
}

/** @param logits of a model, and `against` of another, at the scored positions: [M, V] */
function buildScoreOutputs(graph: Graph, labels: Value, logits: Value, against?: Value): void {
  const own = logSoftmax(logits);
  graph.output(scale(pick(own, labels), -1), "nll"); // [M]
  if (!against) return;
  const other = logSoftmax(against);
  graph.output(scale(pick(other, labels), -1), "nll_against"); // [M]
  graph.output(reduceSum(mul(exp(other), sub(other, own)), [1]), "kl"); // Σ p·(ln p − ln q): [M]
  graph.output(cast(equal(argMax(own), argMax(other)), "float32"), "agreement"); // [M]
}

/** Prefix of the other model's weights. */
export const AGAINST = "against/";

function buildScoredLogits(
  graph: Graph,
  config: ModelConfig,
  prefix: string,
  inputs: Gpt2Inputs,
  rows: Value,
  noise: NoiseMode,
): Value {
  const parameters = makeParameterLookup(graph, config, prefix);
  const { hidden } = gpt2(config, parameters, inputs, noise); // [B·T, C]
  return lmHead(gather(hidden, rows), config, parameters); // [M, V]
}
