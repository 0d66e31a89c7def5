// A training step of a classifier as a graph: forward pass, the loss's derivative by the logits, and all gradients.

import { outputWholeGradients, type WholeOptions } from "../../distill/device/whole-gradients.ts";
import { outputModelGradients } from "../../distill/step/step-graph.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { add, mul, scale, softmax, sub } from "../../graph/ops.ts";
import { reshape } from "../../graph/shape-ops.ts";
import { classifier } from "../../model/classifier.ts";
import type { ModelConfig } from "../../model/config.ts";
import { declareTextInputs } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";

export interface ClassifierGraphOptions {
  config: ModelConfig;
  batch: number;
  length: number;
  trained: ReadonlySet<string>;
  noise: "mean" | "fed";
  /** Share of a teacher in the loss, 0: none; and the temperature of both distributions. */
  kd: number;
  temperature: number;
  /** For parameters on a device: gradients are whole, with the noise prior's. */
  whole?: Pick<WholeOptions, "prior" | "scaled"> | undefined;
}

/** Names of the inputs that a language model's step does not have. */
export const TARGETS = "targets";
export const TEACHER = "teacher";
export const WEIGHT = "weight";

/**
 * Inputs: those of a classifier, `eps.N`, the parameters; targets [B, K] (one-hot, or the number of a regression),
 * teacher [B, K] (probabilities at the temperature, or its output), weight [B, 1] (1/rows, 0 for padding rows).
 * Outputs: logits [B, K], `grad/NAME`, and `embedding_rows` [B·T, C], which the caller adds to wte's gradient.
 *
 *     L = Σ_b w_b [(1 − kd)·CE(y_b, z_b) + kd·T²·KL(q_b ‖ softmax(z_b/T))], or squared errors in a regression
 *     dL/dz = w [(1 − kd)(softmax(z) − y) + kd·T·(softmax(z/T) − q)],       or 2w [(1 − kd)(z − y) + kd (z − q)]
 */
export function buildClassifierStepGraph(options: ClassifierGraphOptions): Graph {
  const { config, batch, length, noise } = options;
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const inputs = declareTextInputs(graph, batch, length);
  const last = graph.input("last", "int64", [batch]);
  const { embedded, logits } = classifier(config, parameters, inputs, { last, noise: { kind: noise } });
  graph.output(logits, "logits");
  const seeds = new Map([[logits, buildDerivative(logits, options)]]);
  const { whole } = options;
  if (whole) {
    const ids = reshape(inputs.ids, [batch * length]);
    outputWholeGradients({ ...options, ...whole }, { parameters, ids, embedded, seeds, head: null });
  } else outputModelGradients(options, parameters, embedded, seeds);
  return graph;
}

function buildDerivative(logits: Value, { config, batch, kd, temperature }: ClassifierGraphOptions): Value {
  const { graph } = logits;
  const width = (config.labels as readonly string[]).length;
  const input = (name: string) => graph.input(name, "float32", [batch, width]);
  const regression = width === 1;
  const off = (target: Value, T: number) =>
    regression ? scale(sub(logits, target), 2) : sub(softmax(T === 1 ? logits : scale(logits, 1 / T)), target);
  const own = scale(off(input(TARGETS), 1), 1 - kd); // [B, K]
  const both = kd > 0 ? add(own, scale(off(input(TEACHER), temperature), kd * (regression ? 1 : temperature))) : own;
  return mul(both, graph.input(WEIGHT, "float32", [batch, 1]));
}
