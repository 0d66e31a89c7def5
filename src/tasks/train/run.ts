// The loop of fine-tuning on a task: steps, evaluations on the development set, checkpoints, and the best weights.

import { z } from "zod";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { RunFolder } from "../../distill/run-folder.ts";
import { NoisePrior } from "../../distill/step/noise-prior.ts";
import { Optimizer } from "../../distill/step/optimizer.ts";
import type { ParameterStore } from "../../distill/step/parameter-store.ts";
import { isPriorOnly } from "../../distill/step/step-graph.ts";
import { formatDuration } from "../../distill/step-clock.ts";
import { describeError, NfcError } from "../../errors.ts";
import { makeFloat32Tensor, type SessionOptions, type Tensors } from "../../graph/session.ts";
import { VARIANT_TRAITS } from "../../model/config.ts";
import type { LongCall } from "../../progress.ts";
import { Classifier, scoreAnswers, type TaskScore } from "../classify.ts";
import { batchExamples, type EncodedExample, type ExampleBatch } from "../examples.ts";
import type { Task } from "../tasks.ts";
import type { ClassifierSettings } from "./settings.ts";
import { ClassifierStep } from "./step.ts";

/** Steps between checkpoints. */
const SAVE_EVERY = 200;
/** A loss of as many times that of guessing comes from weights that are lost. */
const FAR_WORSE = 50;

export const classifierStateSchema = z.object({
  step: z.int().nonnegative(),
  metricsBytes: z.int().nonnegative(),
  /** Step of the last evaluation. */
  evaluated: z.int().nonnegative(),
  /** The score is null where the metric is not defined, which any number is better than. */
  best: z.object({ step: z.int().nonnegative(), score: z.number().nullable() }).nullable(),
  /** Evaluations since the best one. */
  stale: z.int().nonnegative(),
});
export type ClassifierState = z.infer<typeof classifierStateSchema>;

export interface ClassifierRunParts extends LongCall {
  task: Task;
  settings: ClassifierSettings;
  model: Checkpoint;
  store: ParameterStore;
  folder: RunFolder<ClassifierState>;
  train: readonly EncodedExample[];
  dev: readonly EncodedExample[];
  /** Logits [N, labels] of the teacher for all training examples. */
  teacher: Float32Array | null;
  session: SessionOptions;
}

export class ClassifierRun {
  /** Optimiser steps of the whole run. */
  readonly steps: number;
  private readonly parts: ClassifierRunParts;
  private readonly perEpoch: number;
  private readonly step: ClassifierStep;
  private readonly optimizer: Optimizer;
  private readonly prior: NoisePrior | null;
  /** Parameters that the examples' loss does not depend on. */
  private readonly priorOnly: readonly string[];
  private readonly scorer: Classifier;
  private state: ClassifierState;
  private saved: number | null;
  private epoch: { index: number; batches: readonly ExampleBatch[] } | null = null;
  private started = { time: 0, step: 0 };

  private constructor(parts: ClassifierRunParts, scorer: Classifier, saved: ClassifierState | null) {
    const { settings, model, store, train, session } = parts;
    this.parts = parts;
    this.scorer = scorer;
    this.perEpoch = Math.ceil(train.length / settings.batchSize);
    this.steps = settings.epochs * this.perEpoch;
    const { config } = model;
    this.step = new ClassifierStep({ ...settings, config, session }, store);
    const warmup = Math.round(settings.warmup * this.steps);
    this.optimizer = new Optimizer(store, { ...settings, steps: this.steps, warmup, names: store.trained });
    this.prior = VARIANT_TRAITS[config.variant].noise ? new NoisePrior(store) : null;
    const mode = this.prior && settings.noise === "sample" ? "fed" : "mean";
    this.priorOnly = store.trained.filter((name) => isPriorOnly(name, config, mode));
    this.state = saved ?? { step: 0, metricsBytes: 0, evaluated: 0, best: null, stale: 0 };
    this.saved = saved?.step ?? null;
  }

  static async open(parts: ClassifierRunParts, saved: ClassifierState | null): Promise<ClassifierRun> {
    const { model, store, session } = parts;
    const arrays = store.names.map((name) => [name, makeFloat32Tensor(store.value(name), store.slot(name).shape)]);
    const weights: Tensors = Object.fromEntries(arrays);
    return new ClassifierRun(parts, await Classifier.live(model.config, weights, session), saved);
  }

  /** Runs to the end, or until no evaluation is better; the store then holds the best weights. */
  async finish(): Promise<{ best: NonNullable<ClassifierState["best"]>; dev: TaskScore }> {
    const { settings, signal, folder, store } = this.parts;
    this.started = { time: performance.now(), step: this.state.step };
    for (;;) {
      if (signal?.aborted) await this.stop();
      if (this.evaluationIsDue()) await this.evaluate();
      const { step, stale } = this.state;
      if (step === this.steps || (settings.patience > 0 && stale >= settings.patience)) break;
      if (step > 0 && step % SAVE_EVERY === 0 && step !== this.saved) await this.save();
      await this.oneStep();
    }
    const { best } = this.state;
    if (!best) throw new Error("a run ends with an evaluation");
    await folder.loadBest(store, best);
    return { best, dev: await this.score({ interval: true }) };
  }

