// Attention transfer against the formula in float64, its gradients against finite differences of that formula.
import { describe, expect, it, vi } from "vitest";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { listTransferTargets, openTransferStep, type TransferStep } from "../../../src/distill/step/transfer-step.ts";
import {
  explainNoTransfer,
  type LayerMap,
  listLayers,
  type TransferKind,
} from "../../../src/distill/transfer-match.ts";
import { NfcError } from "../../../src/errors.ts";
import type { DeviceMemory } from "../../../src/graph/device-memory.ts";
import { Session } from "../../../src/graph/session.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import type { Variant } from "../../../src/model/variants.ts";
import { type TinyOptions, tinyModelConfig } from "../../support/make-checkpoint.ts";
import { countLeaks } from "../../support/session-faults.ts";
import { compareWithDifferences, randomWeights } from "../../support/transfer.ts";

const [BATCH, LENGTH] = [2, 20];
const OPTIONS: TinyOptions = { width: 8, heads: 2, positions: 20, vocab: 11 };
const INPUTS = Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (i * i + 3 * i) % 11);

type Weights = Map<string, Float64Array | Float32Array>;

async function opened(
  student: ModelConfig,
  teacher: ModelConfig,
  {
    kind = "probabilities",
    layers = listLayers(student.n_layer),
    isTrained = () => true,
    memory,
  }: {
    kind?: TransferKind;
    layers?: LayerMap;
    isTrained?: (name: string) => boolean;
    memory?: DeviceMemory;
  } = {},
) {
  const specs = listParameters(student).map((spec) => ({ ...spec, trained: isTrained(spec.name) }));
  const store = new ParameterStore(specs);
  for (const [name, values] of randomWeights(student, 5)) store.value(name).set(values);
  const teacherWeights = randomWeights(teacher, 9);
  const step = await openTransferStep(
    { student, teacher, teacherWeights, kind, layers: layers ?? [], batch: BATCH, length: LENGTH, threads: 1, memory },
    store,
  );
  return { store, teacherWeights, step };
}

/** [at the row] ln_1 of layer 0 */
function normed(x: readonly number[], weights: Weights): number[] {
  const mean = x.reduce((a, b) => a + b) / x.length;
  const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
  const [scale, shift] = ["weight", "bias"].map((part) => weights.get(`h.0.ln_1.${part}`));
  return x.map((v, c) => ((v - mean) / Math.sqrt(variance + 1e-5)) * (scale?.[c] as number) + (shift?.[c] ?? 0));
}

/** T5's bucket of a distance, written apart from the code that it checks. */
const bucket = (d: number, positions: number) =>
  d < 16 ? d : Math.min(31, 16 + Math.floor((16 * Math.log(d / 16)) / Math.log(positions / 16) + 1e-9));

/** ln P of layer 0 for one window: [H][T][T], −∞ above the diagonal. `x`: [T][C], the teacher's embeddings. */
function logAttention(x: number[][], weights: Weights, config: ModelConfig): number[][][] {
  const [width, heads] = [config.n_embd, config.n_head];
  const size = width / heads;
  const [rank, valueRank] = [config.qk_ranks?.[0] ?? size, config.vo_ranks?.[0] ?? size];
  const untied = ["dense", "low-rank"].includes(config.variant);
  const columns = heads * ((untied ? 2 : 1) * rank + valueRank);
  const matrix = weights.get("h.0.attn.c_attn.weight") as Float64Array;
  const bias = weights.get("h.0.attn.c_attn.bias");
  const rows = x.map((row) => normed(row, weights));
  const projected = (row: number[], first: number) =>
    Array.from({ length: rank }, (_, d) =>
      row.reduce((sum, v, c) => sum + v * (matrix[c * columns + first + d] as number), bias?.[first + d] ?? 0),
    );
  const mean = weights.get("h.0.attn.noise_mean");
  const pair = weights.get("h.0.attn.pair"); // [H, D, D]
  return Array.from({ length: heads }, (_, h) => {
    const [queries, keys] = [0, untied ? heads * rank : 0].map((part) =>
      rows.map((row) => projected(row, part + h * rank)),
    ) as [number[][], number[][]];
    const form = (a: number, b: number) => (pair ? (pair[(h * size + a) * size + b] as number) : Number(a === b));
    return queries.map((query, i) => {
      const scores = keys.slice(0, i + 1).map((key, j) => {
        let dot = 0;
        for (const [a, q] of query.entries()) for (const [b, k] of key.entries()) dot += q * form(a, b) * k;
        const noise =
          config.variant === "noise-distance" ? (mean?.[h * 32 + bucket(i - j, config.n_positions)] as number) : 0;
        return (dot + noise) / Math.sqrt(size);
      });
      const largest = Math.max(...scores);
      const normalizer = largest + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - largest), 0));
      return scores.map((s) => s - normalizer);
    });
  });
}

