// Ties one head: finds the positive semidefinite form of rank D that is closest to the head's bilinear form.
//
// A head scores the inputs x̃_i, x̃_j (rows, with a constant 1 at the end where the model has biases) as x̃_i M x̃_jᵀ with
// M = W̃q W̃kᵀ; a tied head as x̃_i S̃S̃ᵀ x̃_jᵀ. W̃q, W̃k and S̃ are [rows, D], the bias their last row. Σ = E[x̃ᵀx̃] weighs the
// directions of the inputs; Γ (`SpanOptions.keyMoments`) weighs those of the keys by the teacher's attention. With
// e the unit vector of the constant, B = [W̃q, W̃k, e] and the Cholesky factor L of BᵀΣB, M = B K Bᵀ. The whitened
// coordinates are Y = LᵀT for S̃ = B T: there M̂ = LᵀKL stands for M, P = YYᵀ for S̃S̃ᵀ, Γ̂ = L⁻¹ΓL⁻ᵀ for Γ, and
// ‖Σ^½(M − S̃S̃ᵀ)Σ^½‖ = ‖M̂ − P‖ (Frobenius norms). A part of S̃ outside the span of B would only add to the error.

import { cholesky, multiply, multiplyRows, multiplyTransposed, solveTransposed } from "../../numeric/linalg.ts";
import { dot } from "../../numeric/products.ts";
import { decomposeSymmetric } from "../../numeric/symmetric-eigen.ts";
import { PIVOT_FLOOR } from "./heads.ts";
import { type FormView, shrinkMetric, weightForm, whitenMetric } from "./key-metric.ts";

/** Least τ of `projectWithFixedMean`, relative to the norm of the part of the form that the softmax depends on. */
const CONSTANT_SCALE = 10;

/** A head in the span of B: everything below works on matrices of n = 2D + 1 rows, 2D without a constant input. */
export interface HeadSpan {
  /** C + 1 with a constant input, C without. */
  rows: number;
  headDim: number;
  /** Bᵀ: [n, rows] */
  columns: Float64Array;
  /** BᵀB of the columns of Q and K without their biases: [2D, 2D] */
  weightGram: Float64Array;
  /** L: [n, n] */
  factor: Float64Array;
  /** M̂: [n, n] */
  form: Float64Array;
  /** e in whitened coordinates, of length 1; null without a constant input */
  unit: Float64Array | null;
  /** Γ̂: [n, n]; null where the keys are weighed by Σ, as the queries are */
  metric: Float64Array | null;
}

export interface SpanOptions {
  rows: number;
  headDim: number;
  constant: boolean;
  /** BᵀΣB is `share` · `moments` + `rest` · BᵀB, with the moments E[zᵀz] of z = x̃B = [q, k, 1]: [n, n]. Null: Σ is the identity. */
  inputs: { moments: Float64Array; share: number; rest: number } | null;
  /** Γ = E_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ with z = [q, k], z̄_i = Σ_j p_ij z_j: [2D, 2D] */
  keyMoments?: Float64Array | null | undefined;
  /** Share of Γ in the metric of the keys; in the rest all directions count alike. 1 unless given. */
  trust?: number | undefined;
}

/** Brings a head's bilinear form to whitened coordinates. @param columns Bᵀ = [W̃qᵀ; W̃kᵀ; eᵀ], [n, rows] */
export function buildHeadSpan(columns: Float64Array, options: SpanOptions): HeadSpan {
  const { rows, headDim: D, constant, inputs, keyMoments = null, trust = 1 } = options;
  const n = 2 * D + (constant ? 1 : 0);
  const weightGram = multiplyRows(columns, columns, 2 * D, constant ? rows - 1 : rows, 2 * D, rows);
  const plain = addConstant(weightGram, columns, n, D);
  const gram = inputs
    ? inputs.moments.map((value, at) => inputs.share * value + inputs.rest * (plain[at] as number))
    : plain;
  const factor = cholesky(gram, n, PIVOT_FLOOR);
  const unit = constant ? takeLastRow(factor, n) : null;
  const measured = keyMoments && whitenMetric(factor, keyMoments, n, D);
  const metric = measured && shrinkMetric(measured, unit, n, trust);
  const whitened = whitenForm(factor, n, D);
  return { rows, headDim: D, columns, weightGram, factor, form: whitened, unit, metric };
}

/** BᵀB from the Gram matrix without the last row of B, the biases and a 1: [n, n]. Without a constant there is no such row. */
function addConstant(weightGram: Float64Array, columns: Float64Array, n: number, D: number): Float64Array {
  if (n === 2 * D) return weightGram;
  const rows = columns.length / n;
  const last = Float64Array.from({ length: n }, (_, i) => columns[(i + 1) * rows - 1] as number);
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const known = i < 2 * D && j < 2 * D ? (weightGram[i * 2 * D + j] as number) : 0;
      gram[i * n + j] = known + (last[i] as number) * (last[j] as number);
    }
  return gram;
}

