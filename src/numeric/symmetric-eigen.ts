// Finds the eigenvalues and eigenvectors of a dense symmetric matrix: Householder tridiagonalization, then implicit QL.
import { findUnitScale, NEGLIGIBLE } from "./unit-scale.ts";

export interface SymmetricEigen {
  /** Descending: [n] */
  values: Float64Array;
  /** Eigenvector of values[i] as row i, of length 1, its entry of largest magnitude positive: [n, n] */
  vectors: Float64Array;
}

/** QL needs about 1.7 sweeps an eigenvalue; more than this is a bug. */
const MAX_SWEEPS = 60;

/**
 * A = Vᵀ diag(values) V for symmetric A [n, n], row-major (only its lower triangle need be right). Golub and Van Loan,
 * Matrix Computations, 8.3; rotations work on contiguous rows.
 * @throws Error when the matrix is not finite
 */
export function decomposeSymmetric(matrix: Float64Array, n: number): SymmetricEigen {
  const scale = findScale(matrix, n);
  const { diagonal, off, vectors } = tridiagonalize(scaleSymmetric(matrix, n, scale), n);
  diagonalize(diagonal, off, vectors, n);
  const result = sortEigenpairs(diagonal, vectors, n);
  return { ...result, values: result.values.map((value) => value / scale) };
}

/** `findUnitScale` of the largest entry, as squares are taken on the way. */
function findScale(matrix: Float64Array, n: number): number {
  let largest = 0;
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) largest = Math.max(largest, Math.abs(matrix[i * n + j] as number));
  if (!Number.isFinite(largest)) throw new Error("symmetricEigen: the matrix is not finite");
  return findUnitScale(largest);
}

/** The lower triangle times `scale`, mirrored. */
function scaleSymmetric(matrix: Float64Array, n: number, scale: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) out[i * n + j] = out[j * n + i] = (matrix[i * n + j] as number) * scale;
  return out;
}

/** T = Q A Qᵀ with T tridiagonal (`diagonal`, `off`) and Q in the rows of `vectors`; `a` is overwritten. */
function tridiagonalize(a: Float64Array, n: number) {
  const diagonal = new Float64Array(n);
  const off = new Float64Array(n);
  const betas = new Float64Array(n);
  for (let k = 0; k < n - 1; k++) {
    diagonal[k] = a[k * n + k] as number;
    off[k] = reflect(a, n, k, betas);
  }
  if (n > 0) diagonal[n - 1] = a[n * n - 1] as number;
  return { diagonal, off, vectors: accumulate(a, betas, n) };
}

/** One Householder step on the trailing block; keeps v in column k below the diagonal, gives the off-diagonal entry. */
function reflect(a: Float64Array, n: number, k: number, betas: Float64Array): number {
  const m = n - k - 1;
  const v = new Float64Array(m);
  let norm2 = 0;
  for (let i = 0; i < m; i++) {
    v[i] = a[(k + 1 + i) * n + k] as number;
    if (i > 0) norm2 += (v[i] as number) ** 2;
  }
  const first = v[0] as number;
  if (norm2 < NEGLIGIBLE) return first;
  const alpha = first > 0 ? -Math.sqrt(first * first + norm2) : Math.sqrt(first * first + norm2);
  v[0] = first - alpha;
  const beta = 2 / ((v[0] as number) ** 2 + norm2);
  betas[k] = beta;
  const w = new Float64Array(m); // β A v − (β²/2)(vᵀA v) v
  let vw = 0;
  for (let i = 0; i < m; i++) {
    const row = (k + 1 + i) * n + k + 1;
    let sum = 0;
    for (let j = 0; j < m; j++) sum += (a[row + j] as number) * (v[j] as number);
    w[i] = beta * sum;
    vw += (w[i] as number) * (v[i] as number);
  }
  for (let i = 0; i < m; i++) w[i] = (w[i] as number) - 0.5 * beta * vw * (v[i] as number);
  for (let i = 0; i < m; i++) {
    const row = (k + 1 + i) * n + k + 1;
    const vi = v[i] as number;
    const wi = w[i] as number;
    for (let j = 0; j < m; j++) a[row + j] = (a[row + j] as number) - vi * (w[j] as number) - wi * (v[j] as number);
    a[(k + 1 + i) * n + k] = vi;
  }
  return alpha;
}

