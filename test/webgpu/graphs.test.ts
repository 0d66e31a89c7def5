// The graphs of training, transfer, scoring and generation on WebGPU: the CPU's numbers, the same bits twice, no node left over.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildStepGraph, STEP, type StepOptions } from "../../src/distill/step/step-graph.ts";
import {
  buildAttentionGraph,
  buildEmbeddingGraph,
  buildStreamGraph,
  buildTeacherGraph,
} from "../../src/distill/step/transfer-graphs.ts";
import { openSampledTeacher } from "../../src/distill/teacher/sampled.ts";
import { openTopKTeacher } from "../../src/distill/teacher/top-k.ts";
import { Graph } from "../../src/graph/ir.ts";
import { argMax, logSoftmax, reduceLogSumExp } from "../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type Tensor, type Tensors } from "../../src/graph/session.ts";
import { buildComparisonGraph, buildScoringGraph } from "../../src/inference/score/scoring-graph.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { buildDecoderGraph } from "../../src/model/decoder-graph.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANT_TRAITS, VARIANTS } from "../../src/model/variants.ts";
import { buildClassifierStepGraph } from "../../src/tasks/train/step-graph.ts";
import { compareDevices, keepPrograms, makeFeeds, readPlacement } from "../support/both-devices.ts";
import { MODEL, opened } from "../support/fixture.ts";
import { type TinyOptions, tinyModelConfig } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const path = temporaryFolder("webgpu");
const [BATCH, LENGTH, VOCABULARY, K] = [2, 16, 61, 5];
const TINY: TinyOptions = { width: 32, heads: 4, positions: 32, vocab: VOCABULARY };
const WINDOW = { batch: BATCH, length: LENGTH };
const SIZES = { batch_size: BATCH, sequence_length: LENGTH, past_sequence_length: 3, scored: 9, positions: 12 };

let count = 0;

/** Holds a graph on WebGPU against the CPU; gives the nodes that the CPU ran all the same. */
async function holdAgainstCpu(graph: Graph, feeds: Tensors): Promise<string[]> {
  const { error, output, repeats, placement } = await compareDevices(graph, feeds, path(`profile-${count++}`));
  expect(error, `relative error of ${output}`).toBeLessThan(1e-4);
  expect(repeats, "two runs give the same bits").toBe(true);
  expect(placement.device).toBeGreaterThan(0);
  if (process.env.SHOW)
    console.log(
      expect.getState().currentTestName,
      error,
      output,
      placement.device,
      placement.copies,
      placement.host.join("; "),
    );
  return placement.host;
}

const form = (options: TinyOptions, more: Partial<ModelConfig> = {}): ModelConfig => ({
  ...tinyModelConfig({ ...TINY, ...options }),
  ...more,
});
const namesOf = (config: ModelConfig) => new Set(listParameters(config).map(({ name }) => name));

/** What a step is fed besides what `makeFeeds` makes up: row weights that sum to 1, a teacher's distribution of k tokens. */
function stepFeeds(own: Tensors = {}): Tensors {
  const rows = BATCH * LENGTH;
  const rowWeights = makeFloat32Tensor(new Float32Array(rows).fill(0.5 / rows), [rows, 1]);
  const perToken = (value: (i: number) => number) => Array.from({ length: rows * K }, (_, i) => value(i));
  return {
    position_ids: positions(LENGTH),
    [STEP.nllWeight]: rowWeights,
    [STEP.klWeight]: rowWeights,
    [STEP.teacherIds]: makeInt64Tensor(
      perToken((i) => ((i % K) * 7 + i) % VOCABULARY),
      [rows, K],
    ),
    [STEP.teacherLogProbabilities]: floats(
      perToken((i) => Math.log((0.8 / K) * (1 + 0.1 * Math.sin(i)))),
      [rows, K],
    ),
    [STEP.teacherWeights]: floats(
      perToken(() => 1 / K),
      [rows, K],
    ),
    ...own,
  };
}

const floats = (values: readonly number[], shape: readonly number[]) =>
  makeFloat32Tensor(Float32Array.from(values), shape);
const positions = (length: number, from = 0) =>
  makeInt64Tensor(
    Array.from({ length: BATCH * length }, (_, i) => from + (i % length)),
    [BATCH, length],
  );

const HIDDEN = { kind: "hidden", n_embd: 32, precision: "fp32" } as const;
type StepCase = [name: string, config: ModelConfig, options: Partial<StepOptions>];

