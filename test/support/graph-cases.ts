// The graphs that nfc runs, small, with feeds: every form of a training step, transfer, classifier, scoring, decoder.
import { buildResidentGraph } from "../../src/distill/device/resident-graph.ts";
import { buildStepGraph, STEP, type StepOptions } from "../../src/distill/step/step-graph.ts";
import {
  buildAttentionGraph,
  buildEmbeddingGraph,
  buildStreamGraph,
  buildTeacherGraph,
} from "../../src/distill/step/transfer-graphs.ts";
import { countElements } from "../../src/formats/dtype.ts";
import { Graph, pruneGraph, type Value } from "../../src/graph/ir.ts";
import { argMax, logSoftmax, reduceLogSumExp } from "../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, type Tensor, type Tensors } from "../../src/graph/session.ts";
import { buildComparisonGraph, buildScoringGraph } from "../../src/inference/score/scoring-graph.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { buildDecoderGraph } from "../../src/model/decoder-graph.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANT_TRAITS, VARIANTS } from "../../src/model/variants.ts";
import { buildClassifierStepGraph } from "../../src/tasks/train/step-graph.ts";
import { type TinyOptions, tinyModelConfig, tinyValues } from "./make-checkpoint.ts";

export interface GraphCase {
  name: string;
  graph: Graph;
  feeds: Tensors;
  /** Nodes that WebGPU leaves to the CPU, as `readPlacement` shows them; null for a graph of sizes known at run time. */
  host: readonly string[] | null;
  /** Never run on WebGPU: the steps of parameters in the host's memory. */
  hostOnly?: boolean;
}

const [BATCH, LENGTH, PAST, VOCABULARY, WIDTH, K] = [2, 16, 3, 61, 32, 5];
const ROWS = BATCH * LENGTH;
const WINDOW = { batch: BATCH, length: LENGTH };
const SIZES: Readonly<Record<string, number>> = {
  batch_size: BATCH,
  sequence_length: LENGTH,
  past_sequence_length: PAST,
  scored: 9,
  positions: 12,
  key_size_0: WIDTH / 8,
  key_size_1: WIDTH / 8,
};

function form(options: TinyOptions, more: Partial<ModelConfig> = {}): ModelConfig {
  return { ...tinyModelConfig({ width: WIDTH, heads: 4, positions: 32, vocab: VOCABULARY, ...options }), ...more };
}

/**
 * Feeds for every input and parameter of a graph: gains near 1, other floats in −½ … ½, ids of the vocabulary; `own`
 * where it has the name.
 */
function makeFeeds(graph: Graph, own: Tensors = {}): Tensors {
  const make = ({ name, dtype, shape }: Value): Tensor => {
    const dims = shape.map(sizeOf);
    const values = tinyValues(name, countElements(dims)); // −1 … 1
    if (dtype === "int64")
      return makeInt64Tensor(
        values.map((x) => Math.floor(((x + 1) / 2) * VOCABULARY)),
        dims,
      );
    if (dtype === "int8") return { dtype, data: Int8Array.from(values, (x) => x * 127), shape: dims };
    const isGain = /ln_\w+\.weight$/.test(name);
    return makeFloat32Tensor(
      values.map((x) => (isGain ? 1 + x / 4 : x / 2)),
      dims,
    );
  };
  const { inputs, parameters } = pruneGraph(graph);
  return Object.fromEntries([...inputs, ...parameters].map((value) => [value.name, own[value.name] ?? make(value)]));
}

/** A dimension's size; a sum of names is the sum of theirs. */
function sizeOf(dim: number | string): number {
  if (typeof dim === "number") return dim;
  return dim.split(" + ").reduce((sum, name) => sum + (SIZES[name] as number), 0);
}

const floats = (values: readonly number[], shape: readonly number[]) =>
  makeFloat32Tensor(Float32Array.from(values), shape);
const positions = (from = 0) =>
  makeInt64Tensor(
    Array.from({ length: ROWS }, (_, i) => from + (i % LENGTH)),
    [BATCH, LENGTH],
  );

