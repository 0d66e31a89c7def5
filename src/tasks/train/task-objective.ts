// Fine-tuning on a task: makes the gradients of a step from a batch of examples, and scores the development set.

import { z } from "zod";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { RunParameters } from "../../distill/device/open-parameters.ts";
import { beginScale, lossScaleSchema } from "../../distill/step/loss-scale.ts";
import { Optimizer } from "../../distill/step/optimizer.ts";
import { Divergence, type Objective, type Outcome, type PreparedStep } from "../../distill/training-loop.ts";
import type { SessionOptions } from "../../graph/session.ts";
import type { LongCall } from "../../progress.ts";
import { formatDuration } from "../../report/render/format.ts";
import { Classifier, scoreAnswers, type TaskScore } from "../classify.ts";
import { batchExamples, type EncodedExample, type ExampleBatch } from "../examples.ts";
import type { Task } from "../glue-tasks.ts";
import type { ClassifierSettings } from "./settings.ts";
import { type ClassifierLosses, ClassifierStep } from "./step.ts";

/** A run has diverged when its loss is this many times that of guessing, ln K for K labels. */
const FAR_WORSE = 50;

export const classifierStateSchema = z.object({
  step: z.int().nonnegative(),
  metricsBytes: z.int().nonnegative(),
  /** Step of the last evaluation. */
  evaluated: z.int().nonnegative(),
  /** The score is null where the metric is not defined; any number is better. */
  best: z.object({ step: z.int().nonnegative(), score: z.number().nullable() }).nullable(),
  /** Evaluations since the best one. */
  stale: z.int().nonnegative(),
  lossScale: lossScaleSchema.optional(),
});
export type ClassifierState = z.infer<typeof classifierStateSchema>;

/** The state of a run that begins. */
export function beginState(settings: Pick<ClassifierSettings, "devicePrecision">): ClassifierState {
  return { step: 0, metricsBytes: 0, evaluated: 0, best: null, stale: 0, ...beginScale(settings) };
}

export interface TaskObjectiveParts extends LongCall {
  task: Task;
  settings: ClassifierSettings;
  model: Checkpoint;
  store: RunParameters;
  train: readonly EncodedExample[];
  dev: readonly EncodedExample[];
  /** Logits [N, labels] of the teacher for all training examples. */
  teacher: Float32Array | null;
  session: SessionOptions;
}

export class TaskObjective implements Objective<ClassifierState> {
  readonly steps: number;
  private readonly parts: TaskObjectiveParts;
  private readonly perEpoch: number;
  /** Labels, or 1 of a regression. */
  private readonly width: number;
  private readonly step: ClassifierStep;
  private readonly optimizer: Optimizer;
  private readonly scorer: Classifier;
  private epoch: { index: number; batches: readonly ExampleBatch[] } | null = null;
  private started: { time: number; step: number } | null = null;

  private constructor(parts: TaskObjectiveParts, scorer: Classifier) {
    const { settings, model, store, train, session } = parts;
    const { config } = model;
    this.parts = parts;
    this.scorer = scorer;
    this.width = (config.labels as readonly string[]).length;
    this.perEpoch = Math.ceil(train.length / settings.batchSize);
    this.steps = settings.epochs * this.perEpoch;
    this.step = new ClassifierStep({ ...settings, config, session }, store);
    const steps = this.steps - settings.extendedFrom;
    const warmup = Math.round(settings.warmup * steps);
    this.optimizer = new Optimizer(store, { ...settings, steps, warmup, names: store.trained });
  }

  static async open(parts: TaskObjectiveParts): Promise<TaskObjective> {
    const { model, store, session } = parts;
    return new TaskObjective(parts, await Classifier.live(model.config, (name) => store.parameter(name), session));
  }

  async close(): Promise<void> {
    await this.step.close();
    await this.scorer.close();
  }

  async prepareStep(step: number, scale = 1): Promise<PreparedStep<ClassifierState>> {
    const { settings, teacher } = this.parts;
    this.started ??= { time: performance.now(), step };
    const batch = this.readBatch(step);
    const losses = await this.step.run(step, batch, teacher && gatherRows(teacher, batch, this.width), scale);
    const mean = (sum: number) => Number((sum / batch.count).toPrecision(6));
    return {
      optimizer: this.optimizer,
      index: step - settings.extendedFrom,
      finite: Number.isFinite(losses.loss),
      check: (norm) => this.check(step + 1, losses, batch.count, norm),
      report: (lr, norm, { best }) => {
        this.show(step + 1, losses.loss / batch.count, best);
        const means = { loss: mean(losses.loss), own: mean(losses.own), ...(teacher && { kl: mean(losses.teacher) }) };
        return { entry: { step: step + 1, ...means, lr, grad_norm: norm }, changes: {} };
      },
    };
  }

  isEvaluated(step: number): boolean {
    return step % this.parts.settings.evalEvery === 0;
  }

  async evaluate({ step, best, stale }: ClassifierState): Promise<Outcome<ClassifierState>> {
    const { loss, metrics } = await this.score({ interval: false });
    const score = metrics[this.parts.task.metrics[0]] ?? null;
    const better = !best || (score !== null && (best.score === null || score > best.score));
    return {
      entry: { loss, ...metrics },
      changes: better ? { best: { step, score }, stale: 0 } : { stale: stale + 1 },
    };
  }

  isOver({ stale }: ClassifierState): boolean {
    const { patience } = this.parts.settings;
    return patience > 0 && stale >= patience;
  }

  /** Scores the parameters as they are on the development set. */
  async score(options: { interval: boolean }): Promise<TaskScore> {
    const { task, dev, settings, signal } = this.parts;
    return scoreAnswers(task, dev, await this.scorer.logits(dev, { length: settings.length, signal }), options);
  }

  private readBatch(step: number): ExampleBatch {
    const index = Math.floor(step / this.perEpoch);
    if (this.epoch?.index !== index) {
      const { train, settings } = this.parts;
      const { batchSize, length, seed } = settings;
      const batches = batchExamples(train, { batchSize, length, shuffle: { seed, epoch: index } });
      this.epoch = { index, batches };
    }
    return this.epoch.batches[step % this.perEpoch] as ExampleBatch;
  }

  private check(step: number, { loss, own }: ClassifierLosses, count: number, norm: number): void {
    const lost = this.width > 1 && own > count * FAR_WORSE * Math.log(this.width);
    if (Number.isFinite(loss) && Number.isFinite(norm) && !lost) return;
    throw new Divergence(step, `loss ${loss}, gradient norm ${norm}`);
  }

  /** @param done steps, this one included */
  private show(done: number, loss: number, best: ClassifierState["best"]): void {
    const { task, onProgress } = this.parts;
    const { time, step } = this.started as { time: number; step: number };
    const seconds = (performance.now() - time) / 1000 / (done - step);
    const detail = [
      `loss ${loss.toFixed(3)}`,
      ...(best?.score != null ? [`best ${task.metrics[0]} ${best.score.toFixed(4)}`] : []),
      `${formatDuration((this.steps - done) * seconds)} left`,
    ].join("  ");
    onProgress?.({ phase: `fine-tuning on ${task.title}`, done, total: this.steps, unit: "steps", detail });
  }
}

/** The rows of all examples' logits that a batch needs. */
function gatherRows(logits: Float32Array, { indices }: ExampleBatch, width: number): Float32Array {
  const out = new Float32Array(indices.length * width);
  for (const [row, index] of indices.entries())
    out.set(logits.subarray(index * width, (index + 1) * width), row * width);
  return out;
}
