// Transfer by outputs and by hidden states against blocks in float64, their gradients against finite differences of those.
import { describe, expect, it } from "vitest";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { planTransfer } from "../../../src/distill/step/transfer-plan.ts";
import { openTransferStep } from "../../../src/distill/step/transfer-step.ts";
import { listLayers, type TransferKind } from "../../../src/distill/transfer-match.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { type TinyOptions, tinyModelConfig } from "../../support/make-checkpoint.ts";
import { compareWithDifferences, randomWeights } from "../../support/transfer.ts";

const [BATCH, LENGTH] = [2, 5];
const OPTIONS: TinyOptions = { width: 8, heads: 2, positions: 20, vocab: 11 };
const INPUTS = Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * i + 3 * i) % 11);

type Weights = Map<string, Float64Array>;
type Rows = number[][]; // [T][C]

const exactWeights = (config: ModelConfig, seed: number): Weights =>
  new Map([...randomWeights(config, seed)].map(([name, values]) => [name, Float64Array.from(values)]));

const at = (values: ArrayLike<number> | undefined, index: number) => values?.[index] ?? 0;

function norm(rows: Rows, weights: Weights, name: string): Rows {
  return rows.map((x) => {
    const mean = x.reduce((a, b) => a + b) / x.length;
    const deviation = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length + 1e-5);
    return x.map(
      (v, c) => ((v - mean) / deviation) * at(weights.get(`${name}.weight`), c) + at(weights.get(`${name}.bias`), c),
    );
  });
}

function linear(rows: Rows, weights: Weights, name: string): Rows {
  const matrix = weights.get(`${name}.weight`) as Float64Array;
  const bias = weights.get(`${name}.bias`);
  return rows.map((x) => {
    const columns = matrix.length / x.length;
    return Array.from({ length: columns }, (_, j) =>
      x.reduce((sum, v, c) => sum + v * at(matrix, c * columns + j), at(bias, j)),
    );
  });
}

/** Attention of one window, its heads as wide as the configuration says: [T][C] */
function attend(rows: Rows, weights: Weights, config: ModelConfig, layer: number): Rows {
  const { n_head: heads, n_embd, variant } = config;
  const size = n_embd / heads;
  const [rank, valueRank] = [config.qk_ranks?.[layer] ?? size, config.vo_ranks?.[layer] ?? size];
  const untied = variant === "dense" || variant === "low-rank";
  const projected = linear(norm(rows, weights, `h.${layer}.ln_1`), weights, `h.${layer}.attn.c_attn`);
  const pair = weights.get(`h.${layer}.attn.pair`);
  const valuesFrom = (untied ? 2 : 1) * heads * rank;
  const mixed = projected.map((query, i) =>
    Array.from({ length: heads * valueRank }, (_, column) => {
      const h = Math.floor(column / valueRank);
      const scores = projected.slice(0, i + 1).map((key) => {
        let dot = 0;
        for (let a = 0; a < rank; a++)
          for (let b = 0; b < rank; b++)
            dot +=
              at(query, h * rank + a) *
              (pair ? at(pair, (h * size + a) * size + b) : Number(a === b)) *
              at(key, (untied ? heads * rank : 0) + h * rank + b);
        return dot / Math.sqrt(size);
      });
      const most = Math.max(...scores);
      const powers = scores.map((s) => Math.exp(s - most));
      const sum = powers.reduce((a, b) => a + b);
      return powers.reduce((out, p, j) => out + (p / sum) * at(projected[j], valuesFrom + column), 0);
    }),
  );
  return linear(mixed, weights, `h.${layer}.attn.c_proj`);
}

const plus = (a: Rows, b: Rows): Rows => a.map((row, i) => row.map((x, c) => x + at(b[i], c)));
const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

function block(x: Rows, weights: Weights, config: ModelConfig, layer: number): Rows {
  const middle = plus(x, attend(x, weights, config, layer));
  const inner = linear(norm(middle, weights, `h.${layer}.ln_2`), weights, `h.${layer}.mlp.c_fc`);
  return plus(
    middle,
    linear(
      inner.map((row) => row.map(gelu)),
      weights,
      `h.${layer}.mlp.c_proj`,
    ),
  );
}

type Model = readonly [ModelConfig, Weights];

