// The factor on a loss that keeps its gradients within float16: small ones do not vanish, and large ones do not overflow.
import { z } from "zod";

/** Always a power of two, so that scaling a float and taking the scale off again gives its bits. */
export const lossScaleSchema = z.object({
  factor: z.number().positive(),
  /** Steps since the factor changed. */
  steps: z.int().nonnegative(),
});
export type LossScale = z.infer<typeof lossScaleSchema>;

const INITIAL_SCALE: LossScale = { factor: 2 ** 12, steps: 0 };

/** What the state of a run that begins has of it. */
export function beginScale({ devicePrecision }: { devicePrecision: "fp32" | "fp16" }): { lossScale?: LossScale } {
  return devicePrecision === "fp16" ? { lossScale: INITIAL_SCALE } : {};
}

const LEAST = 1;
const MOST = 2 ** 16;
/** Steps without an overflow before a larger factor is tried. */
const STEPS_TO_RISE = 1000;

/** After a step whose gradients are finite. */
export function keepScale({ factor, steps }: LossScale): LossScale {
  const rises = steps + 1 >= STEPS_TO_RISE && factor < MOST;
  return rises ? { factor: 2 * factor, steps: 0 } : { factor, steps: steps + 1 };
}

/** After a step that is to be done again, because a gradient has overflowed; null where scaling is not why. */
export function lowerScale({ factor }: LossScale): LossScale | null {
  return factor > LEAST ? { factor: factor / 2, steps: 0 } : null;
}