/** LᵀKL with K = [[0, I, 0], [0, 0, 0], [0, 0, 0]]: rows 0 … D−1 of L against rows D … 2D−1. */
function whitenForm(factor: Float64Array, n: number, D: number): Float64Array {
  return multiplyTransposed(factor.subarray(0, D * n), factor.subarray(D * n, 2 * D * n), n, D, n);
}

/** Lᵀε for the last unit vector ε, scaled to length 1. */
function takeLastRow(factor: Float64Array, n: number): Float64Array {
  const row = factor.slice((n - 1) * n, n * n);
  const length = Math.hypot(...row);
  return row.map((value) => value / length);
}

/**
 * Minimizes ‖Σ^½ (M + a eᵀ − S̃S̃ᵀ) Σ^½‖² over S̃ and the free vector a (a term that is the same for all keys vanishes in
 * the softmax); gives Y [n, D]. With u the direction of e in whitened coordinates, N = I − uuᵀ and m = N M̂ᵀu, the
 * minimum over a is
 *
 *     J(P) = ‖N(M̂ − P)N‖² + ‖m − N P u‖²,    P positive semidefinite of rank D, π = uᵀPu free.
 *
 * Where the teacher's attention p is known, errors e_ij of the scores count as Σ_j p_ij (e_ij − ē_i)² instead, the
 * divergence of the softmax to second order. Then J(P) = ‖(M̂ − P)Γ̂^½‖², which `weightForm` brings to the form above.
 *
 * Of two candidates in closed form the one with the smaller J is taken: `projectWithFixedMean` spends one of the D ranks
 * on m, `completeMean` none.
 */
export function findClosestForm(span: HeadSpan): Float64Array {
  const { headDim: D, unit, form, metric } = span;
  const n = spanSize(span);
  const view = metric ? weightForm(form, metric, unit, n) : buildPlainForm(form, unit, n);
  if (!unit || !view.unit || !view.free) return view.restore(takePositiveRoot(view.inner, n, D), D);
  const own = dot(multiply(form, unit, n, n, 1), 0, unit, 0, n); // uᵀM̂u: a π as large is no larger than the head's own
  const parts = {
    inner: view.inner,
    free: view.free,
    tau: Math.max(own, CONSTANT_SCALE * Math.hypot(norm(view.inner), norm(view.free))),
  };
  const first = view.restore(projectWithFixedMean(parts, view.unit, n, D), D);
  const completion = completeMean(parts, view.unit, n, D);
  const second = completion && view.restore(completion, D);
  return second && measureTieError(span, second) < measureTieError(span, first) ? second : first;
}

/** The part of a form that the softmax depends on, and τ. */
interface FormParts {
  inner: Float64Array; // N sym(M̂) N: [n, n]
  free: Float64Array; // m: [n]
  tau: number;
}

/**
 * Both terms of J fall as π grows without bound, since a large π makes room for any N P u. With ¼(τ − π)² added to hold
 * π near τ, and the coordinate along u scaled by 1/√2, the sum is the Frobenius distance from P to
 *
 *     Z = N sym(M̂) N + (m uᵀ + u mᵀ)/√2 + (τ/2) u uᵀ,
 *
 * which the D largest positive eigenpairs of Z minimize exactly (Eckart and Young 1936).
 */
function projectWithFixedMean({ inner, free, tau }: FormParts, u: Float64Array, n: number, D: number): Float64Array {
  const z = Float64Array.from(inner);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const [ui, uj] = [u[i] as number, u[j] as number];
      const cross = ((free[i] as number) * uj + ui * (free[j] as number)) / Math.SQRT2;
      z[i * n + j] = (z[i * n + j] as number) + cross + (tau / 2) * ui * uj;
    }
  return rescale(takePositiveRoot(z, n, D), u, n, D);
}

/**
 * Minimizes the first term of J by the D largest positive eigenpairs V Λ Vᵀ of N sym(M̂) N, then the second one by
 * Y = VΛ^½ + u sᵀ with s = Λ^−½Vᵀm, which is exact for a head with q = k. Gives null when π = sᵀs exceeds τ.
 */
function completeMean({ inner, free, tau }: FormParts, u: Float64Array, n: number, D: number): Float64Array | null {
  const y = takePositiveRoot(inner, n, D);
  const along = multiplyTransposed(y, free, D, n, 1); // Λ^½Vᵀm
  let pi = 0;
  let largest = 0;
  for (let c = 0; c < D; c++) {
    let eigenvalue = 0;
    for (let i = 0; i < n; i++) eigenvalue += (y[i * D + c] as number) ** 2;
    largest ||= eigenvalue;
    if (eigenvalue <= PIVOT_FLOOR * largest) break;
    const s = (along[c] as number) / eigenvalue;
    for (let i = 0; i < n; i++) y[i * D + c] = (y[i * D + c] as number) + s * (u[i] as number);
    pi += s * s;
  }
  return pi <= tau ? y : null;
}

