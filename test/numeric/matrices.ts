// Seeded random numbers and matrices for the tests of the tie, with ml-matrix as the independent arithmetic.
import { EVD, Matrix } from "ml-matrix";
import { buildHeadSpan } from "../../src/convert/attention/tie-head.ts";

/** Uniform on [−1, 1) from a seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function randomMatrix(rows: number, columns: number, random: () => number): Matrix {
  return new Matrix(Array.from({ length: rows }, () => Array.from({ length: columns }, random)));
}

/** Row-major values. */
export function flat(matrix: Matrix): Float64Array {
  return Float64Array.from(matrix.to1DArray());
}

export function fromFlat(values: ArrayLike<number>, rows: number, columns: number): Matrix {
  return Matrix.from1DArray(rows, columns, Array.from(values));
}

/** E[x̃ x̃ᵀ] of inputs that are correlated and not centred; the last of them is the constant 1 when `constant`. */
export function randomSigma(rows: number, constant: boolean, random: () => number): Matrix {
  const mixing = randomMatrix(rows, rows, random);
  const samples = randomMatrix(4 * rows, rows, random)
    .mmul(mixing)
    .add(randomMatrix(1, rows, random).get(0, 0));
  if (constant) for (let i = 0; i < samples.rows; i++) samples.set(i, rows - 1, 1);
  return samples.transpose().mmul(samples).div(samples.rows);
}

/** A head in dense matrices: what the code under test sees, and what a reference can work on. */
export interface DenseHead {
  query: Matrix; // [rows, D]
  key: Matrix; // [rows, D]
  sigma: Matrix; // [rows, rows]
  constant: boolean;
}

export interface HeadOptions {
  width?: number;
  headDim?: number;
  constant?: boolean;
  identity?: boolean;
}

export function randomHead(seed: number, options: HeadOptions = {}): DenseHead {
  const { width = 8, headDim = 3, constant = true, identity = false } = options;
  const random = uniform(seed);
  const rows = constant ? width + 1 : width;
  const query = randomMatrix(rows, headDim, random);
  const key = randomMatrix(rows, headDim, random);
  return { query, key, sigma: identity ? Matrix.eye(rows) : randomSigma(rows, constant, random), constant };
}

export function spanOf({ query, key, sigma, constant }: DenseHead) {
  const columns = columnsOf(query, key, constant);
  const options = { rows: query.rows, headDim: query.columns, constant, inputs: inputsOf(columns, sigma) };
  return buildHeadSpan(columns, options);
}

/** BᵀΣB of Bᵀ [n, rows] */
export function headMoments(columns: Float64Array, sigma: Matrix): Float64Array {
  const basis = fromFlat(columns, columns.length / sigma.rows, sigma.rows);
  return flat(basis.mmul(sigma).mmul(basis.transpose()));
}

/** A Σ without a ridge. */
export function inputsOf(columns: Float64Array, sigma: Matrix) {
  return { moments: headMoments(columns, sigma), share: 1, rest: 0 };
}

/** [W̃qᵀ; W̃kᵀ; eᵀ] */
export function columnsOf(query: Matrix, key: Matrix, constant: boolean): Float64Array {
  const last = Array.from({ length: query.rows }, (_, row) => (row === query.rows - 1 ? 1 : 0));
  const rows = [...query.transpose().to2DArray(), ...key.transpose().to2DArray(), ...(constant ? [last] : [])];
  return Float64Array.from(rows.flat());
}

/** ‖Σ^½ (M − P + a eᵀ) Σ^½‖² with the best a = −(M − P) Σe / (eᵀΣe); a = 0 without a constant input. */
export function visibleLoss({ query, key, sigma, constant }: DenseHead, form: Matrix): number {
  const rest = query.mmul(key.transpose()).sub(form);
  if (constant) rest.add(freeTerm(rest, sigma));
  return rest.transpose().mmul(sigma).mmul(rest).mmul(sigma).trace(); // tr(EᵀΣEΣ)
}

/** a eᵀ with a = −E Σe / (eᵀΣe). */
export function freeTerm(rest: Matrix, sigma: Matrix): Matrix {
  const last = sigma.rows - 1;
  const a = rest.mmul(sigma.getColumnVector(last)).div(-sigma.get(last, last));
  const out = Matrix.zeros(sigma.rows, sigma.rows);
  for (let i = 0; i < sigma.rows; i++) out.set(i, last, a.get(i, 0));
  return out;
}

/** Σ^p of a positive definite Σ. */
export function power(sigma: Matrix, exponent: number): Matrix {
  const { realEigenvalues, eigenvectorMatrix } = new EVD(sigma, { assumeSymmetric: true });
  const scaled = Matrix.diag(realEigenvalues.map((value) => Math.max(value, 1e-300) ** exponent));
  return eigenvectorMatrix.mmul(scaled).mmul(eigenvectorMatrix.transpose());
}

/** The closest positive semidefinite matrix of rank `rank` to the symmetric part. */
export function nearestPositive(matrix: Matrix, rank: number): Matrix {
  const symmetric = Matrix.add(matrix, matrix.transpose()).div(2);
  const { realEigenvalues, eigenvectorMatrix } = new EVD(symmetric, { assumeSymmetric: true });
  const order = realEigenvalues.map((value, i) => ({ value, i })).sort((a, b) => b.value - a.value);
  const kept = new Array<number>(matrix.rows).fill(0);
  for (const { value, i } of order.slice(0, rank)) kept[i] = Math.max(0, value);
  return eigenvectorMatrix.mmul(Matrix.diag(kept)).mmul(eigenvectorMatrix.transpose());
}
