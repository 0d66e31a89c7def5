// Learning rate over a run, and which parameters decay.
import { isNoiseParameter } from "../../model/parameters.ts";

export interface Schedule {
  peak: number;
  steps: number;
  /** Steps of the linear rise */
  warmup: number;
  /** The last rate, as a fraction of the peak */
  floor: number;
}

/**
 * The rate of a step, counted from 0: peak · (step + 1) / warmup, then a half cosine from the peak to floor · peak at
 * the last step.
 */
export function scheduleRate(step: number, { peak, steps, warmup, floor }: Schedule): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - 1 - warmup));
  return peak * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * progress))) / 2);
}

/** As nanoGPT: matrices and embeddings decay; biases, norms and the noise's means and deviations never do. */
export function isDecayed(name: string, shape: readonly number[]): boolean {
  return shape.length >= 2 && !isNoiseParameter(name);
}