/** Mean over windows, heads and queries of KL(P_teacher ‖ P_student) in a model of one layer. */
function formula(student: [ModelConfig, Weights], teacher: [ModelConfig, Weights]): number {
  const [config, weights] = teacher;
  const width = config.n_embd;
  const at = (name: string, row: number, c: number) => weights.get(name)?.[row * width + c] as number;
  let sum = 0;
  for (let window = 0; window < BATCH; window++) {
    const x = Array.from({ length: LENGTH }, (_, t) =>
      Array.from(
        { length: width },
        (_, c) => at("wte.weight", INPUTS[window * LENGTH + t] as number, c) + at("wpe.weight", t, c),
      ),
    );
    const [p, q] = [logAttention(x, weights, config), logAttention(x, student[1], student[0])];
    for (const [h, rows] of p.entries())
      for (const [i, row] of rows.entries())
        for (const [j, logP] of row.entries()) sum += Math.exp(logP) * (logP - (q[h]?.[i]?.[j] as number));
  }
  return sum / (BATCH * LENGTH * config.n_head);
}

const CASES: [string, Variant, TinyOptions, TinyOptions][] = [
  ["dense", "dense", {}, {}],
  ["symmetric", "symmetric", {}, {}],
  ["noise-per-head", "noise-per-head", {}, {}],
  ["noise-distance", "noise-distance", {}, {}],
  ["symmetric without biases", "symmetric", { bias: false }, { bias: false }],
  ["without biases, of a teacher with them", "symmetric", { bias: false }, {}],
  ["of a wider MLP", "noise-distance", { inner: 12 }, { inner: 40 }],
  ["of a symmetric teacher", "symmetric", {}, { variant: "symmetric" }],
  ["pairwise", "pairwise", {}, {}],
  ["low-rank", "low-rank", {}, {}],
  ["low-rank of a low-rank teacher", "low-rank", { bias: false }, { variant: "low-rank" }],
];

/** The widths of heads that tests give where a variant has any. */
const WIDTHS: Partial<Record<Variant, Pick<ModelConfig, "qk_ranks" | "vo_ranks">>> = {
  pairwise: { vo_ranks: [3] },
  "low-rank": { qk_ranks: [3], vo_ranks: [2] },
};

describe("the transfer of one layer", () => {
  it.each(CASES)("the transfer's loss and gradients are the formula's: %s", async (_, variant, own, other) => {
    const student = { ...tinyModelConfig({ ...OPTIONS, ...own, variant, layers: 1 }), ...WIDTHS[variant] };
    const teacher = tinyModelConfig({ ...OPTIONS, ...other, layers: 1 });
    const { store, teacherWeights, step } = await opened(student, teacher);
    const weights: Weights = new Map(store.names.map((name) => [name, Float64Array.from(store.value(name))]));
    const loss = () => formula([student, weights], [teacher, teacherWeights]);
    expect(await step.run(INPUTS, 0.25)).toBeCloseTo(loss(), 5);
    expect(loss()).toBeGreaterThan(0.01);
    const names = step.targets;
    const largest = compareWithDifferences({ names, weights, store, loss, weight: 0.25, stride: 5, tolerance: 1e-6 });
    expect(largest).toBeGreaterThan(1e-4);
    await step.close();
  });

  it("the transfer has no gradient for V", async () => {
    const config = tinyModelConfig({ ...OPTIONS, variant: "symmetric", layers: 1 });
    const { store, step } = await opened(config, tinyModelConfig({ ...OPTIONS, layers: 1 }));
    const { gradient } = store.slot("h.0.attn.c_attn.weight");
    gradient.fill(7);
    await step.run(INPUTS, 1);
    const [s, v] = [0, 8].map((from) => gradient.filter((_, i) => i % 16 >= from && i % 16 < from + 8));
    expect(s?.every((x) => x !== 0)).toBe(true);
    expect(v?.every((x) => x === 0)).toBe(true);
    await step.close();
  });
});

it("the transfer of layers whose heads differ in width has the gradients of its loss", async () => {
  const config = { ...tinyModelConfig({ ...OPTIONS, variant: "low-rank", layers: 3 }), qk_ranks: [1, 4, 1] };
  const { store, step } = await opened(config, tinyModelConfig({ ...OPTIONS, layers: 3 }));
  await checkAlongGradient(store, step, step.targets);
  await step.close();
});

/** Along its own gradient a loss rises by the gradient's norm. */
async function checkAlongGradient(store: ParameterStore, step: TransferStep, names: readonly string[]): Promise<void> {
  await step.run(INPUTS, 1);
  const gradients = names.map((name) => store.slot(name).gradient.slice());
  const norm = Math.sqrt(gradients.flatMap((g) => [...g]).reduce((sum, x) => sum + x * x, 0));
  const move = async (length: number) => {
    for (const [k, name] of names.entries())
      store.value(name).forEach((x, i, values) => {
        values[i] = x + (length * (gradients[k]?.[i] as number)) / norm;
      });
    return step.run(INPUTS, 1);
  };
  const up = await move(1e-2);
  const down = await move(-2e-2);
  await move(1e-2);
  expect((up - down) / 2e-2 / norm).toBeCloseTo(1, 2);
}

