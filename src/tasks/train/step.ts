// Runs the training graphs of a classifier, one for each padded length, and leaves the gradients in the store.

import { type DeviceNoise, openDeviceNoise } from "../../distill/device/device-noise.ts";
import type { RunParameters } from "../../distill/device/open-parameters.ts";
import { LOSS_SCALE } from "../../distill/device/whole-gradients.ts";
import { makeStepNoise, type StepNoise } from "../../distill/step/noise.ts";
import { NoisePrior } from "../../distill/step/noise-prior.ts";
import { ParameterStore } from "../../distill/step/parameter-store.ts";
import { isPriorOnly } from "../../distill/step/step-graph.ts";
import { bindDevice, bindStore, type StoreBinding } from "../../distill/step/store-binding.ts";
import { makeFloat32Tensor, Session, type SessionOptions } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import { computeRowLoss, makeBatchFeeds } from "../classify.ts";
import type { ExampleBatch } from "../examples.ts";
import { buildClassifierStepGraph, type ClassifierGraphOptions, TARGETS, TEACHER, WEIGHT } from "./step-graph.ts";

export interface ClassifierStepOptions extends Pick<ClassifierGraphOptions, "config" | "kd" | "temperature"> {
  batchSize: number;
  noise: "sample" | "mean";
  seed: number;
  /** Weight of the noise prior. */
  noiseKl: number;
  devicePrecision?: "fp32" | "fp16" | undefined;
  session: SessionOptions;
}

/** Sums over the examples of a batch. */
export interface ClassifierLosses {
  loss: number;
  /** Cross-entropy, or squared error. */
  own: number;
  /** T²·KL to the teacher; 0 without one. */
  teacher: number;
}

interface Bucket {
  session: Session;
  noise: StepNoise & Partial<Pick<DeviceNoise, "close">>;
  binding: StoreBinding;
}

export class ClassifierStep {
  private readonly options: ClassifierStepOptions;
  private readonly store: RunParameters;
  private readonly prior: NoisePrior | null;
  /** By padded length. */
  private readonly buckets = new Map<number, Bucket>();

  constructor(options: ClassifierStepOptions, store: RunParameters) {
    this.options = options;
    this.store = store;
    const { noise } = VARIANT_TRAITS[options.config.variant];
    this.prior = noise && store instanceof ParameterStore ? new NoisePrior(store) : null;
  }

  /**
   * Computes the gradients of one batch into the store's totals.
   * @param step of the run: the noise depends on it
   * @param teacher logits [count, K] of the teacher for the batch's examples
   * @param scale of the gradients, 1 unless given
   */
  async run(step: number, batch: ExampleBatch, teacher: Float32Array | null, scale = 1): Promise<ClassifierLosses> {
    const { batchSize, config, kd, temperature } = this.options;
    const width = (config.labels as readonly string[]).length;
    const bucket = await this.bucket(batch.length);
    const weight = Float32Array.from({ length: batchSize }, (_, row) => (row < batch.count ? scale / batch.count : 0));
    const soft = teacher && makeTeacherTargets(teacher, width, temperature, batchSize);
    const output = await bucket.session.run(
      {
        ...bucket.binding.readParameters(),
        ...(await bucket.noise.feeds(step)),
        ...makeBatchFeeds(batch),
        [TARGETS]: makeFloat32Tensor(makeTargets(batch, width), [batchSize, width]),
        [WEIGHT]: makeFloat32Tensor(weight, [batchSize, 1]),
        ...(soft && { [TEACHER]: makeFloat32Tensor(soft, [batchSize, width]) }),
        ...(bucket.session.inputNames.includes(LOSS_SCALE) && {
          [LOSS_SCALE]: makeFloat32Tensor(Float32Array.of(scale), []),
        }),
      },
      bucket.binding.gradients,
    );
    bucket.binding.addEmbeddingRows(batch.ids);
    this.addPrior(bucket.noise.mode, scale);
    return computeLosses(output.logits?.data as Float32Array, batch, soft, { width, kd, temperature });
  }