/** Every variant, its noise fed where it has any and at the mean, with the hidden states of a teacher. */
const FORMS: StepCase[] = VARIANTS.flatMap((variant) => {
  const config = form({ variant }, variant === "low-rank" ? { qk_ranks: [4, 3], vo_ranks: [6, 5] } : {});
  const noise = VARIANT_TRAITS[variant].noise ? (["fed", "mean"] as const) : (["mean"] as const);
  return noise.map((mode): StepCase => [`${variant}, noise ${mode}`, config, { noise: mode, teacher: HIDDEN }]);
});

const dense = form({});
const STEPS: StepCase[] = [
  ...FORMS,
  ["the teacher's k most likely tokens", dense, { teacher: { kind: "top-k", k: K } }],
  ["k tokens drawn from the teacher", dense, { teacher: { kind: "sampled", k: K } }],
  ["temperature 2, head in pieces", dense, { teacher: HIDDEN, temperature: 2, vocabularyChunk: 20, rowsAtOnce: 12 }],
  ["without a teacher", dense, {}],
  ["a head of its own, no biases", form({ head: "own", bias: false }), {}],
  ["gelu", form({}, { activation: "gelu" }), {}],
  ["relu", form({}, { activation: "relu" }), {}],
  ["silu", form({}, { activation: "silu" }), {}],
  ["tanh", form({}, { activation: "tanh" }), {}],
];

/**
 * The sums and products of a few run-time sizes, which are the host's: it has to know them before it starts a program of
 * the device.
 */
const isSizeArithmetic = (node: string) => /^(Squeeze|Cast|Add|Sub|Mul|Concat) int(32|64)\[[1-4]?\]$/.test(node);

