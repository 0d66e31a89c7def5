// Opens the two phases of a run: the transfer, layer by layer, and training on the loss.

import { type Checkpoint, readWeights } from "../checkpoint/checkpoint.ts";
import { DeviceTensor } from "../graph/device-tensor.ts";
import type { SessionOptions } from "../graph/session.ts";
import { openAll } from "../io/open-all.ts";
import type { Batch, TokenRange } from "./data/windows.ts";
import { openDeviceGradients } from "./device/device-gradients.ts";
import { openDeviceTeacher, uploadWeights } from "./device/device-teacher.ts";
import type { RunParameters } from "./device/open-parameters.ts";
import { planResidentChunks } from "./device/resident-graph.ts";
import { Optimizer } from "./step/optimizer.ts";
import { ParameterStore } from "./step/parameter-store.ts";
import { planHeadChunks } from "./step/step-graph.ts";
import { openTextGradients } from "./step/text-gradients.ts";
import { openTransferStep } from "./step/transfer-step.ts";
import { openCachedTeacher } from "./teacher/cache.ts";
import { openTeacher, type TeacherSource } from "./teacher/teacher.ts";
import type { TrainSettings } from "./train-settings.ts";
import type { LayerMap, TransferKind } from "./transfer-match.ts";

/** The transfer's loss, by its kind: in nats, or as a share of the stream's square. */
const TRANSFER_LOSSES = {
  probabilities: "attention_kl",
  outputs: "output_error",
  hidden: "hidden_error",
} as const satisfies Record<TransferKind, string>;
type TransferLoss = (typeof TRANSFER_LOSSES)[TransferKind];

/** The losses of a step: means in nats, and the sum that is minimized. */
export type StepReport = { loss: number } & Partial<Record<"nll" | "kl" | "noise_kl" | TransferLoss, number>>;

export interface Phase {
  readonly name: "transfer" | "train";
  readonly optimizer: Optimizer;
  /** Steps of the run before this phase, or before its schedule begins anew. */
  readonly start: number;
  /**
   * Computes the gradients of one step, times `scale`, into the store's totals.
   * @param step counted from 0 at the beginning of the phase
   * @param scale 1 unless given
   */
  gradients(step: number, batches: readonly Batch[], scale?: number): Promise<StepReport>;
  close(): Promise<void>;
}

export interface PhaseContext {
  student: Checkpoint;
  teacher: Checkpoint | null;
  settings: TrainSettings;
  /** The teacher's layer of each of the student's; null where that is not known. */
  layers: LayerMap;
  store: RunParameters;
  session: SessionOptions;
  split: { train: TokenRange; heldOut: TokenRange };
  /** Folder for cache files. */
  cache?: string | undefined;
}

/** Opens the phase that a step belongs to. */
export function openPhase(step: number, context: PhaseContext): Promise<Phase> {
  return step < context.settings.transferSteps ? openTransfer(context) : openTraining(context);
}

function toOptimizerOptions({ settings, store }: PhaseContext) {
  const { floor, beta1, beta2, epsilon, clip } = settings;
  return { floor, beta1, beta2, epsilon, clip, names: store.trained };
}

async function openTransfer(context: PhaseContext): Promise<Phase> {
  const { settings, student, store, session } = context;
  const teacher = context.teacher as Checkpoint;
  const memory = store instanceof ParameterStore ? undefined : store.memory;
  const teacherWeights = memory ? await uploadWeights(teacher, memory) : await readWeights(teacher);
  const { batchSize: batch, length, accumulate, transfer: kind, transferSteps: steps } = settings;
  const models = { student: student.config, teacher: teacher.config, teacherWeights, memory };
  const layers = context.layers as readonly number[];
  const products = settings.devicePrecision;
  const step = await openTransferStep({ ...session, products, ...models, kind, layers, batch, length }, store);
  const names = step.targets;
  const rates = { lr: settings.transferLr, noiseLr: settings.transferNoiseLr, steps, warmup: Math.round(0.05 * steps) };
  // There is no decay: V shares c_attn with S but has no gradient here, so that decay alone would shrink it.
  const optimizer = new Optimizer(store, { ...toOptimizerOptions(context), ...rates, names, decay: 0 });
  return {
    name: "transfer",
    optimizer,
    start: 0,
    async gradients(_, batches, scale = 1) {
      let total = 0;
      for (const { inputs } of batches) {
        total += await step.run(inputs, scale / accumulate);
        await store.accumulate(names);
      }
      const loss = total / accumulate;
      return { loss, [TRANSFER_LOSSES[kind]]: loss };
    },
    async close() {
      await step.close();
      for (const weight of teacherWeights.values()) if (weight instanceof DeviceTensor) memory?.dispose(weight);
    },
  };
}