/** Σ over the student's layers of the mean over rows of ‖y − t‖²/‖s‖². */
function formula(student: Model, teacher: Model, kind: TransferKind, layers: readonly number[]): number {
  const width = teacher[0].n_embd;
  const table = (name: string) => teacher[1].get(name);
  let sum = 0;
  const compare = (y: Rows, t: Rows, s: Rows) => {
    for (const [i, row] of t.entries())
      sum +=
        row.reduce((all, x, c) => all + (at(y[i], c) - x) ** 2, 0) /
        (s[i] as number[]).reduce((all, x) => all + x * x, 0);
  };
  for (let window = 0; window < BATCH; window++) {
    const streams: Rows[] = [
      Array.from({ length: LENGTH }, (_, t) =>
        Array.from(
          { length: width },
          (_, c) =>
            at(table("wte.weight"), at(INPUTS, window * LENGTH + t) * width + c) +
            at(table("wpe.weight"), t * width + c),
        ),
      ),
    ];
    for (let layer = 0; layer < teacher[0].n_layer; layer++)
      streams.push(block(streams[layer] as Rows, teacher[1], teacher[0], layer));
    for (const [learned, taught] of layers.entries()) {
      if (kind === "outputs") {
        const x = streams[taught] as Rows;
        const target = attend(x, teacher[1], teacher[0], taught);
        compare(attend(x, student[1], student[0], learned), target, plus(x, target));
      } else {
        const target = streams[layers[learned + 1] ?? teacher[0].n_layer] as Rows;
        compare(block(streams[learned === 0 ? 0 : taught] as Rows, student[1], student[0], learned), target, target);
      }
    }
  }
  return sum / (BATCH * LENGTH);
}

const FORMS: [string, Partial<ModelConfig>][] = [
  ["symmetric", { variant: "symmetric", n_inner: 12 }],
  ["pairwise", { variant: "pairwise", vo_ranks: [2, 3] }],
  ["low-rank", { variant: "low-rank", qk_ranks: [1, 3], vo_ranks: [3, 1] }],
  ["dense of a narrow MLP, without biases", { variant: "dense", n_inner: 6, bias: false }],
];

describe.each([
  ["outputs", [0, 1]],
  ["outputs", [0, 2]],
  ["hidden", [0, 1]],
  ["hidden", [1, 2]],
  ["hidden", [0, 3]],
] as const)("the transfer by %s of layers %j", (kind, layers) => {
  it.each(FORMS)("has the formula's loss and gradients: %s", async (_, form) => {
    const student: ModelConfig = { ...tinyModelConfig({ ...OPTIONS, layers: 2 }), ...form };
    const count = layers[1] === 1 ? 2 : 4;
    const teacher = tinyModelConfig({ ...OPTIONS, layers: count });
    const [own, taught] = [exactWeights(student, 5), exactWeights(teacher, 9)];
    const store = new ParameterStore(listParameters(student).map((spec) => ({ ...spec, trained: true })));
    for (const [name, values] of own) store.value(name).set(values);
    const teacherWeights = new Map([...taught].map(([name, values]) => [name, Float32Array.from(values)]));
    const models = { student, teacher, teacherWeights, kind, layers };
    const step = await openTransferStep({ ...models, batch: BATCH, length: LENGTH, threads: 1 }, store);
    const loss = () => formula([student, own], [teacher, taught], kind, layers);
    const measured = await step.run(INPUTS, 0.25);
    expect(measured / loss()).toBeCloseTo(1, 5);
    const chosen = { names: step.targets, first: (name: string) => name.length % 7, stride: 29 };
    const largest = compareWithDifferences({ ...chosen, weights: own, store, loss, weight: 0.25, tolerance: 2e-6 });
    expect(largest).toBeGreaterThan(1e-3);
    await step.close();
  });
});

it("a student that is its teacher has nothing to learn, by either", async () => {
  const config = tinyModelConfig(OPTIONS);
  const weights = randomWeights(config, 5);
  for (const kind of ["outputs", "hidden"] as const) {
    const store = new ParameterStore(listParameters(config).map((spec) => ({ ...spec, trained: true })));
    for (const [name, values] of weights) store.value(name).set(values);
    const models = { student: config, teacher: config, teacherWeights: weights, kind, layers: listLayers(2) };
    const step = await openTransferStep({ ...models, batch: BATCH, length: LENGTH, threads: 1 }, store);
    expect(await step.run(INPUTS, 1)).toBeLessThan(1e-10);
    for (const name of step.targets) expect(Math.max(...store.slot(name).gradient.map(Math.abs))).toBeLessThan(1e-5);
    await step.close();
  }
});

it("the stages of a transfer follow the teacher's layers", () => {
  const short = (kind: TransferKind, layers: readonly number[], count: number) =>
    planTransfer(kind, layers, count).map((stage) =>
      [stage.kind, "taught" in stage ? stage.taught : "", "learned" in stage ? `:${stage.learned}` : ""].join(""),
    );
  expect(short("probabilities", [0, 2], 4)).toEqual(["attend0:0", "teach1", "attend2:1"]);
  expect(short("outputs", [0, 1], 2)).toEqual(["attend0:0", "attend1:1"]);
  expect(short("hidden", [1, 2], 4)).toEqual(["teach0", "teach1", "match:0", "teach2", "teach3", "match:1"]);
});