  /** Adds the noise prior's gradient, where the graph has not: a parameter that the examples do not reach has that alone. */
  private addPrior(mode: StepNoise["mode"], scale: number): void {
    const { store } = this;
    if (!(store instanceof ParameterStore)) return;
    for (const name of store.trained) if (isPriorOnly(name, this.options.config, mode)) store.slot(name).total.fill(0);
    this.prior?.addGradient(this.options.noiseKl * scale);
  }

  async close(): Promise<void> {
    for (const { session, noise } of this.buckets.values()) {
      await session.close();
      await noise.close?.();
    }
  }

  private async bucket(length: number): Promise<Bucket> {
    const known = this.buckets.get(length);
    if (known) return known;
    const { config, batchSize: batch, session: options, kd, temperature, devicePrecision } = this.options;
    const { store } = this;
    const settings = { ...this.options, length };
    const { noise, session } = await openAll(async (keep) => {
      const drawn =
        store instanceof ParameterStore
          ? makeStepNoise(config, settings)
          : keep(await openDeviceNoise(config, settings, { memory: store.memory, session: options }));
      const trained = new Set(this.store.trained);
      const scaled = devicePrecision === "fp16";
      const whole = store instanceof ParameterStore ? undefined : { prior: this.options.noiseKl, scaled };
      const shared = { config, batch, length, trained, noise: drawn.mode, kd, temperature, whole };
      const graph = buildClassifierStepGraph(shared);
      return {
        noise: drawn,
        session: keep(await Session.withInputs(graph, { ...options, products: devicePrecision })),
      };
    });
    const binding =
      store instanceof ParameterStore
        ? bindStore(session, store, { batch, length, width: config.n_embd })
        : bindDevice(session, store);
    const bucket = { session, noise, binding };
    this.buckets.set(length, bucket);
    return bucket;
  }
}

/** One-hot rows, or the numbers of a regression: [B, K] */
function makeTargets({ labels }: ExampleBatch, width: number): Float32Array {
  if (width === 1) return Float32Array.from(labels);
  const out = new Float32Array(labels.length * width);
  for (const [row, label] of labels.entries()) out[row * width + label] = 1;
  return out;
}

/** softmax(z/T) of the teacher's logits, or its number; rows of padding repeat the first: [B, K] */
function makeTeacherTargets(logits: Float32Array, width: number, temperature: number, rows: number): Float32Array {
  const out = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const at = row * width < logits.length ? row * width : 0;
    const z = logits.subarray(at, at + width);
    out.set(width === 1 ? z : computeSoftmax(z, temperature), row * width);
  }
  return out;
}

function computeSoftmax(z: Float32Array, temperature: number): Float64Array {
  const most = Math.max(...z);
  const weights = Float64Array.from(z, (value) => Math.exp((value - most) / temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((value) => value / sum);
}

function computeLosses(
  logits: Float32Array,
  { labels, count }: ExampleBatch,
  soft: Float32Array | null,
  { width, kd, temperature }: { width: number; kd: number; temperature: number },
): ClassifierLosses {
  let [own, teacher] = [0, 0];
  for (let row = 0; row < count; row++) {
    own += computeRowLoss(logits, row, width, labels[row] as number);
    if (!soft) continue;
    if (width === 1) {
      teacher += computeRowLoss(logits, row, 1, soft[row] as number);
      continue;
    }
    const q = soft.subarray(row * width, (row + 1) * width);
    const p = computeSoftmax(logits.subarray(row * width, (row + 1) * width), temperature);
    const kl = q.reduce((sum, value, k) => sum + (value > 0 ? value * Math.log(value / (p[k] as number)) : 0), 0);
    teacher += temperature ** 2 * kl;
  }
  return { loss: (1 - kd) * own + kd * teacher, own, teacher };
}