  /** An interrupted evaluation comes first when the run goes on. */
  private evaluationIsDue(): boolean {
    const { step, evaluated } = this.state;
    if (step === evaluated) return false;
    return step === this.steps || step % this.parts.settings.evalEvery === 0;
  }

  async close(): Promise<void> {
    await this.step.close();
    await this.scorer.close();
  }

  private async oneStep(): Promise<void> {
    const { settings, store, teacher } = this.parts;
    const { step } = this.state;
    const batch = this.batchOf(step);
    const width = (this.parts.model.config.labels as readonly string[]).length;
    const { loss, own, teacher: kl } = await this.step.run(step, batch, teacher && gatherRows(teacher, batch, width));
    for (const name of this.priorOnly) store.slot(name).total.fill(0);
    this.prior?.addGradient(settings.noiseKl);
    const norm = this.optimizer.norm();
    // Guessing costs ln K a text.
    const lost = width > 1 && own > batch.count * FAR_WORSE * Math.log(width);
    if (!Number.isFinite(loss) || !Number.isFinite(norm) || lost)
      throw new NfcError("diverged", `step ${step + 1}: the run has diverged (loss ${loss}, gradient norm ${norm})`, {
        hint: "start over with a lower --lr, and --force",
      });
    const lr = this.optimizer.update(step, norm);
    this.state = { ...this.state, step: step + 1 };
    store.clearTotals();
    const mean = (sum: number) => Number((sum / batch.count).toPrecision(6));
    await this.log({
      step: step + 1,
      loss: mean(loss),
      own: mean(own),
      ...(teacher && { kl: mean(kl) }),
      lr,
      grad_norm: norm,
    });
    this.show(loss / batch.count);
  }

  private batchOf(step: number): ExampleBatch {
    const index = Math.floor(step / this.perEpoch);
    if (this.epoch?.index !== index)
      this.epoch = { index, batches: findEpoch(this.parts.train, this.parts.settings, index) };
    return this.epoch.batches[step % this.perEpoch] as ExampleBatch;
  }

  private async evaluate(): Promise<void> {
    const { task, folder, store } = this.parts;
    const { step, best } = this.state;
    const result = await this.score({ interval: false });
    await this.log({ step, eval: { loss: result.loss, ...result.metrics } });
    const score = result.metrics[task.metrics[0]] ?? null;
    if (best && (score === null || (best.score !== null && best.score >= score))) {
      this.state = { ...this.state, evaluated: step, stale: this.state.stale + 1 };
      return;
    }
    await folder.saveBest(store, { step, score });
    this.state = { ...this.state, evaluated: step, best: { step, score }, stale: 0 };
  }

  private async score(options: { interval: boolean }): Promise<TaskScore> {
    const { task, dev, settings, signal } = this.parts;
    try {
      return scoreAnswers(task, dev, await this.scorer.logits(dev, { length: settings.length, signal }), options);
    } catch (error) {
      if (signal?.aborted) return this.stop();
      throw error;
    }
  }

  private async save(): Promise<void> {
    await this.parts.folder.save(this.parts.store, this.state);
    this.saved = this.state.step;
  }

  private async stop(): Promise<never> {
    const { path } = this.parts.folder;
    const { step } = this.state;
    const outcome = await this.save().then(
      () => `step ${step} of ${this.steps} is saved in ${path}`,
      (error: unknown) =>
        `step ${step} of ${this.steps} could not be saved (${describeError(error)}); last checkpoint: ${this.saved ?? "none"}`,
    );
    throw new NfcError("aborted", `interrupted; ${outcome}`, {
      hint: "the same command with --resume goes on from there",
    });
  }

  private async log(entry: object): Promise<void> {
    this.state = { ...this.state, metricsBytes: this.state.metricsBytes + (await this.parts.folder.append(entry)) };
  }

  private show(loss: number): void {
    const { task, onProgress } = this.parts;
    const { step, best } = this.state;
    const seconds = (performance.now() - this.started.time) / 1000 / (step - this.started.step);
    const detail = [
      `loss ${loss.toFixed(3)}`,
      ...(best?.score != null ? [`best ${task.metrics[0]} ${best.score.toFixed(4)}`] : []),
      `${formatDuration((this.steps - step) * seconds)} left`,
    ].join("  ");
    onProgress?.({ phase: `fine-tuning on ${task.title}`, done: step, total: this.steps, unit: "steps", detail });
  }
}

function findEpoch(examples: readonly EncodedExample[], settings: ClassifierSettings, epoch: number): ExampleBatch[] {
  const { batchSize, length, seed } = settings;
  return batchExamples(examples, { batchSize, length, shuffle: { seed, epoch } });
}

/** The rows of all examples' logits that a batch needs. */
function gatherRows(logits: Float32Array, { indices }: ExampleBatch, width: number): Float32Array {
  const out = new Float32Array(indices.length * width);
  for (const [row, index] of indices.entries())
    out.set(logits.subarray(index * width, (index + 1) * width), row * width);
  return out;
}
