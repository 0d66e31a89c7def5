// Mixes the moments of a text with those of inputs of which nothing is known.
import { trace } from "../../numeric/linalg.ts";

/** The ridge on Σ's diagonal, relative to its mean: it bounds S̃ in directions that the text never takes. */
export const RIDGE = 1e-4;

/** The ridge of the fits that make up for what a cut has taken, relative to the mean diagonal of their moments. */
export const FIT_RIDGE = 1e-2;

/** Positions at which text and identity have equal shares in the metric (docs/decisions/0036-calibration-trust.md). */
const TRUST_TOKENS = 128;

/**
 * The share of the moments of a text in the metric of a tie. A few positions say that errors in all other directions
 * cost nothing, so that the rest of the metric is the identity, as without text.
 */
export function computeTrust(positions: number): number {
  return positions ** 2 / (positions ** 2 + TRUST_TOKENS ** 2);
}

/**
 * trust · G + (1 − trust + ridge) · (tr G / tr I) · I, where I [D, D] are the moments that inputs in all directions alike
 * would give, WᵀW. Gives I where G is 0.
 */
export function mixMoments(moments: Float64Array, identity: Float64Array, D: number, trust: number): Float64Array {
  const [measured, plain] = [trace(moments, D), trace(identity, D)];
  if (measured === 0 || plain === 0) return identity;
  const level = ((1 - trust + RIDGE) * measured) / plain;
  return moments.map((value, at) => trust * value + level * (identity[at] as number));
}
