// Mixes the moments of a text with those of inputs of which nothing is known, in the coordinates of a head.
import { RIDGE } from "./tie.ts";

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

export function trace(a: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[i * n + i] as number;
  return sum;
}
