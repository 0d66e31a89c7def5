// Moves a model's parameters: gradient norm, learning rate, clipping, AdamW with its rates for weights and for noise.
import type { TrainSettings } from "../train-settings.ts";
import type { ParameterState } from "./parameter-state.ts";

/** `steps` and `warmup` count from the beginning of the phase. */
export interface OptimizerOptions
  extends Pick<
    TrainSettings,
    "lr" | "noiseLr" | "steps" | "warmup" | "floor" | "beta1" | "beta2" | "epsilon" | "decay" | "clip"
  > {
  /** Names of the parameters that are moved. */
  names: readonly string[];
}

export class Optimizer {
  private readonly store: ParameterState;
  private readonly options: OptimizerOptions;

  constructor(store: ParameterState, options: OptimizerOptions) {
    this.store = store;
    this.options = options;
  }

  /** √Σ g², which is not finite when any gradient is not. @param scale by which the totals are larger than g */
  async norm(scale = 1): Promise<number> {
    return (await this.store.gradientNorm(this.options.names)) / scale;
  }

  /** Moves the parameters with the gradients in the store's totals; `step` counts from 0. Gives the learning rate. */
  async update(step: number, norm: number, scale = 1): Promise<number> {
    const { names, lr, noiseLr, steps, warmup, floor, clip, beta1, beta2, epsilon, decay } = this.options;
    const gradientScale = (clip > 0 && norm > clip ? clip / norm : 1) / scale;
    const rate = (peak: number) => scheduleRate(step, { peak, steps, warmup, floor });
    const rates = { lr: rate(lr), noiseLr: rate(noiseLr) };
    await this.store.move(names, { ...rates, beta1, beta2, epsilon, decay, step: step + 1, gradientScale });
    return rates.lr;
  }

  /** Sets the moments to 0, for a phase that has another loss. */
  async reset(): Promise<void> {
    await this.store.resetMoments(this.options.names);
  }
}

/**
 * The rate of a step, counted from 0: peak · (step + 1) / warmup, then a half cosine from the peak to floor · peak at
 * the last step.
 */
export function scheduleRate(
  step: number,
  { peak, steps, warmup, floor }: { peak: number } & Pick<OptimizerOptions, "steps" | "warmup" | "floor">,
): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - 1 - warmup));
  return peak * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * progress))) / 2);
}