/** Row weights that sum to 1, and a teacher's distribution of k different tokens in each row. */
const STEP_FEEDS: Tensors = {
  position_ids: positions(),
  [STEP.nllWeight]: floats(Array(ROWS).fill(0.5 / ROWS), [ROWS, 1]),
  [STEP.klWeight]: floats(Array(ROWS).fill(0.5 / ROWS), [ROWS, 1]),
  [STEP.teacherIds]: makeInt64Tensor(
    Array.from({ length: ROWS * K }, (_, i) => ((i % K) * 7 + i) % VOCABULARY),
    [ROWS, K],
  ),
  [STEP.teacherLogProbabilities]: floats(
    Array.from({ length: ROWS * K }, (_, i) => Math.log((0.8 / K) * (1 + 0.1 * Math.sin(i)))),
    [ROWS, K],
  ),
  [STEP.teacherWeights]: floats(Array(ROWS * K).fill(1 / K), [ROWS, K]),
  last: makeInt64Tensor([11, 31], [BATCH]),
};

/** Tokens of which many are alike, a row without a label, and the weights of a row. */
const RESIDENT_FEEDS: Tensors = {
  ...STEP_FEEDS,
  input_ids: { dtype: "int32", data: Int32Array.from({ length: ROWS }, (_, i) => (i * i) % 7), shape: [ROWS] },
  [STEP.labels]: {
    dtype: "int32",
    data: Int32Array.from({ length: ROWS }, (_, i) => (i === 4 ? -1 : (5 * i) % VOCABULARY)),
    shape: [ROWS],
  },
  [STEP.nllWeight]: floats([0.5 / ROWS], []),
  [STEP.klWeight]: floats([0.5 / ROWS], []),
};

const HIDDEN = { kind: "hidden", n_embd: WIDTH, precision: "fp32" } as const;
const dense = form({});
type StepForm = [name: string, config: ModelConfig, options: Partial<StepOptions>, host?: string[]];

/** Every variant, its noise fed where it has any and at the mean, with the hidden states of a teacher. */
const VARIANT_STEPS: StepForm[] = VARIANTS.flatMap((variant) => {
  const config = form({ variant }, variant === "low-rank" ? { qk_ranks: [4, 3], vo_ranks: [6, 5] } : {});
  const modes = VARIANT_TRAITS[variant].noise ? (["fed", "mean"] as const) : (["mean"] as const);
  return modes.map((noise): StepForm => [`${variant}, noise ${noise}`, config, { noise, teacher: HIDDEN }]);
});

const STEPS: StepForm[] = [
  ...VARIANT_STEPS,
  ["the teacher's k most likely tokens", dense, { teacher: { kind: "top-k", k: K } }],
  ["k tokens drawn from the teacher", dense, { teacher: { kind: "sampled", k: K } }],
  ["temperature 2, head in pieces", dense, { teacher: HIDDEN, temperature: 2, vocabularyChunk: 20, rowsAtOnce: 12 }],
  [
    "an int8 teacher, whose products are the CPU's",
    dense,
    { teacher: { ...HIDDEN, precision: "int8" } },
    [`DynamicQuantizeLinear uint8[${ROWS},${WIDTH}] float[] uint8[]`, `MatMulInteger int32[${ROWS},${VOCABULARY}]`],
  ],
  ["without a teacher", dense, {}],
  ["a head of its own, no biases", form({ head: "own", bias: false }), {}],
  ...(["gelu", "relu", "silu", "tanh"] as const).map(
    (activation): StepForm => [activation, form({}, { activation }), {}],
  ),
];

