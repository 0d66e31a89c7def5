// Small dense linear algebra in float64, row-major: Cholesky factor, triangular solve, products.

/**
 * L with L Lᵀ = A for symmetric positive semidefinite A [n, n]; A is not changed. Each pivot is kept above `floor`
 * times its diagonal entry (or the largest one, where that is 0), so that dependent columns give a small pivot, not NaN.
 */
export function cholesky(matrix: Float64Array, n: number, floor: number): Float64Array {
  const l = new Float64Array(n * n);
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, matrix[i * n + i] as number);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j] as number;
      for (let k = 0; k < j; k++) sum -= (l[i * n + k] as number) * (l[j * n + k] as number);
      if (i > j) l[i * n + j] = sum / (l[j * n + j] as number);
      else l[i * n + i] = Math.sqrt(Math.max(sum, floor * ((matrix[i * n + i] as number) || largest || 1)));
    }
  return l;
}

/** X with Lᵀ X = B for lower triangular L [n, n], B [n, m]; B becomes X. */
export function solveTransposed(l: Float64Array, b: Float64Array, n: number, m: number): void {
  for (let i = n - 1; i >= 0; i--) {
    const pivot = l[i * n + i] as number;
    for (let c = 0; c < m; c++) b[i * m + c] = (b[i * m + c] as number) / pivot;
    for (let k = 0; k < i; k++) axpy(b, k * m, -(l[i * n + k] as number), b, i * m, m);
  }
}

/** A B: [n, k] · [k, m] → [n, m] */
export function multiply(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++) for (let j = 0; j < k; j++) axpy(out, i * m, a[i * k + j] as number, b, j * m, m);
  return out;
}

/** Aᵀ B: [k, n]ᵀ · [k, m] → [n, m] */
export function multiplyTransposed(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let j = 0; j < k; j++) for (let i = 0; i < n; i++) axpy(out, i * m, a[j * n + i] as number, b, j * m, m);
  return out;
}

/** y[yAt …] += s · x[xAt …], m entries */
function axpy(y: Float64Array, yAt: number, s: number, x: Float64Array, xAt: number, m: number): void {
  if (s === 0) return;
  for (let c = 0; c < m; c++) y[yAt + c] = (y[yAt + c] as number) + s * (x[xAt + c] as number);
}
