// The training step for parameters on a device: tokens and a few scalars go in, sums of losses and whole gradients come out.
import { Graph, type Value } from "../../graph/ir.ts";
import { less, max, reduceSum, where } from "../../graph/ops.ts";
import type { Tensor } from "../../graph/session.ts";
import { expand, reshape, slice, unsqueeze } from "../../graph/shape-ops.ts";
import { type Gpt2Inputs, gpt2 } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";
import { nameHead } from "../../model/parameters.ts";
import { buildHeadLoss, padHead } from "../step/losses.ts";
import { buildTeacherSignal, planHeadChunks, STEP, type StepOptions } from "../step/step-graph.ts";
import { outputWholeGradients, type WholeOptions } from "./whole-gradients.ts";

export interface ResidentOptions
  extends Pick<
      StepOptions,
      "config" | "batch" | "length" | "trained" | "noise" | "teacher" | "temperature" | "rowsAtOnce"
    >,
    WholeOptions {}

/** Largest temporary of the head, in elements: 128 MiB, the least that every adapter binds as one buffer. */
const HEAD_ELEMENTS = 32 * 2 ** 20;

/** The vocabulary is not cut: a device multiplies by the matrix as it is. */
export const planResidentChunks = (vocabulary: number) => planHeadChunks(vocabulary, vocabulary);

/** Elements that a device reads at once: products with rows of another length take up to three times as long. */
const VECTOR = 4;

/** Declares the tokens, int32 [B·T], and makes of them the inputs of a model; positions are within the graph. */
export function declareResidentInputs(graph: Graph, batch: number, length: number): { ids: Value; inputs: Gpt2Inputs } {
  const ids = graph.input("input_ids", "int32", [batch * length]);
  const positions = graph.intsLike(
    ids,
    Array.from({ length: batch * length }, (_, i) => i % length),
  ); // [B·T]
  const shape = [batch, length];
  return {
    ids,
    inputs: { ids: reshape(ids, shape), positions: reshape(positions, shape), attentionMask: null, past: [] },
  };
}

export const makeInt32Tensor = (data: Int32Array): Tensor => ({ dtype: "int32", data, shape: [data.length] });

/**
 * Inputs: ids int32 [B·T], labels int32 [B·T] with −1 where there is none, the weights of a row's losses [], `eps.N`, the
 * teacher's part as in step-graph.ts, the parameters. Outputs: nll and kl summed over the rows [], `grad/NAME` of each
 * trained parameter, and the prior's value.
 */
export function buildResidentGraph(options: ResidentOptions): Graph {
  const { config, batch, length, trained, teacher, temperature = 1 } = options;
  const graph = new Graph();
  const rows = batch * length;
  const parameters = makeParameterLookup(graph, config);
  const { ids, inputs } = declareResidentInputs(graph, batch, length);
  const { embedded, hidden } = gpt2(config, parameters, inputs, { kind: options.noise });
  const labels = graph.input(STEP.labels, "int32", [rows]);
  const unlabeled = less(labels, graph.intsLike(labels, [0])); // [N]
  const zero = graph.scalar(0);
  const headName = nameHead(config);
  const beyond = -config.vocab_size & (VECTOR - 1);
  const loss = buildHeadLoss({
    hidden,
    matrix: parameters(headName),
    chunks: [padHead(parameters(headName), beyond)],
    beyond,
    rowsAtOnce: options.rowsAtOnce ?? Math.max(64, Math.floor(HEAD_ELEMENTS / config.vocab_size)),
    matrixTrained: trained.has(headName),
    onDevice: true,
    temperature,
    labels: max(labels, graph.intsLike(labels, [0])),
    nllWeight: where(unsqueeze(unlabeled, [1]), zero, graph.input(STEP.nllWeight, "float32", [])), // [N, 1]
    klWeight: teacher ? expand(reshape(graph.input(STEP.klWeight, "float32", []), [1, 1]), [rows, 1]) : null,
    teacher: teacher && buildTeacherSignal(graph, rows, teacher, planResidentChunks(config.vocab_size), beyond),
  });
  graph.output(reduceSum(where(unlabeled, zero, loss.nll), [0]), STEP.nll);
  if (loss.kl) graph.output(reduceSum(loss.kl, [0]), STEP.kl);
  const padded = loss.dChunks[0]; // [V + beyond, C]
  const gradient = padded && beyond > 0 ? slice(padded, 0, 0, config.vocab_size) : padded;
  const head = gradient ? { name: headName, gradient } : null;
  outputWholeGradients(options, { parameters, ids, embedded, seeds: new Map([[hidden, loss.dHidden]]), head });
  return graph;
}
