// One optimiser step over a model: gradient norm, clipping, AdamW with its rates for weights and for noise.

import { isNoiseParameter } from "../../model/parameters.ts";
import type { TrainSettings } from "../settings.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { isDecayed, scheduleRate } from "./schedule.ts";

/** `steps` are those of the phase, counted from its beginning. */
export interface OptimizerOptions
  extends Pick<
    TrainSettings,
    "lr" | "noiseLr" | "steps" | "warmup" | "floor" | "beta1" | "beta2" | "epsilon" | "decay" | "clip"
  > {
  /** Parameters that it moves. */
  names: readonly string[];
}

export class Optimizer {
  private readonly store: ParameterStore;
  private readonly options: OptimizerOptions;

  constructor(store: ParameterStore, options: OptimizerOptions) {
    this.store = store;
    this.options = options;
  }

  /** √Σ g²: not finite when any gradient is not. */
  norm(): number {
    return this.store.gradientNorm(this.options.names);
  }

  /** Moves the parameters with the gradients in the store's totals; `step` counts from 0. Gives the learning rate. */
  update(step: number, norm: number): number {
    const { names, lr, noiseLr, steps, warmup, floor, clip, beta1, beta2, epsilon, decay } = this.options;
    const gradientScale = clip > 0 && norm > clip ? clip / norm : 1;
    const rate = (peak: number) => scheduleRate(step, { peak, steps, warmup, floor });
    for (const name of names)
      this.store.update(name, {
        lr: rate(isNoiseParameter(name) ? noiseLr : lr),
        beta1,
        beta2,
        epsilon,
        decay: isDecayed(name, this.store.slot(name).shape) ? decay : 0,
        step: step + 1,
        gradientScale,
      });
    return rate(lr);
  }

  /** Forgets the moments: a new phase has another loss. */
  reset(): void {
    for (const name of this.options.names) {
      const { moment1, moment2 } = this.store.slot(name);
      moment1.fill(0);
      moment2.fill(0);
    }
  }
}