describe.skipIf(!SOFTWARE_GPU)(`graphs on WebGPU${WHY_NO_GPU}`, { timeout: 120_000 }, () => {
  let keeper: Session;
  beforeAll(async () => {
    keeper = await keepPrograms();
  });
  afterAll(() => keeper?.close());

  it.each(STEPS)("step: %s", async (_, config, options) => {
    const { graph } = buildStepGraph({
      config,
      ...WINDOW,
      trained: namesOf(config),
      noise: "mean",
      teacher: null,
      ...options,
    });
    expect(await holdAgainstCpu(graph, makeFeeds(graph, { below: VOCABULARY, own: stepFeeds() }))).toEqual([]);
  });

  it("step: an int8 teacher, whose head's products are the CPU's", async () => {
    const { graph } = buildStepGraph({
      config: dense,
      ...WINDOW,
      trained: namesOf(dense),
      noise: "mean",
      teacher: { kind: "hidden", n_embd: 32, precision: "int8" },
    });
    const rows = BATCH * LENGTH;
    expect(await holdAgainstCpu(graph, makeFeeds(graph, { below: VOCABULARY, own: stepFeeds() }))).toEqual([
      `DynamicQuantizeLinear uint8[${rows},32] float[] uint8[]`,
      `MatMulInteger int32[${rows},${VOCABULARY}]`,
    ]);
  });

  it.each(["fed", "mean"] as const)("step of a classifier, noise %s", async (noise) => {
    const config = form({ variant: "noise-distance", labels: 3 });
    const graph = buildClassifierStepGraph({
      config,
      ...WINDOW,
      trained: namesOf(config),
      noise,
      kd: 0.5,
      temperature: 2,
    });
    const own = stepFeeds({ last: makeInt64Tensor([11, 31], [BATCH]) });
    expect(await holdAgainstCpu(graph, makeFeeds(graph, { below: VOCABULARY, own }))).toEqual([]);
  });

  const models = { student: form({ variant: "noise-distance" }), teacher: dense, ...WINDOW };
  const layers = { taught: 0, learned: 0 };
  it.each<[string, Graph]>([
    ["embedding", buildEmbeddingGraph(models)],
    ["a teacher's layer", buildTeacherGraph(models, 0)],
    ["probabilities", buildAttentionGraph(models, layers, "probabilities")],
    ["outputs", buildAttentionGraph(models, layers, "outputs")],
    ["hidden", buildStreamGraph(models, 0)],
  ])("transfer: %s", async (_, graph) => {
    const own = { position_ids: positions(LENGTH) };
    expect(await holdAgainstCpu(graph, makeFeeds(graph, { below: VOCABULARY, own }))).toEqual([]);
  });

  it.each(VARIANTS)("scoring against a dense model: %s", async (variant) => {
    const graph = buildScoringGraph(form({ variant }), dense, { kind: "mean" });
    const rows = makeInt64Tensor([0, 3, 4, 9, 13, 17, 22, 30, 31], [SIZES.scored]);
    const own = { rows, position_ids: positions(LENGTH) };
    const host = await holdAgainstCpu(graph, makeFeeds(graph, { sizes: SIZES, below: VOCABULARY, own }));
    expect(host.filter((node) => !isSizeArithmetic(node))).toEqual([]);
  });

  it("the comparison of two files' logits", async () => {
    const graph = buildComparisonGraph(VOCABULARY, "float32", "float32");
    const own = { rows: makeInt64Tensor([0, 2, 4, 6, 8, 9, 10, 11, 1], [SIZES.scored]) };
    expect(await holdAgainstCpu(graph, makeFeeds(graph, { sizes: SIZES, below: VOCABULARY, own }))).toEqual([]);
  });

  it.each(VARIANTS)("decoder with a cache and a mask: %s", async (variant) => {
    const graph = buildDecoderGraph(form({ variant }), { kind: "mean" });
    const total = SIZES.past_sequence_length + LENGTH;
    const mask = Array.from({ length: BATCH * total }, (_, i) => (i >= 2 ? 1 : 0));
    const own = { attention_mask: makeInt64Tensor(mask, [BATCH, total]), position_ids: positions(LENGTH, 3) };
    const sizes = { ...SIZES, key_size_0: 4, key_size_1: 4 };
    const host = await holdAgainstCpu(graph, makeFeeds(graph, { sizes, below: VOCABULARY, own }));
    expect(host.filter((node) => !isSizeArithmetic(node))).toEqual([]);
  });

  it("softmax, sums of exponentials and places of the largest, for logits up to ±200", async () => {
    const graph = new Graph();
    const [rows, size] = [6, 33];
    const x = graph.input("x", "float32", [rows, size]);
    graph.output(logSoftmax(x), "log_softmax");
    graph.output(reduceLogSumExp(x, [1], true), "kept");
    graph.output(reduceLogSumExp(x, [1]), "dropped");
    graph.output(argMax(x), "places");
    // Rows around −200, −120, …, 200; the largest of each comes twice.
    const values = Array.from({ length: rows * size }, (_, i) => 80 * Math.floor(i / size) - 200 + ((7 * i) % 11));
    expect(await holdAgainstCpu(graph, { x: floats(values, [rows, size]) })).toEqual([]);
  });

  it.each([
    ["most likely", openTopKTeacher],
    ["drawn", openSampledTeacher],
  ] as const)("the k %s tokens of a teacher, of which the host joins the places", async (kind, open) => {
    const inputs = Int32Array.from({ length: LENGTH }, (_, i) => (37 * i) % 384);
    const prefix = path(`teacher-${kind}`);
    const options = { length: LENGTH, k: K, precision: "fp32", rowsAtOnce: 7, threads: 1 } as const;
    await opened(MODEL, async (checkpoint) => {
      const [cpu, gpu] = [
        await open(checkpoint, options),
        await open(checkpoint, { ...options, device: "webgpu", profile: prefix }),
      ];
      const [expected, got] = [await cpu.run(inputs, 0), await gpu.run(inputs, 0)];
      await cpu.close();
      await gpu.close();
      expect(got.ids).toEqual(expected.ids);
      for (const [i, value] of expected.logProbabilities.entries())
        expect(Math.abs((got.logProbabilities[i] as number) - value)).toBeLessThan(1e-4 * Math.abs(value));
    });
    const { host } = readPlacement(prefix);
    expect(host).toEqual(kind === "drawn" ? [] : [`Concat int64[${LENGTH},${K}]`]);
  });

  it("noise that the graph draws is the CPU's", async () => {
    const graph = buildScoringGraph(form({ variant: "noise-shared" }), undefined, { kind: "generated", seed: 1 });
    const feeds = makeFeeds(graph, { sizes: SIZES, below: VOCABULARY, own: { position_ids: positions(LENGTH) } });
    const prefix = path("drawn-noise");
    const session = await Session.withInputs(graph, { device: "webgpu", threads: 1, profile: prefix });
    const { nll } = await session.run(feeds);
    await session.close();
    expect([...(nll as Tensor).data].every((value) => Number.isFinite(value))).toBe(true);
    const host = readPlacement(prefix).host.filter((node) => !isSizeArithmetic(node));
    expect(host).toEqual(Array(2).fill(`RandomNormalLike float[${BATCH},1,${LENGTH},${LENGTH}]`));
  });
});
