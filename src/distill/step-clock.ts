// Makes the progress lines of a run: losses, learning rate, tokens a second, evaluations, and the time left.
import type { LongCall, ProgressEvent } from "../progress.ts";
import { formatDuration } from "../report/render/format.ts";
import { isEvaluationStep } from "./evaluation-plan.ts";
import type { StepReport } from "./phases.ts";
import type { TimeLeft } from "./time-left.ts";
import type { TrainSettings } from "./train-settings.ts";

const GERUND = { distill: "distilling", finetune: "fine-tuning", pretrain: "pretraining" } as const;

export class StepClock {
  private readonly settings: TrainSettings;
  private readonly left: TimeLeft;
  private readonly onProgress: LongCall["onProgress"];
  private started = 0;
  private perplexity: number | null = null;

  constructor(settings: TrainSettings, left: TimeLeft, onProgress: LongCall["onProgress"]) {
    this.settings = settings;
    this.left = left;
    this.onProgress = onProgress;
  }

  start(): void {
    this.started = performance.now();
  }

  /**
   * Scores a model's perplexity under a line of its own.
   * @param step the steps that were made; null for a model as it came
   * @param subject "the teacher", "step 30"
   */
  async evaluate(
    step: number | null,
    subject: string,
    score: (onProgress: LongCall["onProgress"]) => Promise<number>,
  ): Promise<number> {
    const started = performance.now();
    const show = (event: ProgressEvent) => {
      const left = step === null ? null : this.left.estimate(step, event.total ? 1 - event.done / event.total : 1);
      const detail = left === null ? `${subject}:` : `${subject}, ${formatDuration(left)} left:`;
      this.onProgress?.({ ...event, phase: "evaluating", detail });
    };
    show({ phase: "", done: 0, total: null, unit: "tokens", brief: true }); // the model is loaded first
    const perplexity = await score(show);
    this.left.add("evaluation", (performance.now() - started) / 1000);
    if (step !== null) this.perplexity = perplexity;
    return perplexity;
  }

  /** Reports a step that ended; `step` counts from 1. */
  stop(step: number, report: StepReport, lr: number, tokens: number): { seconds: number; tokens_per_second: number } {
    const { steps, task, transferSteps } = this.settings;
    const seconds = (performance.now() - this.started) / 1000;
    const mean = this.left.add(step > transferSteps ? "train" : "transfer", seconds);
    const { loss, ...parts } = report;
    const left = this.left.estimate(step, isEvaluationStep(step, this.settings) ? 1 : 0) ?? 0;
    const detail = [
      `loss ${loss.toFixed(3)}`,
      `(${Object.entries(parts)
        .map(([name, value]) => `${name} ${value.toFixed(3)}`)
        .join(", ")})`,
      `lr ${lr.toPrecision(2)}`,
      `${Math.round(tokens / mean)} tokens/s`,
      ...(this.perplexity === null ? [] : [`held-out ${this.perplexity.toFixed(2)}`]),
      `${formatDuration(left)} left`,
    ].join("  ");
    this.onProgress?.({ phase: GERUND[task], done: step, total: steps, unit: "steps", detail });
    return { seconds: round(seconds, 4), tokens_per_second: round(tokens / seconds, 1) };
  }
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));
