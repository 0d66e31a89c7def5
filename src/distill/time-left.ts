// Estimates the time that a run still takes: the steps of both phases, and the evaluations between them.
import type { ModelConfig } from "../model/config.ts";
import { countAttentionColumns, getHeadWidths } from "../model/head-widths.ts";
import { countForwardFlops, countLayerFlops } from "./cost.ts";
import { countEvaluationsAfter } from "./evaluation-plan.ts";
import type { TrainSettings } from "./train-settings.ts";

/** The parts of a run: a step of the attention transfer, a step of training, and an evaluation. */
export type Work = "transfer" | "train" | "evaluation";

/** Weight of the newest part in the running mean of the seconds that one takes, after as many as make it a plain mean. */
const FRESH = 0.1;

/** The operations of each part. */
type Costs = Readonly<Record<Work, number>>;

/**
 * The costs of a run's parts relative to one another, as their matrix products give them.
 * @param evalTokens that an evaluation really has
 */
export function estimateCosts(
  { batchSize, accumulate, length, transfer, cacheTeacher }: TrainSettings,
  { student, teacher, evalTokens }: { student: ModelConfig; teacher: ModelConfig | null; evalTokens: number },
): Costs {
  const tokens = batchSize * accumulate * length;
  const layers = (config: ModelConfig) => countLayerFlops(config, length);
  const forward = (config: ModelConfig) => countForwardFlops(config, length);
  const learned = {
    probabilities: () => countScoreFlops(student, length),
    outputs: () => layers({ ...student, n_inner: 0 }),
    hidden: () => layers(student),
  }[transfer]();
  return {
    // Backward costs twice as much as forward.
    transfer: tokens * ((teacher ? layers(teacher) : 0) + 3 * learned),
    train: tokens * ((teacher && cacheTeacher === 0 ? forward(teacher) : 0) + 3 * forward(student)),
    evaluation: evalTokens * forward(student),
  };
}

/** Operations of one token in what makes the scores of all layers. */
function countScoreFlops(config: ModelConfig, length: number): number {
  const { n_embd: C, n_head: H, n_layer } = config;
  let flops = 0;
  for (let layer = 0; layer < n_layer; layer++) {
    const { qk, v } = getHeadWidths(config, layer);
    flops += 2 * (C * (countAttentionColumns(config, layer) - H * v) + length * H * qk);
  }
  return flops;
}

export class TimeLeft {
  private readonly settings: TrainSettings;
  private readonly costs: Costs;
  private readonly measured = new Map<Work, { seconds: number; count: number }>();

  constructor(settings: TrainSettings, costs: Costs) {
    this.settings = settings;
    this.costs = costs;
  }

  /** Notes what one part took; gives the running mean. */
  add(work: Work, seconds: number): number {
    const { seconds: mean, count } = this.measured.get(work) ?? { seconds: 0, count: 0 };
    const weight = Math.max(FRESH, 1 / (count + 1));
    const next = { seconds: (1 - weight) * mean + weight * seconds, count: count + 1 };
    this.measured.set(work, next);
    return next.seconds;
  }

  /**
   * Seconds from the end of a step on, with the part of an evaluation that still runs.
   * @returns null while nothing was measured
   */
  estimate(step: number, running = 0): number | null {
    const { steps, transferSteps } = this.settings;
    const left: Record<Work, number> = {
      transfer: Math.max(0, transferSteps - step),
      train: steps - Math.max(step, transferSteps),
      evaluation: countEvaluationsAfter(step, this.settings) + running,
    };
    let total = 0;
    for (const work of Object.keys(left) as Work[]) {
      const seconds = left[work] === 0 ? 0 : this.guess(work);
      if (seconds === null) return null;
      total += left[work] * seconds;
    }
    return total;
  }

  /** Seconds of a part: measured, or by its cost from those that were, training first. */
  private guess(work: Work): number | null {
    for (const known of [work, "train", "transfer", "evaluation"] as const) {
      const measured = this.measured.get(known);
      if (measured) return (measured.seconds * this.costs[work]) / this.costs[known];
    }
    return null;
  }
}
