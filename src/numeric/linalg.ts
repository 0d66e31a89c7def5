// Small dense linear algebra in float64, row-major: Cholesky factor, triangular solves, products, trace.
import { addRowProducts, dot, type Rows } from "./products.ts";
import { transposeInto } from "./transpose.ts";

/** Columns that are factored before the rest is brought up to date: a panel of them stays in the cache. */
const PANEL = 128;

/**
 * L with L Lᵀ = A for symmetric positive semidefinite A [n, n]; A is not changed. Where the square of a pivot is at most
 * `floor` times its diagonal entry, the column is a linear combination of those before it, up to rounding: its pivot and
 * all below it are 0, since what is left of such a column is 0 in a semidefinite matrix. Divided by a small pivot, the
 * rounding would grow from each dependent column to the next.
 */
export function cholesky(matrix: Float64Array, n: number, floor: number): Float64Array {
  const l = Float64Array.from(matrix);
  factorInPlace(l, n, floor);
  for (let i = 0; i < n; i++) l.fill(0, i * n + i + 1, (i + 1) * n);
  return l;
}

/**
 * The lower triangle of A [n, n] becomes the factor L of `cholesky`; the upper one is left alone. Larger matrices are
 * factored panel by panel (Golub and Van Loan, Matrix Computations, 4.2.9), small ones in one panel.
 */
export function factorInPlace(a: Float64Array, n: number, floor: number): void {
  for (const _ of factorPanels(a, n, floor));
}

/** The same. @yields between its panels */
export function* factorPanels(a: Float64Array, n: number, floor: number): Generator<void, void> {
  const width = n <= 2 * PANEL ? n : PANEL;
  const floors = Float64Array.from({ length: n }, (_, i) => floor * (a[i * n + i] as number));
  for (let first = 0; first < n; first += width) {
    const end = Math.min(n, first + width);
    const left: Rows = { data: a, at: first * n, stride: n };
    const panel: Rows = { data: a, at: first * n + first, stride: n };
    addRowProducts(panel, left, left, { n: n - first, m: end - first, inner: first, sign: -1, chunk: CHUNK });
    factorPanel(a, n, { first, end }, floors);
    yield;
  }
}

/** Factors columns `first` … `end` − 1, from which all before them are taken off. It is no generator, as those run slowly. */
function factorPanel(
  a: Float64Array,
  n: number,
  { first, end }: { first: number; end: number },
  floors: Float64Array,
): void {
  for (let i = first; i < n; i++)
    for (let j = first; j < end && j <= i; j++) {
      let rest = a[i * n + j] as number;
      for (let k = first; k < j; k++) rest -= (a[i * n + k] as number) * (a[j * n + k] as number);
      const pivot = a[j * n + j] as number;
      if (i > j) a[i * n + j] = pivot === 0 ? 0 : rest / pivot;
      else a[i * n + i] = rest <= (floors[i] as number) ? 0 : Math.sqrt(rest);
    }
}

/** Rows of A Aᵀ that are computed at once: what lies above the diagonal in them is computed in vain. */
const STRIP = 32;

/** Inner length of a pass of a long product: a panel of it, 512 KiB, stays in the cache. */
export const CHUNK = 512;

/** x with A x = b for symmetric positive definite A [n, n] and b [n]; 0 where a column is dependent. */
export function solvePositive(matrix: Float64Array, b: Float64Array, n: number): Float64Array {
  const l = cholesky(matrix, n, 0);
  const x = Float64Array.from(b);
  solveLower(l, x, n, 1, 0);
  solveTransposed(l, x, n, 1);
  return x;
}

/** X with Lᵀ X = B for lower triangular L [n, n], B [n, m]; B becomes X. Rows whose pivot is 0 become 0 in X. */
export function solveTransposed(l: Float64Array, b: Float64Array, n: number, m: number): void {
  for (let i = n - 1; i >= 0; i--) {
    const pivot = l[i * n + i] as number;
    if (pivot === 0) {
      b.fill(0, i * m, (i + 1) * m);
      continue;
    }
    for (let c = 0; c < m; c++) b[i * m + c] = (b[i * m + c] as number) / pivot;
    for (let k = 0; k < i; k++) axpy(b, k * m, -(l[i * n + k] as number), b, i * m, m);
  }
}

/**
 * X with L X = B for lower triangular L [n, n], B [n, m]; B becomes X. Rows whose pivot² is at most `floor` times the
 * square of L's row become 0 in X: they are linear combinations of the rows before them, up to rounding.
 */
