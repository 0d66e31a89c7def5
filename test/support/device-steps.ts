// Steps of training on random weights, with the parameters in the host's memory or on a device, to be compared.
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { DeviceState } from "../../src/distill/device/device-state.ts";
import { openPhase, type PhaseContext, type StepReport } from "../../src/distill/phases.ts";
import { isRounded } from "../../src/distill/rounding-settings.ts";
import { beginScale } from "../../src/distill/step/loss-scale.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { resolveTrainSettings, type TrainSettings } from "../../src/distill/train-settings.ts";
import type { SessionOptions } from "../../src/graph/session.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { listWeightForms } from "../../src/model/weight-forms.ts";
import { fakeCheckpoint } from "./fake-checkpoint.ts";
import { tinyModelConfig } from "./make-checkpoint.ts";
import { randomWeights } from "./transfer.ts";

export interface StepsCase {
  name: string;
  student?: Partial<ModelConfig>;
  settings?: Partial<TrainSettings>;
  /** Without one, the labels alone teach. */
  teacher?: boolean;
  /** The models' shape, and that of a batch, where they are not the usual small ones. */
  dense?: ModelConfig;
  batch?: { batchSize: number; length: number };
}

const SHAPE = { layers: 2, heads: 2, width: 32, positions: 24, vocab: 61 };
const BATCH = { batchSize: 2, length: 16 };
const DENSE = tinyModelConfig(SHAPE);

/** Every variant and form, and every setting that changes the graphs. */
export const STEPS_CASES: readonly StepsCase[] = [
  { name: "dense" },
  { name: "symmetric", student: { variant: "symmetric" } },
  { name: "noise-shared", student: { variant: "noise-shared" } },
  { name: "noise-per-head", student: { variant: "noise-per-head" } },
  { name: "noise-distance", student: { variant: "noise-distance" } },
  { name: "noise at its mean", student: { variant: "noise-distance" }, settings: { noise: "mean" } },
  { name: "pairwise", student: { variant: "pairwise" } },
  { name: "low-rank", student: { variant: "low-rank", qk_ranks: [8, 4], vo_ranks: [16, 12] } },
  { name: "without a teacher", teacher: false, settings: { kd: 0 } },
  { name: "at temperature 2, several micro-batches", settings: { temperature: 2, accumulate: 3 } },
  { name: "more tokens than are compared at once", batch: { batchSize: 70, length: 16 } },
  { name: "the mean of the values", settings: { average: 1 } },
  { name: "a head of its own, no biases", student: { tied_head: false, bias: false } },
  { name: "trained for q4", student: { variant: "low-rank", qk_ranks: [8, 8] }, settings: { quantize: "q4" } },
  { name: "trained for uint8, scales chosen anew", settings: { quantize: "uint8", grid: "refit" } },
  { name: "trained for int8, with the mean of the values", settings: { quantize: "int8", average: 1 } },
  { name: "noise alone", student: { variant: "noise-per-head" }, settings: { train: "noise" } },
  { name: "attention alone", student: { variant: "low-rank", qk_ranks: [8, 8] }, settings: { train: "attention" } },
  { name: "transfer of probabilities", student: { variant: "noise-distance" }, settings: { transferSteps: 3 } },
  {
    name: "transfer of outputs",
    student: { variant: "low-rank", qk_ranks: [8, 8] },
    settings: { transferSteps: 3, transfer: "outputs" },
  },
  {
    name: "transfer of hidden states",
    student: { n_inner: 48 },
    settings: { transferSteps: 2, transfer: "hidden", accumulate: 2 },
  },
];

/** A case with models of one layer, the first, and short windows: for devices on which more takes long. */
export function shrink(given: StepsCase): StepsCase {
  const { qk_ranks, vo_ranks, ...student } = given.student ?? {};
  const ranks = {
    ...(qk_ranks && { qk_ranks: qk_ranks.slice(0, 1) }),
    ...(vo_ranks && { vo_ranks: vo_ranks.slice(0, 1) }),
  };
  return {
    batch: { batchSize: 2, length: 6 },
    ...given,
    student: { ...student, ...ranks },
    dense: { ...(given.dense ?? DENSE), n_layer: 1 },
  };
}

function makeModel(config: ModelConfig, seed: number): Checkpoint {
  const weights = randomWeights(config, seed);
  const readF32 = async (name: string) => (weights.get(name) as Float32Array).slice();
  return { ...fakeCheckpoint(config, { source: `weights ${seed}` }), readF32 };
}

