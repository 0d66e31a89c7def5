// Finds the singular values of a dense square matrix without its vectors: bidiagonal form, then implicit QL.
import { dot } from "./products.ts";
import { findScale } from "./singular-values.ts";
import { diagonalize } from "./symmetric-eigen.ts";
import { NEGLIGIBLE } from "./unit-scale.ts";

/**
 * Singular values of A [n, n], row-major, descending: [n]. Reflections from both sides leave an upper bidiagonal B with
 * diagonal d and superdiagonal e (Golub and Van Loan, Matrix Computations, 5.4.8). The symmetric tridiagonal matrix of
 * order 2n with a diagonal of zeros and d_0, e_0, d_1, e_1, … beside it has the eigenvalues ±σ (8.6.1), so that each σ is
 * exact to a rounding of the largest one.
 * @throws Error when the matrix is not finite
 */
export function findSingularValues(matrix: Float64Array, n: number): Float64Array {
  const scale = findScale(matrix);
  const beside = bidiagonalize(
    matrix.map((value) => value * scale),
    n,
  );
  const values = new Float64Array(2 * n);
  diagonalize(values, beside, null, 2 * n);
  return values
    .sort()
    .reverse()
    .subarray(0, n)
    .map((value) => Math.max(0, value) / scale);
}

/** d_0, e_0, d_1, e_1, …, d_{n−1}, 0: [2n]; `a` is overwritten. */
function bidiagonalize(a: Float64Array, n: number): Float64Array {
  const beside = new Float64Array(2 * n);
  const column = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    for (let i = k; i < n; i++) column[i] = a[i * n + k] as number;
    beside[2 * k] = reflectColumns(a, n, k, column);
    if (k + 1 < n) beside[2 * k + 1] = reflectRows(a, n, k, a.slice(k * n, (k + 1) * n));
  }
  return beside;
}

/** Turns x from index `first` on into α e_first: x becomes the v of H = I − β v vᵀ. Gives β, 0 for no reflection, and α. */
function makeReflection(x: Float64Array, first: number): { alpha: number; beta: number } {
  const head = x[first] as number;
  const rest = dot(x, first + 1, x, first + 1, x.length - first - 1);
  if (rest < NEGLIGIBLE) return { alpha: head, beta: 0 };
  const alpha = head > 0 ? -Math.sqrt(head * head + rest) : Math.sqrt(head * head + rest);
  x[first] = head - alpha;
  return { alpha, beta: 2 / ((x[first] as number) ** 2 + rest) };
}

/** A ← A − v (β Aᵀv)ᵀ on the columns behind k, for the reflection that clears column k below its diagonal. Gives α. */
function reflectColumns(a: Float64Array, n: number, k: number, v: Float64Array): number {
  const { alpha, beta } = makeReflection(v, k);
  if (beta === 0) return alpha;
  const w = new Float64Array(n); // β Aᵀv
  for (let i = k; i < n; i++) {
    const share = beta * (v[i] as number);
    for (let j = k + 1; j < n; j++) w[j] = (w[j] as number) + share * (a[i * n + j] as number);
  }
  for (let i = k; i < n; i++) {
    const vi = v[i] as number;
    for (let j = k + 1; j < n; j++) a[i * n + j] = (a[i * n + j] as number) - vi * (w[j] as number);
  }
  return alpha;
}

/** A ← A − (β A v) vᵀ on the rows below k, for the reflection that clears row k behind its superdiagonal. Gives α. */
function reflectRows(a: Float64Array, n: number, k: number, v: Float64Array): number {
  const { alpha, beta } = makeReflection(v, k + 1);
  if (beta === 0) return alpha;
  for (let i = k + 1; i < n; i++) {
    const share = beta * dot(a, i * n + k + 1, v, k + 1, n - k - 1);
    for (let j = k + 1; j < n; j++) a[i * n + j] = (a[i * n + j] as number) - share * (v[j] as number);
  }
  return alpha;
}
