// Finds the eigenvalues and eigenvectors of a dense symmetric matrix: Householder tridiagonalization, then implicit QL.
import { openSymmetricKernel, type SymmetricKernel } from "./kernels/symmetric.ts";
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
  const kernel = openSymmetricKernel(n);
  scaleSymmetric(matrix, n, scale, kernel.a);
  const { diagonal, off } = tridiagonalize(kernel, n);
  diagonalize(diagonal, off, kernel, n);
  const result = sortEigenpairs(diagonal, kernel.z, n);
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

/** The lower triangle times `scale`, mirrored, to `out` [n, n]. */
function scaleSymmetric(matrix: Float64Array, n: number, scale: number, out: Float64Array): void {
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) out[i * n + j] = out[j * n + i] = (matrix[i * n + j] as number) * scale;
}

/** T = Q A Qᵀ with T tridiagonal (`diagonal`, `off`) for the A in the kernel, which is overwritten; Q is left in its z. */
function tridiagonalize(kernel: SymmetricKernel, n: number) {
  const { a, v, w } = kernel;
  const diagonal = new Float64Array(n);
  const off = new Float64Array(n);
  const betas = new Float64Array(n);
  for (let k = 0; k < n - 1; k++) {
    diagonal[k] = a[k * n + k] as number;
    const { alpha, beta } = makeReflection(a, n, k, v);
    off[k] = alpha;
    betas[k] = beta;
    if (beta === 0) continue;
    kernel.reflect(a.byteOffset, n, k, v.byteOffset, w.byteOffset, beta);
    for (let i = k + 1; i < n; i++) a[i * n + k] = v[i - k - 1] as number;
  }
  if (n > 0) diagonal[n - 1] = a[n * n - 1] as number;
  accumulate(kernel, betas, n);
  return { diagonal, off };
}

/** The v and β of step k, from column k below the diagonal, and the off-diagonal entry α; β = 0 for no reflection. */
function makeReflection(a: Float64Array, n: number, k: number, v: Float64Array): { alpha: number; beta: number } {
  const m = n - k - 1;
  let norm2 = 0;
  for (let i = 0; i < m; i++) {
    v[i] = a[(k + 1 + i) * n + k] as number;
    if (i > 0) norm2 += (v[i] as number) ** 2;
  }
  const first = v[0] as number;
  if (norm2 < NEGLIGIBLE) return { alpha: first, beta: 0 };
  const alpha = first > 0 ? -Math.sqrt(first * first + norm2) : Math.sqrt(first * first + norm2);
  v[0] = first - alpha;
  return { alpha, beta: 2 / ((v[0] as number) ** 2 + norm2) };
}

/** The product of the reflections, as rows: Z ← Z − β (Z v) vᵀ from the last to the first. */
function accumulate(kernel: SymmetricKernel, betas: Float64Array, n: number): void {
  const { a, z, v, w } = kernel;
  z.fill(0);
  for (let i = 0; i < n; i++) z[i * n + i] = 1;
  for (let k = n - 2; k >= 0; k--) {
    const beta = betas[k] as number;
    if (beta === 0) continue;
    for (let j = k + 1; j < n; j++) v[j - k - 1] = a[j * n + k] as number;
    kernel.reflectRows(z.byteOffset, n, k + 1, v.byteOffset, w.byteOffset, beta);
  }
}

/**
 * Implicit QL with Wilkinson shifts: d [n] becomes the eigenvalues; off[i] couples i and i + 1. Rotations are applied to
 * the rows of the kernel's z, where eigenvectors are wanted.
 */
export function diagonalize(d: Float64Array, off: Float64Array, kernel: SymmetricKernel | null, n: number): void {
  let passed = 0; // magnitude of the rows so far: entries that shrink downwards would not converge against their neighbors
  for (let low = 0; low < n; low++) {
    passed = Math.max(passed, Math.abs(d[low] as number) + Math.abs(off[low] as number));
    for (let sweep = 0; ; sweep++) {
      const high = findFirstSmall(d, off, { low, passed }, n);
      if (high === low) break;
      if (sweep === MAX_SWEEPS) throw new Error("symmetricEigen: no convergence");
      const count = sweepQl(d, off, low, high, kernel?.rotations ?? null);
      kernel?.rotate(kernel.z.byteOffset, n, high, kernel.rotations.byteOffset, count);
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

/** One sweep over rows low … high. Gives the number of its rotations, of rows high − 1 and high first, and c and s of each. */
function sweepQl(
  d: Float64Array,
  off: Float64Array,
  low: number,
  high: number,
  rotations: Float64Array | null,
): number {
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
      return high - 1 - i;
    }
    s = f / r;
    c = g / r;
    g = (d[i + 1] as number) - p;
    const t = ((d[i] as number) - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
    if (!rotations) continue;
    const at = 2 * (high - 1 - i);
    rotations[at] = c;
    rotations[at + 1] = s;
  }
  d[low] = (d[low] as number) - p;
  off[low] = g;
  off[high] = 0;
  return high - low;
}

function sortEigenpairs(d: Float64Array, z: Float64Array, n: number): SymmetricEigen {
  const order = Array.from(d.keys()).sort((a, b) => (d[b] as number) - (d[a] as number));
  const vectors = new Float64Array(n * n);
  for (const [to, from] of order.entries()) {
    let top = 0;
    for (let k = from * n; k < (from + 1) * n; k++) if (Math.abs(z[k] as number) > Math.abs(top)) top = z[k] as number;
    const sign = top < 0 ? -1 : 1;
    for (let k = 0; k < n; k++) vectors[to * n + k] = sign * (z[from * n + k] as number);
  }
  return { values: Float64Array.from(order, (i) => d[i] as number), vectors };
}