/** Opens the parameters of a case and its models. @param where null for the host's memory */
async function openCase(
  { student = {}, settings = {}, teacher = true, dense = DENSE, batch = BATCH }: StepsCase,
  session: SessionOptions,
  onHost: boolean,
) {
  const config = { ...dense, ...student };
  const task = teacher ? "distill" : "finetune";
  const given = {
    steps: 6,
    ...batch,
    lr: 3e-3,
    noiseLr: 1e-2,
    noiseKl: 0.01,
    // Without it, a gradient that is rounding noise, as that of a key's bias, would move a value at random.
    epsilon: 1e-5,
    transferSteps: 0,
    ...settings,
  };
  const models = { student: makeModel(config, 1), teacher: teacher ? makeModel(dense, 2) : null };
  const layers = teacher ? Array.from({ length: dense.n_layer }, (_, layer) => layer) : null;
  const resolved = resolveTrainSettings(task, config, given, models.teacher?.config, layers);
  const { train } = resolved;
  const moves = (name: string) =>
    train === "all" || name.includes("noise") || (train === "attention" && name.includes("attn."));
  const { quantize, block, symmetric } = resolved;
  const choices = { block, symmetric: symmetric === "yes" };
  const forms = quantize === "none" ? null : listWeightForms(config, quantize, choices);
  const specs = listParameters(config).map(({ name, shape }) => {
    return { name, shape, trained: moves(name), form: forms?.get(name), fixedGrid: resolved.grid === "fixed" };
  });
  const options = { accumulate: resolved.accumulate > 1, average: resolved.average > 0 };
  const store = onHost ? new ParameterStore(specs, options) : await DeviceState.open(specs, options, session);
  for (const { name } of specs)
    await store.fill(name, "value", async (into) => into.set(await models.student.readF32(name)));
  const split = {} as PhaseContext["split"]; // read by cached teachers alone
  return { ...models, settings: resolved, layers, store, session, split } satisfies PhaseContext;
}

export interface StepsResult {
  reports: StepReport[];
  norms: number[];
  /** Names of the trained parameters, and their values after the steps: the mean, where one is kept. */
  values: Record<string, Float32Array>;
  /** How far the values moved, by name. */
  moved: Record<string, number>;
}

/** Makes `steps` steps as the training loop does. */
export async function runSteps(
  given: StepsCase,
  steps: number,
  {
    session = {},
    onHost = false,
    onStep,
  }: { session?: SessionOptions; onHost?: boolean; onStep?: (step: number, tensors: number) => void } = {},
): Promise<StepsResult> {
  const context = await openCase(given, session, onHost);
  const { store, settings } = context;
  const scale = beginScale(settings).lossScale?.factor;
  const [reports, norms]: [StepReport[], number[]] = [[], []];
  let phase = await openPhase(0, context);
  try {
    for (let step = 0; step < steps; step++) {
      if (step === settings.transferSteps && step > 0) {
        await phase.close();
        phase = await openPhase(step, context);
        await phase.optimizer.reset();
      }
      await store.setRounding(isRounded(step, settings));
      store.clearTotals();
      const batches = Array.from({ length: settings.accumulate }, (_, micro) => makeBatch(step * 8 + micro, settings));
      reports.push(await phase.gradients(step - phase.start, batches, scale));
      const norm = await phase.optimizer.norm(scale);
      norms.push(norm);
      await phase.optimizer.update(step - phase.start, norm, scale);
      if (store.hasAverages) await store.addToAverage(step + 1);
      onStep?.(step, store instanceof DeviceState ? store.memory.count : 0);
    }
    const values: Record<string, Float32Array> = {};
    const moved: Record<string, number> = {};
    for (const name of store.trained) {
      values[name] = (await store.read(name, store.hasAverages ? "average" : "value")).slice();
      const before = await context.student.readF32(name);
      moved[name] = Math.sqrt(before.reduce((sum, x, i) => sum + (x - (values[name]?.[i] as number)) ** 2, 0));
    }
    return { reports, norms, values, moved };
  } finally {
    await phase.close();
    await store.close();
  }
}

/** Tokens of which many are alike, and a label that is missing. */
function makeBatch(seed: number, { batchSize, length }: Pick<TrainSettings, "batchSize" | "length">) {
  const rows = batchSize * length;
  const inputs = Int32Array.from(
    { length: rows },
    (_, i) => (i * i + 7 * seed + (i % 3 === 0 ? 0 : i)) % DENSE.vocab_size,
  );
  const labels = inputs.map((_, i) => (i === 5 ? -1 : (inputs[(i + 1) % rows] as number)));
  return { inputs, labels, windows: Int32Array.from({ length: batchSize }, (_, i) => i) };
}

/** The largest relative difference of two runs: of their losses and norms, and of what their values moved. */
export function compareSteps(a: StepsResult, b: StepsResult): { losses: number; values: number; worst: string } {
  const relative = (x: number, y: number) => Math.abs(x - y) / Math.max(Math.abs(x), 1e-6);
  const losses = a.reports.flatMap((report, step) =>
    Object.entries(report).map(([name, value]) => relative(value, b.reports[step]?.[name as "loss"] as number)),
  );
  const norms = a.norms.map((norm, step) => relative(norm, b.norms[step] as number));
  const values = Object.entries(a.values).map(([name, value]): [string, number] => {
    const apart = Math.sqrt(value.reduce((sum, x, i) => sum + (x - (b.values[name]?.[i] as number)) ** 2, 0));
    return [name, apart / Math.max(a.moved[name] as number, 1e-9)];
  });
  const [worst, apart] = values.reduce((most, each) => (each[1] > most[1] ? each : most), ["", 0]);
  return { losses: Math.max(...losses, ...norms), values: apart, worst };
}