export function solveLower(l: Float64Array, b: Float64Array, n: number, m: number, floor: number): void {
  for (let i = 0; i < n; i++) {
    const pivot = l[i * n + i] as number;
    if (pivot * pivot <= floor * dot(l, i * n, l, i * n, i + 1)) {
      b.fill(0, i * m, (i + 1) * m);
      continue;
    }
    for (let k = 0; k < i; k++) axpy(b, i * m, -(l[i * n + k] as number), b, k * m, m);
    for (let c = 0; c < m; c++) b[i * m + c] = (b[i * m + c] as number) / pivot;
  }
}

/** A B: [n, k] · [k, m] → [n, m] */
export function multiply(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  return multiplyRows(a, transposeFactor(b, k, m, 0), n, k, m);
}

/** Aᵀ B: [k, n]ᵀ · [k, m] → [n, m] */
export function multiplyTransposed(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  const columns = transposeFactor(a, k, n, 0);
  return multiplyRows(columns, a === b ? columns : transposeFactor(b, k, m, 1), n, k, m);
}

/** Numbers of a transposed factor that is kept for the next product. */
const KEPT_NUMBERS = 2 ** 20;

/** Memory of both factors of a product: fresh arrays for each head would keep the garbage collector busy. */
const factors: [Float64Array, Float64Array] = [new Float64Array(0), new Float64Array(0)];

/** Aᵀ as `transpose` gives it, in memory that the next product may overwrite. */
function transposeFactor(a: Float64Array, n: number, m: number, slot: 0 | 1): Float64Array {
  if (n === 1 || m === 1 || n * m > KEPT_NUMBERS) return transpose(a, n, m);
  if (factors[slot].length < n * m) factors[slot] = new Float64Array(n * m);
  return transposeInto(a, n, m, factors[slot].subarray(0, n * m));
}

/** Aᵀ: [n, m] → [m, n]; a vector is returned as the same array, uncopied */
export function transpose(a: Float64Array, n: number, m: number): Float64Array {
  return n === 1 || m === 1 ? a : transposeInto(a, n, m, new Float64Array(n * m));
}

/**
 * A Bᵀ: [n, k] · [m, k]ᵀ → [n, m]. A Aᵀ costs half: only its lower triangle is computed, then mirrored.
 * @param stride from one row of A and B to the next
 */
export function multiplyRows(
  a: Float64Array,
  b: Float64Array,
  n: number,
  k: number,
  m: number,
  stride = k,
): Float64Array {
  const out = new Float64Array(n * m);
  const rowsFrom = (data: Float64Array, i: number, stride: number): Rows => ({ data, at: i * stride, stride });
  const right = rowsFrom(b, 0, stride);
  if (a !== b) {
    addRowProducts(rowsFrom(out, 0, m), rowsFrom(a, 0, stride), right, { n, m, inner: k, sign: 1 });
    return out;
  }
  for (let i = 0; i < n; i += STRIP) {
    const rows = Math.min(STRIP, n - i);
    const size = { n: rows, m: i + rows, inner: k, sign: 1 } as const;
    addRowProducts(rowsFrom(out, i, m), rowsFrom(a, i, stride), right, size);
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) out[j * n + i] = out[i * n + j] as number;
  return out;
}

/** sums[i] += values[i] */
export function addInto(sums: Float64Array, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) sums[i] = (sums[i] as number) + (values[i] as number);
}

/** y[yAt …] += s · x[xAt …], m entries */
function axpy(y: Float64Array, yAt: number, s: number, x: Float64Array, xAt: number, m: number): void {
  if (s === 0) return;
  for (let c = 0; c < m; c++) y[yAt + c] = (y[yAt + c] as number) + s * (x[xAt + c] as number);
}

/** I: [n, n] */
export function makeIdentity(n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  return out;
}

/** The entries of A [n, n] in `size` rows and columns from `first` on: [size, size] */
export function takeBlock(a: Float64Array, n: number, first: number, size: number): Float64Array {
  const block = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    const at = (first + i) * n + first;
    block.set(a.subarray(at, at + size), i * size);
  }
  return block;
}

/** Adds a share of the mean diagonal to the diagonal of A [n, n], in place; 1 where that is 0. */
export function addRidge(a: Float64Array, n: number, share: number): void {
  const ridge = (share * trace(a, n)) / n || 1;
  for (let i = 0; i < n; i++) a[i * n + i] = (a[i * n + i] as number) + ridge;
}

/** Σ A_ii of A [n, n] */
export function trace(a: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[i * n + i] as number;
  return sum;
}
