// A training step as a graph: the student's forward pass, the losses, and the gradients of the trained parameters.
import { backward, takeOutputGradient } from "../../graph/autodiff/backward.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { add, reduceSum } from "../../graph/ops.ts";
import { int8Product } from "../../graph/passes/int8.ts";
import { padAxis, reshape, slice } from "../../graph/shape-ops.ts";
import type { ModelConfig } from "../../model/config.ts";
import { declareTextInputs, gpt2 } from "../../model/gpt2.ts";
import { makeParameterLookup, type ParameterLookup } from "../../model/layers.ts";
import { findParameterKind, isUsedAtMean, listParameters, nameHead } from "../../model/parameters.ts";
import { buildHeadLoss, buildLogits, maskBeyond, padHead, type TeacherSignal } from "./losses.ts";

/** The teacher's part of the step: its final hidden states and head, or cached log-probabilities of k tokens. */
export type TeacherInput =
  | { kind: "hidden"; n_embd: number; precision: "fp32" | "int8" }
  | { kind: "top-k" | "sampled"; k: number };

export interface StepOptions {
  config: ModelConfig;
  /** Windows, and tokens of a window. */
  batch: number;
  length: number;
  /** Names of the parameters that get a gradient. */
  trained: ReadonlySet<string>;
  /** `fed`: σ·ε with ε from outside; `mean`: ε = 0. */
  noise: "mean" | "fed";
  teacher: TeacherInput | null;
  temperature?: number | undefined;
  /** Vocabulary rows, and rows of hidden states, that go through the head at once. */
  vocabularyChunk?: number | undefined;
  rowsAtOnce?: number | undefined;
}

/** Vocabulary rows of a chunk: a product for dW of so many rows fits the second cache of a core. */
const VOCABULARY_CHUNK = 2048;
/** Largest temporary of the head, in elements: 256 MB. */
const HEAD_ELEMENTS = 64 * 2 ** 20;
const MAX_ROWS_AT_ONCE = 1024;

/** Names of the graph's inputs and outputs besides the parameters. */
export const nameGradient = (parameter: string) => `grad/${parameter}`;
export const nameHeadChunk = (chunk: number) => `head/${chunk}`;
export const nameTeacherChunk = (chunk: number) => `teacher_head/${chunk}`;
export const nameTeacherScales = (chunk: number) => `${nameTeacherChunk(chunk)}/scales`;
export const STEP = {
  labels: "labels",
  nllWeight: "nll_weight",
  klWeight: "kl_weight",
  teacherHidden: "teacher_hidden",
  teacherIds: "teacher_ids",
  teacherLogProbabilities: "teacher_log_probabilities",
  teacherWeights: "teacher_weights",
  nll: "nll",
  kl: "kl",
  labelRows: "label_rows",
  embeddingRows: "embedding_rows",
} as const;

/** Rows [first, first + count) of the head's matrix. */
export interface HeadChunk {
  first: number;
  count: number;
}

export interface StepGraph {
  graph: Graph;
  chunks: readonly HeadChunk[];
  /** The matrix that makes the logits: wte.weight, or lm_head.weight where it is not tied. */
  headName: string;
  /** Whether that matrix gets a gradient, in chunks. */
  headTrained: boolean;
}

/** The chunks of a vocabulary. */
export function planHeadChunks(vocabulary: number, size = VOCABULARY_CHUNK): HeadChunk[] {
  const chunks: HeadChunk[] = [];
  for (let first = 0; first < vocabulary; first += size)
    chunks.push({ first, count: Math.min(size, vocabulary - first) });
  return chunks;
}

/**
 * Inputs: ids and positions [B, T], labels int64 [N] with N = B·T, weights [N, 1], `eps.N`, the teacher's part, the
 * parameters, and the head's matrix once more in chunks. Outputs: nll and kl of each row [N], `grad/NAME`, the head's
 * gradient in chunks, and the rows that labels and embeddings add to it (`label_rows`, `embedding_rows` [N, C]).
 * The token embedding's gradient is a sum over rows: the caller adds them up, which no op does as fast.
 */
export function buildStepGraph(options: StepOptions): StepGraph {
  const { config, batch, length, trained, teacher } = options;
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const inputs = declareTextInputs(graph, batch, length);
  const { embedded, hidden } = gpt2(config, parameters, inputs, { kind: options.noise });
  const headName = nameHead(config);
  const chunks = planHeadChunks(
    config.vocab_size,
    teacher && teacher.kind !== "hidden" ? config.vocab_size : options.vocabularyChunk,
  );
  const headTrained = trained.has(headName);
  const loss = buildHeadLoss({
    hidden,
    matrix: parameters(headName),
    chunks: chunks.map(({ count }, c) => graph.input(nameHeadChunk(c), "float32", [count, config.n_embd])),
    rowsAtOnce:
      options.rowsAtOnce ?? Math.min(MAX_ROWS_AT_ONCE, Math.max(64, Math.floor(HEAD_ELEMENTS / config.vocab_size))),
    matrixTrained: headTrained,
    temperature: options.temperature ?? 1,
    ...buildRowInputs(graph, batch * length, teacher, chunks),
  });
  graph.output(loss.nll, STEP.nll);
  if (loss.kl) graph.output(loss.kl, STEP.kl);
  for (const [c, chunk] of loss.dChunks.entries()) graph.output(chunk, nameGradient(nameHeadChunk(c)));
  if (loss.labelRows) graph.output(loss.labelRows, STEP.labelRows);
  outputModelGradients(options, parameters, embedded, new Map([[hidden, loss.dHidden]]));
  return { graph, chunks, headName, headTrained };
}

