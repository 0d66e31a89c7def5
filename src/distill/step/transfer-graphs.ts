// The graphs of the transfer: the teacher's stream, a layer of it, and what a student's layer learns from it.
import { backward, takeOutputGradient } from "../../graph/autodiff/backward.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { add, div, logSoftmax, mul, reduceSum, scale, shift, sub } from "../../graph/ops.ts";
import { attention, buildAttentionContext } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { block, declareTextInputs, embed } from "../../model/gpt2.ts";
import { makeLayerLookup, makeParameterLookup, norm, type ParameterLookup } from "../../model/layers.ts";
import { findParameterKind, isUsedAtMean, listParameters } from "../../model/parameters.ts";
import type { TransferKind } from "../transfer-match.ts";
import { nameGradient } from "./step-graph.ts";

export interface TransferModels {
  student: ModelConfig;
  teacher: ModelConfig;
  batch: number;
  length: number;
  /** Whether a parameter of a layer, by its name within it, is trained at all; all are unless given. */
  isTrained?: ((name: string) => boolean) | undefined;
}

/** Before the names of the models' parameters among a graph's inputs. */
export const STUDENT = "student/";
export const TEACHER = "teacher/";

/** The parameters of a layer that make the attention scores. V's part of c_attn gets a gradient of zeros. */
const SCORE_PARAMETERS: readonly string[] = ["attn.c_attn.weight", "attn.c_attn.bias", "attn.pair", "attn.noise_mean"];

/** The parameters, named within a layer, that a kind of transfer trains where all are trained. */
export function listLayerTargets(config: ModelConfig, kind: TransferKind): string[] {
  const wanted: Readonly<Record<TransferKind, (name: string) => boolean>> = {
    probabilities: (name) => SCORE_PARAMETERS.includes(name),
    outputs: (name) => SCORE_PARAMETERS.includes(name) || findParameterKind(name) === "attention output",
    hidden: () => true,
  };
  return listParameters(config)
    .filter(({ layer, name }) => layer === 0 && isUsedAtMean(name, config))
    .map(({ name }) => name.slice("h.0.".length))
    .filter(wanted[kind]);
}

/** Those of them that learn. */
export function listLearned({ student, isTrained = () => true }: TransferModels, kind: TransferKind): string[] {
  return listLayerTargets(student, kind).filter(isTrained);
}

/** wte[ids] + wpe[positions] of the teacher: [N, C] */
export function buildEmbeddingGraph({ teacher, batch, length }: TransferModels): Graph {
  const graph = new Graph();
  graph.output(embed(makeParameterLookup(graph, teacher, TEACHER), declareTextInputs(graph, batch, length)), "output");
  return graph;
}

/** A layer of the teacher: x [N, C] → output [N, C] */
export function buildTeacherGraph(models: TransferModels, taught: number): Graph {
  const { graph, x, lookup, contextOf } = begin(models);
  const own = lookup(models.teacher, TEACHER, taught);
  graph.output(block(x, own, contextOf(models.teacher), taught).output, "output");
  return graph;
}

/**
 * A layer of the teacher on x, and the student's attention on the same x after its own ln_1: what it learns is the
 * teacher's probabilities or, as its loss says below, the output of its attention.
 */
export function buildAttentionGraph(
  models: TransferModels,
  { taught, learned }: { taught: number; learned: number },
  kind: Exclude<TransferKind, "hidden">,
): Graph {
  const { student, teacher } = models;
  const { graph, x, weight, lookup, contextOf } = begin(models);
  const own = lookup(student, STUDENT, learned);
  const target = block(x, lookup(teacher, TEACHER, taught), contextOf(teacher), taught);
  const output = attention(norm(x, "ln_1", own, student), own, contextOf(student), learned);
  const loss =
    kind === "probabilities"
      ? compareProbabilities(output, target.attention, models)
      : compareStreams(output.output, target.attention.output, add(x, target.attention.output));
  finish(graph, loss, { weight, own, names: listLearned(models, kind) });
  graph.output(target.output, "output"); // [N, C]
  return graph;
}

/** A layer of the student on x learns the stream `target`: [N, C] each. */
export function buildStreamGraph(models: TransferModels, learned: number): Graph {
  const { student, teacher, batch, length } = models;
  const { graph, x, weight, lookup, contextOf } = begin(models);
  const own = lookup(student, STUDENT, learned);
  const target = graph.input("target", "float32", [batch * length, teacher.n_embd]);
  const loss = compareStreams(block(x, own, contextOf(student), learned).output, target, target);
  finish(graph, loss, { weight, own, names: listLearned(models, "hidden") });
  return graph;
}

function begin({ teacher, batch, length }: TransferModels) {
  const graph = new Graph();
  const ids = graph.constant(new BigInt64Array(batch * length), [batch, length], "int64"); // only its shape is read
  return {
    graph,
    x: graph.input("x", "float32", [batch * length, teacher.n_embd]),
    weight: () => graph.input("weight", "float32", []),
    lookup: (config: ModelConfig, prefix: string, layer: number) =>
      makeLayerLookup(makeParameterLookup(graph, config, prefix), layer),
    contextOf: (config: ModelConfig) => buildAttentionContext(config, { ids, attentionMask: null }, { kind: "mean" }),
  };
}

interface Loss {
  loss: Value; // []
  /** What the student's parameters are reached through, and the loss's derivative by it. */
  output: Value;
  derivative: Value;
}

/** The mean over windows, heads and queries of KL(P_teacher ‖ P_student): dL/dscore = (P_student − P_teacher)/(B·H·T). */
function compareProbabilities(
  student: { scores: Value; probabilities: Value },
  teacher: { scores: Value; probabilities: Value },
  { batch, length, teacher: { n_head } }: TransferModels,
): Loss {
  const mean = 1 / (batch * length * n_head);
  const difference = sub(logSoftmax(teacher.scores), logSoftmax(student.scores)); // [B, H, T, T]
  return {
    loss: scale(reduceSum(mul(teacher.probabilities, difference), [0, 1, 2, 3]), mean),
    output: student.scores,
    derivative: scale(sub(student.probabilities, teacher.probabilities), mean),
  };
}

/** Keeps a stream of zeros from being divided by. */
const TINY = 1e-12;

/**
 * The mean over the N rows of ‖y − t‖²/‖s‖²: what the student adds to the stream differs from what the teacher adds by
 * this share of the stream s, which the next layer norm divides by. dL/dy = 2(y − t)/(N‖s‖²).
 */
function compareStreams(student: Value, teacher: Value, stream: Value): Loss {
  const rows = student.shape[0] as number;
  const difference = sub(student, teacher); // [N, C]
  const relative = div(difference, shift(reduceSum(mul(stream, stream), [1], true), TINY)); // [N, C]
  return {
    loss: scale(reduceSum(mul(difference, relative), [0, 1]), 1 / rows),
    output: student,
    derivative: scale(relative, 2 / rows),
  };
}

/** Makes the loss and the gradients of the student's layer, times the row weight w, the graph's outputs. */
function finish(
  graph: Graph,
  { loss, output, derivative }: Loss,
  { weight, own, names }: { weight: () => Value; own: ParameterLookup; names: readonly string[] },
): void {
  graph.output(loss, "loss");
  const targets = names.map((name) => own(name));
  const gradients = backward(new Map([[output, mul(derivative, weight())]]), targets);
  for (const [i, target] of targets.entries())
    takeOutputGradient(gradients.get(target) as Value, nameGradient(names[i] as string));
}