function* listSteps(): Generator<GraphCase> {
  const common = { ...WINDOW, noise: "mean" as const };
  const namesOf = (config: ModelConfig) => new Set(listParameters(config).map(({ name }) => name));
  for (const [name, config, options, host = []] of STEPS) {
    const { graph } = buildStepGraph({ ...common, config, trained: namesOf(config), teacher: null, ...options });
    yield { name: `step: ${name}`, graph, feeds: makeFeeds(graph, STEP_FEEDS), host, hostOnly: true };
  }
  for (const [name, config, options, host = []] of STEPS) {
    const resident = { ...common, config, trained: namesOf(config), teacher: null, prior: 0.01, ...options };
    const graph = buildResidentGraph(resident);
    yield { name: `resident step: ${name}`, graph, feeds: makeFeeds(graph, RESIDENT_FEEDS), host };
  }
  const config = form({ variant: "noise-distance", labels: 3 });
  for (const noise of ["fed", "mean"] as const) {
    const options = { ...common, config, trained: namesOf(config), noise, kd: 0.5, temperature: 2 };
    const graph = buildClassifierStepGraph(options);
    yield { name: `step of a classifier, noise ${noise}`, graph, feeds: makeFeeds(graph, STEP_FEEDS), host: [] };
  }
}

function* listTransferGraphs(): Generator<GraphCase> {
  const models = { student: form({ variant: "noise-distance" }), teacher: dense, ...WINDOW };
  const layers = { taught: 0, learned: 0 };
  const graphs = {
    embedding: buildEmbeddingGraph(models),
    "a teacher's layer": buildTeacherGraph(models, 0),
    probabilities: buildAttentionGraph(models, layers, "probabilities"),
    outputs: buildAttentionGraph(models, layers, "outputs"),
    hidden: buildStreamGraph(models, 0),
  };
  for (const [name, graph] of Object.entries(graphs))
    yield { name: `transfer: ${name}`, graph, feeds: makeFeeds(graph, { position_ids: positions() }), host: [] };
}

/** Places of scored tokens among the B·T. */
const SCORED = makeInt64Tensor([0, 3, 4, 9, 13, 17, 22, 30, 31], [9]);

function* listModels(): Generator<GraphCase> {
  const mask = Array.from({ length: BATCH * (PAST + LENGTH) }, (_, i) => (i >= 2 ? 1 : 0));
  const attention_mask = makeInt64Tensor(mask, [BATCH, PAST + LENGTH]);
  for (const variant of VARIANTS) {
    const scoring = buildScoringGraph(form({ variant }), dense, { kind: "mean" });
    const scored = makeFeeds(scoring, { rows: SCORED, position_ids: positions() });
    yield { name: `scoring against a dense model: ${variant}`, graph: scoring, feeds: scored, host: null };
    const decoder = buildDecoderGraph(form({ variant }), { kind: "mean" });
    const fed = makeFeeds(decoder, { attention_mask, position_ids: positions(PAST) });
    yield { name: `decoder with a cache and a mask: ${variant}`, graph: decoder, feeds: fed, host: null };
  }
  const comparison = buildComparisonGraph(VOCABULARY, "float32", "float32");
  const compared = makeFeeds(comparison, { rows: makeInt64Tensor([0, 2, 4, 6, 8, 9, 10, 11, 1], [9]) });
  yield { name: "the comparison of two files' logits", graph: comparison, feeds: compared, host: [] };
}

/** Rows of logits around −200, −120, …, 200, of which the largest comes several times. */
function buildExtremes(): GraphCase {
  const graph = new Graph();
  const [rows, size] = [6, 33];
  const x = graph.input("x", "float32", [rows, size]);
  graph.output(logSoftmax(x), "log_softmax");
  graph.output(reduceLogSumExp(x, [1], true), "kept");
  graph.output(reduceLogSumExp(x, [1]), "dropped");
  graph.output(argMax(x), "places");
  const values = Array.from({ length: rows * size }, (_, i) => 80 * Math.floor(i / size) - 200 + ((7 * i) % 11));
  return { name: "logits up to ±200", graph, feeds: { x: floats(values, [rows, size]) }, host: [] };
}

export const GRAPH_CASES: readonly GraphCase[] = [
  ...listSteps(),
  ...listTransferGraphs(),
  ...listModels(),
  buildExtremes(),
];

/** A graph that draws its own noise: a scoring graph of two layers, [2, 1, 16, 16] numbers each. */
export function buildNoisyGraph(): { graph: Graph; feeds: Tensors } {
  const graph = buildScoringGraph(form({ variant: "noise-shared" }), undefined, { kind: "generated", seed: 1 });
  return { graph, feeds: makeFeeds(graph, { rows: SCORED, position_ids: positions() }) };
}
