// Scales matrices so that squares of their entries neither overflow nor vanish.

/** Squared length of a column or row, in a matrix whose largest entry is about 1, that counts as 0: smaller squares lose digits. */
export const NEGLIGIBLE = 2 ** -960;

/** Largest power of two that float64 holds. */
const MAX_EXPONENT = 1023;

/** The power of two that brings `largest`, which is not negative, near 1; rounds nothing. 1 for 0. */
export function findUnitScale(largest: number): number {
  return largest === 0 ? 1 : 2 ** Math.min(MAX_EXPONENT, -Math.floor(Math.log2(largest)));
}