/**
 * Makes the gradients of a whole model's trained parameters outputs of its graph: `grad/NAME` of each, those of wpe for
 * the T positions alone, and `embedding_rows` [B·T, C], the rows to add to wte's. The head's matrix is the caller's. A
 * parameter that the loss does not depend on has no output: the softmax cannot see a constant noise mean, whose
 * gradient would be rounding noise.
 */
export function outputModelGradients(
  { config, batch, length, trained, noise }: Pick<StepOptions, "config" | "batch" | "length" | "trained" | "noise">,
  parameters: ParameterLookup,
  embedded: Value,
  seeds: ReadonlyMap<Value, Value>,
): void {
  const names = listParameters(config)
    .map(({ name }) => name)
    .filter((name) => trained.has(name) && !EMBEDDINGS.has(name) && !isPriorOnly(name, config, noise));
  const [tokens, positions] = [trained.has("wte.weight"), trained.has("wpe.weight")];
  const targets = [...names.map((name) => parameters(name)), ...(tokens || positions ? [embedded] : [])];
  const gradients = backward(seeds, targets, { recomputed: RECOMPUTED, turned: true });
  for (const name of names) takeOutputGradient(requireGradient(gradients, parameters(name)), nameGradient(name));
  if (tokens) takeOutputGradient(requireGradient(gradients, embedded), STEP.embeddingRows);
  if (!positions) return;
  const rows = reshape(requireGradient(gradients, embedded), [batch, length, config.n_embd]);
  takeOutputGradient(reduceSum(rows, [0]), nameGradient("wpe.weight")); // [T, C]
}

/** Ops of which each layer has results as wide as the stream or the MLP, and that take next to no time. */
const RECOMPUTED: ReadonlySet<string> = new Set(["LayerNormalization", "Gelu"]);
/** Matrices whose gradients are made of rows. */
const EMBEDDINGS: ReadonlySet<string> = new Set(["wte.weight", "wpe.weight", "lm_head.weight"]);

/** Whether the noise prior alone moves a parameter, as the data's loss does not depend on it. */
export function isPriorOnly(name: string, config: ModelConfig, noise: StepOptions["noise"]): boolean {
  const drawn = noise === "fed" && findParameterKind(name) === "noise log std";
  return !drawn && !isUsedAtMean(name, config);
}

function requireGradient(gradients: ReadonlyMap<Value, Value>, target: Value): Value {
  const gradient = gradients.get(target);
  if (!gradient) throw new Error(`the loss does not depend on ${target.name}`);
  return gradient;
}

function buildRowInputs(graph: Graph, rows: number, teacher: TeacherInput | null, chunks: readonly HeadChunk[]) {
  return {
    labels: graph.input(STEP.labels, "int64", [rows]),
    nllWeight: graph.input(STEP.nllWeight, "float32", [rows, 1]),
    klWeight: teacher ? graph.input(STEP.klWeight, "float32", [rows, 1]) : null,
    teacher: teacher ? buildTeacherSignal(graph, rows, teacher, chunks) : null,
  };
}

/**
 * Declares the teacher's inputs for all rows: what its head says of a chunk, or its k tokens.
 * @param beyond logits at the end of each chunk that belong to no token
 */
export function buildTeacherSignal(
  graph: Graph,
  rows: number,
  teacher: TeacherInput,
  chunks: readonly HeadChunk[],
  beyond = 0,
): TeacherSignal {
  if (teacher.kind !== "hidden") {
    const ids = graph.input(STEP.teacherIds, "int64", [rows, teacher.k]);
    const logProbabilities = graph.input(STEP.teacherLogProbabilities, "float32", [rows, teacher.k]);
    if (teacher.kind === "top-k") return { kind: "top-k", ids, logProbabilities };
    const weights = graph.input(STEP.teacherWeights, "float32", [rows, teacher.k]);
    return { kind: "sampled", ids, logProbabilities, weights };
  }
  const { n_embd: width, precision } = teacher;
  const hidden = graph.input(STEP.teacherHidden, "float32", [rows, width]);
  const products = chunks.map(({ count }, c): ((x: Value) => Value) => {
    if (precision === "fp32") {
      const matrix = padHead(graph.input(nameTeacherChunk(c), "float32", [count, width]), beyond);
      return (x) => buildLogits(x, matrix, beyond); // [n, v]
    }
    const values = graph.input(nameTeacherChunk(c), "int8", [width, count]);
    const scales = graph.input(nameTeacherScales(c), "float32", [count]);
    const bias = maskBeyond(graph, count + beyond, beyond);
    return (x) => {
      const logits = int8Product(x, values, scales); // [n, v]
      return bias ? add(padAxis(logits, 1, 0, beyond), bias) : logits;
    };
  });
  return {
    kind: "logits",
    logits: ({ start, end }, c) => {
      const part = start === 0 && end === rows ? hidden : slice(hidden, 0, start, end);
      return (products[c] as (x: Value) => Value)(part);
    },
  };
}
