// What all Cholesky factors of Gram matrices of a head's weights have in common.

/** Smallest relative pivot: dependent columns of the weights are common and harmless. */
export const PIVOT_FLOOR = 1e-12;

/** Clears the rows of the factor L [n, n] that belong to columns that are 0, so that a head without them has the form 0. */
export function clearZeroRows(factor: Float64Array, gram: Float64Array, n: number): Float64Array {
  const cleared = factor.slice();
  for (let i = 0; i < n; i++) if (gram[i * (n + 1)] === 0) cleared.fill(0, i * n, (i + 1) * n);
  return cleared;
}
