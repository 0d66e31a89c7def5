// Makes the progress line of a run: losses, learning rate, tokens a second and the time left.
import type { LongCall } from "../progress.ts";
import type { StepReport } from "./phases.ts";
import type { TrainSettings } from "./train-settings.ts";

/** Weight of the newest step in the running mean of the seconds a step takes. */
const FRESH = 0.1;

const GERUND = { distill: "distilling", finetune: "fine-tuning", pretrain: "pretraining" } as const;

export class StepClock {
  private readonly settings: TrainSettings;
  private readonly onProgress: LongCall["onProgress"];
  private started = 0;
  private secondsPerStep: number | null = null;
  private perplexity: number | null = null;

  constructor(settings: TrainSettings, onProgress: LongCall["onProgress"]) {
    this.settings = settings;
    this.onProgress = onProgress;
  }

  start(): void {
    this.started = performance.now();
  }

  evaluated(perplexity: number): void {
    this.perplexity = perplexity;
  }

  /** Reports a step that ended; `step` counts from 1. */
  stop(step: number, report: StepReport, lr: number, tokens: number): { seconds: number; tokens_per_second: number } {
    const { steps, task } = this.settings;
    const seconds = (performance.now() - this.started) / 1000;
    this.secondsPerStep = this.secondsPerStep === null ? seconds : (1 - FRESH) * this.secondsPerStep + FRESH * seconds;
    const { loss, ...parts } = report;
    const detail = [
      `loss ${loss.toFixed(3)}`,
      `(${Object.entries(parts)
        .map(([name, value]) => `${name} ${value.toFixed(3)}`)
        .join(", ")})`,
      `lr ${lr.toPrecision(2)}`,
      `${Math.round(tokens / this.secondsPerStep)} tokens/s`,
      ...(this.perplexity === null ? [] : [`held-out ${this.perplexity.toFixed(2)}`]),
      `${formatDuration((steps - step) * this.secondsPerStep)} left`,
    ].join("  ");
    this.onProgress?.({ phase: GERUND[task], done: step, total: steps, unit: "steps", detail });
    return { seconds: round(seconds, 4), tokens_per_second: round(tokens / seconds, 1) };
  }
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

/** "1:02:03", "4:05" */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