/** The product of the reflections, as rows: Z ← Z − β (Z v) vᵀ from the last to the first. */
function accumulate(a: Float64Array, betas: Float64Array, n: number): Float64Array {
  const z = new Float64Array(n * n);
  for (let i = 0; i < n; i++) z[i * n + i] = 1;
  const v = new Float64Array(n);
  for (let k = n - 2; k >= 0; k--) {
    const beta = betas[k] as number;
    if (beta === 0) continue;
    for (let j = k + 1; j < n; j++) v[j] = a[j * n + k] as number;
    for (let i = k + 1; i < n; i++) {
      let dot = 0;
      for (let j = k + 1; j < n; j++) dot += (z[i * n + j] as number) * (v[j] as number);
      dot *= beta;
      for (let j = k + 1; j < n; j++) z[i * n + j] = (z[i * n + j] as number) - dot * (v[j] as number);
    }
  }
  return z;
}

/**
 * Implicit QL with Wilkinson shifts: d [n] becomes the eigenvalues; off[i] couples i and i + 1. Rotations are applied to
 * the rows of `z`, where eigenvectors are wanted.
 */
export function diagonalize(d: Float64Array, off: Float64Array, z: Float64Array | null, n: number): void {
  let passed = 0; // magnitude of the rows so far: entries that shrink downwards would not converge against their neighbors
  for (let low = 0; low < n; low++) {
    passed = Math.max(passed, Math.abs(d[low] as number) + Math.abs(off[low] as number));
    for (let sweep = 0; ; sweep++) {
      const high = findFirstSmall(d, off, { low, passed }, n);
      if (high === low) break;
      if (sweep === MAX_SWEEPS) throw new Error("symmetricEigen: no convergence");
      sweepQl(d, off, z, low, high, n);
    }
  }
}

/** The end of the unreduced block that starts at `low`. */
function findFirstSmall(
  d: Float64Array,
  off: Float64Array,
  { low, passed }: { low: number; passed: number },
  n: number,
): number {
  let m = low;
  for (; m < n - 1; m++) {
    const scale = Math.max(passed, Math.abs(d[m] as number) + Math.abs(d[m + 1] as number));
    if (Math.abs(off[m] as number) <= Number.EPSILON * scale) break;
  }
  return m;
}

function sweepQl(
  d: Float64Array,
  off: Float64Array,
  z: Float64Array | null,
  low: number,
  high: number,
  n: number,
): void {
  const e = off[low] as number;
  let g = ((d[low + 1] as number) - (d[low] as number)) / (2 * e);
  g = (d[high] as number) - (d[low] as number) + e / (g + (g < 0 ? -Math.hypot(g, 1) : Math.hypot(g, 1)));
  let [s, c, p] = [1, 1, 0];
  for (let i = high - 1; i >= low; i--) {
    const f = s * (off[i] as number);
    const b = c * (off[i] as number);
    const r = Math.hypot(f, g);
    off[i + 1] = r;
    if (r === 0) {
      d[i + 1] = (d[i + 1] as number) - p;
      off[high] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = (d[i + 1] as number) - p;
    const t = ((d[i] as number) - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
    if (z) rotateRows(z, i * n, (i + 1) * n, n, c, s);
  }
  d[low] = (d[low] as number) - p;
  off[low] = g;
  off[high] = 0;
}

function rotateRows(z: Float64Array, i: number, j: number, n: number, c: number, s: number): void {
  for (let k = 0; k < n; k++) {
    const f = z[j + k] as number;
    const h = z[i + k] as number;
    z[j + k] = s * h + c * f;
    z[i + k] = c * h - s * f;
  }
}

function sortEigenpairs(d: Float64Array, z: Float64Array, n: number): SymmetricEigen {
  const order = Array.from(d.keys()).sort((a, b) => (d[b] as number) - (d[a] as number));
  const vectors = new Float64Array(n * n);
  for (const [to, from] of order.entries()) {
    const row = z.subarray(from * n, (from + 1) * n);
    const top = row.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    vectors.set(top < 0 ? row.map((value) => -value) : row, to * n);
  }
  return { values: Float64Array.from(order, (i) => d[i] as number), vectors };
}