describe("the transfer of three layers", () => {
  it.each([false, true])(
    "the transfer's gradients are those of its loss (scores scaled by layer: %s)",
    async (inverse) => {
      const more = { layers: 3, scale: inverse };
      const config = (variant: Variant): ModelConfig => ({
        ...tinyModelConfig({ ...OPTIONS, variant, layers: more.layers }),
        scale_attn_by_inverse_layer_idx: inverse,
      });
      const { store, step } = await opened(config("noise-distance"), config("dense"));
      for (let layer = 0; layer < 3; layer++)
        await checkAlongGradient(
          store,
          step,
          step.targets.filter((name) => name.startsWith(`h.${layer}.`)),
        );
      await step.close();
    },
  );
});

it("the transfer's loss and gradients are 0 where the student is its teacher", async () => {
  const config = tinyModelConfig({ ...OPTIONS, layers: 2 });
  const { store, teacherWeights, step } = await opened(config, config);
  for (const [name, values] of teacherWeights) store.value(name).set(values);
  expect(Math.abs(await step.run(INPUTS, 1))).toBeLessThan(1e-6);
  for (const name of step.targets) expect(Math.max(...store.slot(name).gradient.map(Math.abs))).toBeLessThan(1e-6);
  await step.close();
});

it.each<TransferKind>(["probabilities", "outputs", "hidden"])(
  "what is not trained gets no gradient, and the rest gets the same: %s",
  async (kind) => {
    const config = tinyModelConfig(OPTIONS);
    const isTrained = (name: string) => name.includes("attn.c_attn");
    const [part, whole] = [await opened(config, config, { kind, isTrained }), await opened(config, config, { kind })];
    expect(part.step.targets).toEqual(whole.step.targets.filter(isTrained));
    expect(await part.step.run(INPUTS, 1)).toBeCloseTo(await whole.step.run(INPUTS, 1), 6);
    for (const name of part.step.targets)
      for (const [i, value] of part.store.slot(name).gradient.entries())
        expect(value).toBeCloseTo(whole.store.slot(name).gradient[i] as number, 6);
    for (const { step } of [part, whole]) await step.close();
  },
);

it("the transfer of probabilities takes models of equal heads and width, and trains what makes their scores", () => {
  const config = tinyModelConfig(OPTIONS);
  const explain = (teacher: ModelConfig, kind: TransferKind = "probabilities") =>
    explainNoTransfer(config, teacher, { kind, layers: [0, 1] });
  expect(explain({ ...config, n_inner: 5, variant: "symmetric", vocab_size: 4 })).toBeNull();
  expect(explain({ ...config, n_head: 4 })).toBe("has n_head 4, not 2");
  expect(explain({ ...config, n_head: 4 }, "outputs")).toBeNull();
  expect(explain({ ...config, n_embd: 16 }, "hidden")).toBe("has n_embd 16, not 8");
  expect(explainNoTransfer(config, { ...config, n_layer: 3 }, { kind: "hidden", layers: null })).toBe(
    "has 3 layers, and nothing says from which the student's 2 came",
  );
  const targets = (more: Partial<ModelConfig>, kind: TransferKind = "probabilities") =>
    listTransferTargets({ ...config, n_layer: 1, ...more }, kind);
  expect(targets({})).toEqual(["h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias"]);
  expect(targets({ bias: false, variant: "noise-distance" })).toEqual([
    "h.0.attn.c_attn.weight",
    "h.0.attn.noise_mean",
  ]);
  expect(targets({ variant: "noise-shared" })).not.toContain("h.0.attn.noise_mean");
  expect(targets({ variant: "pairwise" })).toContain("h.0.attn.pair");
  expect(targets({}, "outputs")).toEqual([
    "h.0.attn.c_attn.weight",
    "h.0.attn.c_attn.bias",
    "h.0.attn.c_proj.weight",
    "h.0.attn.c_proj.bias",
  ]);
  expect(targets({ bias: false, n_layer: 2 }, "hidden").filter((name) => name.startsWith("h.1."))).toHaveLength(6);
});

describe("sessions of a transfer", () => {
  it("are all closed where the memory of the streams does not suffice", async () => {
    const config = tinyModelConfig(OPTIONS);
    const memory = { zeros: () => Promise.reject(new NfcError("device", "no room")) } as unknown as DeviceMemory;
    const opening = vi.spyOn(Session, "withInputs");
    const closing = vi.spyOn(Session.prototype, "close");
    await expect(opened(config, config, { memory })).rejects.toThrow("no room");
    expect(closing).toHaveBeenCalledTimes(opening.mock.calls.length);
    expect(opening).toHaveBeenCalled();
    vi.restoreAllMocks();
  });

  it.each([2, 3])("are all closed where number %i does not open", async (nth) => {
    const narrow = { ...tinyModelConfig(OPTIONS), variant: "low-rank", qk_ranks: [2, 3] } as const;
    expect(await countLeaks(nth, () => opened(narrow, tinyModelConfig(OPTIONS)))).toBe(0);
  });
});
