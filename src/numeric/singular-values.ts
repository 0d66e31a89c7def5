// Finds the singular values and vectors of a dense square matrix by one-sided Jacobi rotations.
import { dot } from "./products.ts";
import { findUnitScale, NEGLIGIBLE } from "./unit-scale.ts";

export interface SingularDecomposition {
  /** Descending, none negative: [n] */
  values: Float64Array;
  /** Uᵀ: left vector of values[i] as row i, all of length 1 and orthogonal: [n, n] */
  left: Float64Array;
  /** Vᵀ: right vector of values[i] as row i, of length 1, or 0 where values[i] is 0: [n, n] */
  right: Float64Array;
}

/** Matrices of a few hundred rows need about 8 sweeps; more than this is a bug. */
const MAX_SWEEPS = 60;

/**
 * A = U diag(values) Vᵀ for A [n, n], row-major. Pairs of rows are rotated until all are orthogonal (Golub and Van Loan,
 * Matrix Computations, 8.6.3): the rotations are Uᵀ, the rows that remain diag(values) Vᵀ.
 * @throws Error when the matrix is not finite
 */
export function decomposeSingular(matrix: Float64Array, n: number): SingularDecomposition {
  const turns = new Float64Array(n * n);
  for (let i = 0; i < n; i++) turns[i * n + i] = 1;
  const { rows, values, order, lengths } = orthogonalize(matrix, n, turns);
  const [left, right] = [new Float64Array(n * n), new Float64Array(n * n)];
  for (const [to, from] of order.entries()) {
    left.set(turns.subarray(from * n, (from + 1) * n), to * n);
    const length = lengths[from] as number;
    if (length > 0)
      right.set(
        rows.subarray(from * n, (from + 1) * n).map((value) => value / length),
        to * n,
      );
  }
  return { values, left, right };
}

/** Rotates rows until all are orthogonal. `turns` takes the rotations: [n, n] */
function orthogonalize(matrix: Float64Array, n: number, turns: Float64Array) {
  const scale = findScale(matrix);
  const rows = matrix.map((value) => value * scale);
  let sweeps = 0;
  while (sweepRows(rows, turns, n)) {
    sweeps += 1;
    if (sweeps === MAX_SWEEPS) throw new Error("decomposeSingular: no convergence");
  }
  const lengths = Array.from({ length: n }, (_, i) => Math.sqrt(dot(rows, i * n, rows, i * n, n)));
  const order = [...lengths.keys()].sort((a, b) => (lengths[b] as number) - (lengths[a] as number));
  return { rows, lengths, order, values: Float64Array.from(order, (i) => (lengths[i] as number) / scale) };
}

/** `findUnitScale` of the largest entry, as squares are taken on the way. */
export function findScale(matrix: Float64Array): number {
  let largest = 0;
  for (let i = 0; i < matrix.length; i++) {
    const magnitude = Math.abs(matrix[i] as number);
    if (!(magnitude < Number.POSITIVE_INFINITY)) throw new Error("decomposeSingular: the matrix is not finite");
    if (magnitude > largest) largest = magnitude;
  }
  return findUnitScale(largest);
}

/** Rotates every pair of rows once; says whether any of them was not yet orthogonal. */
function sweepRows(rows: Float64Array, turns: Float64Array, n: number): boolean {
  const tolerance = Math.sqrt(n) * Number.EPSILON;
  let turned = false;
  for (let i = 0; i < n - 1; i++)
    for (let j = i + 1; j < n; j++) {
      const [a, b] = [dot(rows, i * n, rows, i * n, n), dot(rows, j * n, rows, j * n, n)];
      const product = dot(rows, i * n, rows, j * n, n);
      const apart = Math.abs(product) > tolerance * Math.sqrt(a) * Math.sqrt(b) && Math.min(a, b) > NEGLIGIBLE;
      // The longer row goes first, which makes the sweeps converge faster (de Rijk 1989).
      if (!apart && a >= b) continue;
      turned ||= apart;
      const { c, s } = apart ? findRotation(a, b, product) : { c: 0, s: 1 };
      rotateRows(rows, i * n, j * n, n, c, s);
      rotateRows(turns, i * n, j * n, n, c, s);
    }
  return turned;
}

/** Cosine and sine that make two rows orthogonal, the longer result first, from their squares and their product. */
function findRotation(a: number, b: number, product: number): { c: number; s: number } {
  const zeta = (b - a) / (2 * product);
  const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta)); // tangent of the smaller angle
  const c = 1 / Math.hypot(1, t);
  const s = -c * t;
  return a - t * product >= b + t * product ? { c, s } : { c: -s, s: c };
}

/** Row i becomes c·i + s·j, row j becomes c·j − s·i. */
function rotateRows(z: Float64Array, i: number, j: number, n: number, c: number, s: number): void {
  for (let k = 0; k < n; k++) {
    const x = z[i + k] as number;
    const y = z[j + k] as number;
    z[i + k] = c * x + s * y;
    z[j + k] = c * y - s * x;
  }
}