async function openTraining(context: PhaseContext): Promise<Phase> {
  const { settings, store, session } = context;
  const { config } = context.student;
  const { batchSize: batch, length, accumulate, kd, temperature } = settings;
  const { teacher, step } = await openAll(async (keep) => {
    const taught = context.teacher ? keep(await openTeacherSource(context.teacher, context)) : null;
    const options = { config, settings, teacher: taught, session: { ...session, products: settings.devicePrecision } };
    const open =
      store instanceof ParameterStore ? openTextGradients(store, options) : openDeviceGradients(store, options);
    return { teacher: taught, step: await open };
  });
  const { lr, noiseLr, warmup, decay, transferSteps, extendedFrom } = settings;
  const start = Math.max(transferSteps, extendedFrom);
  const steps = settings.steps - start;
  const drawn = (start - transferSteps) * accumulate; // by the run that is extended
  const optimizer = new Optimizer(store, { ...toOptimizerOptions(context), lr, noiseLr, warmup, decay, steps });
  const rows = batch * length * accumulate;
  const weights = { nll: (1 - kd) / rows, kl: (kd * temperature ** 2) / rows };
  const scaleWeights = (scale: number) => ({ nll: scale * weights.nll, kl: scale * weights.kl });
  return {
    name: "train",
    optimizer,
    start,
    async gradients(index, batches, scale = 1) {
      const sums = { nll: 0, kl: 0 };
      for (const [micro, batch] of batches.entries()) {
        const losses = await step.run(batch, scaleWeights(scale), drawn + index * accumulate + micro, scale);
        await store.accumulate(store.trained);
        sums.nll += losses.nll;
        sums.kl += losses.kl;
      }
      const kl = teacher ? (sums.kl / rows) * temperature ** 2 : null;
      return makeReport(sums.nll / rows, kl, step.addPrior(scale), settings);
    },
    close: () => step.close(),
  };
}

function openTeacherSource(teacher: Checkpoint, context: PhaseContext): Promise<TeacherSource> {
  const { settings, student, store, session, split, cache } = context;
  const { batchSize: batch, length, cacheTeacher: k, cacheKind: kind, teacherPrecision: precision } = settings;
  const { vocab_size } = student.config;
  const plain = { ...session, batch, length, precision };
  // What is cached is for runs of any precision.
  if (k > 0) return openCachedTeacher(teacher, { ...plain, k, kind, range: split.train, cache });
  const shared = { ...plain, products: settings.devicePrecision };
  if (store instanceof ParameterStore) return openTeacher(teacher, { ...shared, chunks: planHeadChunks(vocab_size) });
  return precision === "fp32"
    ? openDeviceTeacher(teacher, store.memory, { batch, length, session: shared })
    : openTeacher(teacher, { ...shared, chunks: planResidentChunks(vocab_size) });
}

function makeReport(nll: number, kl: number | null, noise: number | null, { kd, noiseKl }: TrainSettings): StepReport {
  return {
    loss: (1 - kd) * nll + kd * (kl ?? 0) + noiseKl * (noise ?? 0),
    nll,
    ...(kl !== null && { kl }),
    ...(noise !== null && { noise_kl: noise }),
  };
}
