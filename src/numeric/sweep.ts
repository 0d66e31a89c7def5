// The sweep operator on a symmetric positive definite matrix, several pivots at once: inverses, and least squares without a variable.
import { cholesky, solveLower, solveTransposed } from "./linalg.ts";
import { addRowProducts } from "./products.ts";

/** Pivots that an inverse takes at once. */
const BLOCK = 64;

/**
 * Sweeps A [n, n], symmetric and stored in full, on the pivots S (Goodnight, "A tutorial on the SWEEP operator", 1979). With
 * K the other indices,
 *
 *     A_SS → −A_SS⁻¹,   A_KS → A_KS A_SS⁻¹,   A_KK → A_KK − A_KS A_SS⁻¹ A_SK
 *
 * @returns A_·S A_SS⁻¹ as it was before: [n, |S|]
 */
export function sweep(a: Float64Array, n: number, pivots: readonly number[]): Float64Array {
  const b = pivots.length;
  const columns = new Float64Array(n * b); // A_·S
  for (let i = 0; i < n; i++)
    for (let s = 0; s < b; s++) columns[i * b + s] = a[i * n + (pivots[s] as number)] as number;
  const block = new Float64Array(b * b); // A_SS
  for (let r = 0; r < b; r++)
    for (let s = 0; s < b; s++) block[r * b + s] = a[(pivots[r] as number) * n + (pivots[s] as number)] as number;
  const inverse = invertSmall(block, b);
  const scaled = new Float64Array(n * b); // A_·S A_SS⁻¹; the inverse is symmetric, so that its rows are its columns
  const rowsOf = (data: Float64Array, stride: number) => ({ data, at: 0, stride });
  addRowProducts(rowsOf(scaled, b), rowsOf(columns, b), rowsOf(inverse, b), { n, m: b, inner: b, sign: 1 });
  addRowProducts(rowsOf(a, n), rowsOf(scaled, b), rowsOf(columns, b), { n, m: n, inner: b, sign: -1 });
  for (let i = 0; i < n; i++)
    for (let s = 0; s < b; s++) {
      const pivot = pivots[s] as number;
      a[i * n + pivot] = a[pivot * n + i] = scaled[i * b + s] as number;
    }
  for (let r = 0; r < b; r++)
    for (let s = 0; s < b; s++) a[(pivots[r] as number) * n + (pivots[s] as number)] = -(inverse[r * b + s] as number);
  return scaled;
}

/**
 * A becomes A⁻¹: [n, n], symmetric positive definite and stored in full.
 * @yields between its blocks, which take some 0.5 s each at n = 3072
 */
export function* invertInPlace(a: Float64Array, n: number): Generator<void, void> {
  for (let first = 0; first < n; first += BLOCK) {
    const pivots = Array.from({ length: Math.min(BLOCK, n - first) }, (_, i) => first + i);
    sweep(a, n, pivots);
    yield;
  }
  for (let i = 0; i < a.length; i++) a[i] = -(a[i] as number);
}

function invertSmall(block: Float64Array, b: number): Float64Array {
  const l = cholesky(block, b, 0);
  const inverse = new Float64Array(b * b);
  for (let i = 0; i < b; i++) inverse[i * b + i] = 1;
  solveLower(l, inverse, b, b, 0);
  solveTransposed(l, inverse, b, b);
  return inverse;
}