/** S̃ = B L⁻ᵀ Y: [rows, D] */
export function projectFromSpan(span: HeadSpan, whitened: Float64Array): Float64Array {
  const { columns, factor, rows, headDim: D } = span;
  const n = spanSize(span);
  const coefficients = Float64Array.from(whitened);
  solveTransposed(factor, coefficients, n, D);
  return multiplyTransposed(columns, coefficients, rows, n, D);
}

export function spanSize({ headDim, unit }: HeadSpan): number {
  return 2 * headDim + (unit ? 1 : 0);
}

function symmetrize(form: Float64Array, n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) out[i * n + j] = ((form[i * n + j] as number) + (form[j * n + i] as number)) / 2;
  return out;
}

/** N sym(M̂) N and m of `findClosestForm`, in the coordinates of M̂ itself. */
function buildPlainForm(form: Float64Array, unit: Float64Array | null, n: number): FormView {
  const target = symmetrize(form, n);
  const restore = (y: Float64Array) => y;
  if (!unit) return { inner: target, free: null, unit, restore };
  const along = multiply(target, unit, n, n, 1);
  const middle = dot(unit, 0, along, 0, n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const [ui, uj] = [unit[i] as number, unit[j] as number];
      const removed = ui * (along[j] as number) + uj * (along[i] as number) - middle * ui * uj;
      target[i * n + j] = (target[i * n + j] as number) - removed;
    }
  return { inner: target, free: project(multiplyTransposed(form, unit, n, n, 1), unit), unit, restore };
}

/** V₊Λ₊^½ of the D largest positive eigenvalues: [n, D] */
function takePositiveRoot(matrix: Float64Array, n: number, D: number): Float64Array {
  const { values, vectors } = decomposeSymmetric(matrix, n);
  const out = new Float64Array(n * D);
  for (let c = 0; c < D; c++) {
    const root = Math.sqrt(Math.max(0, values[c] as number));
    for (let i = 0; i < n; i++) out[i * D + c] = root * (vectors[c * n + i] as number);
  }
  return out;
}

/** Undoes the scaling of the coordinate along u by 1/√2. */
function rescale(y: Float64Array, u: Float64Array, n: number, D: number): Float64Array {
  const along = multiply(u, y, 1, n, D);
  for (let i = 0; i < n; i++)
    for (let c = 0; c < D; c++)
      y[i * D + c] = (y[i * D + c] as number) + (Math.SQRT2 - 1) * (u[i] as number) * (along[c] as number);
  return y;
}

/** S̃ = query·W̃q + key·W̃k, in whitened coordinates: Y = LᵀT with T = [query·I; key·I; 0]. */
export function combineWeights(span: HeadSpan, query: number, key: number): Float64Array {
  const { factor, headDim: D } = span;
  const n = spanSize(span);
  const out = new Float64Array(n * D);
  for (let i = 0; i < n; i++)
    for (let c = 0; c < D; c++)
      out[i * D + c] = query * (factor[c * n + i] as number) + key * (factor[(D + c) * n + i] as number);
  return out;
}

/**
 * Gives √J(P) relative to √J(0): the share that a tie loses of the part of the head's form that the softmax depends on.
 * It is 0 for a head that is 0.
 */
export function measureTieError(span: HeadSpan, whitened: Float64Array): number {
  const n = spanSize(span);
  return measureFormError(span, multiplyRows(whitened, whitened, n, span.headDim, n)); // LᵀS̃S̃ᵀL in the span
}

/** The same for any form P [n, n] in whitened coordinates. */
export function measureFormError(span: HeadSpan, other: Float64Array): number {
  const rest = span.form.map((value, at) => value - (other[at] as number));
  const whole = measureError(span.form, span);
  return whole === 0 ? 0 : Math.sqrt(measureError(rest, span) / whole);
}

/** ‖EΓ̂^½‖²; without Γ̂ ‖E N‖², which is the minimum over terms that are the same for all keys. */
function measureError(e: Float64Array, span: HeadSpan): number {
  const { unit, metric } = span;
  const n = spanSize(span);
  if (metric) return Math.max(0, dot(multiplyRows(e, metric, n, n, n), 0, e, 0, n * n)); // Γ̂ is symmetric
  const total = dot(e, 0, e, 0, n * n);
  if (!unit) return total;
  const along = multiply(e, unit, n, n, 1);
  return Math.max(0, total - dot(along, 0, along, 0, n));
}

function project(x: Float64Array, u: Float64Array): Float64Array {
  const along = dot(x, 0, u, 0, u.length);
  return x.map((value, i) => value - along * (u[i] as number));
}

function norm(a: Float64Array): number {
  return Math.sqrt(dot(a, 0, a, 0, a.length));
}
