// Factors the bilinear form of one head at a lower rank: the closest form in the metric of what goes in on either side.
//
// A head joins two inputs x and y by x A Bᵀ yᵀ: the score of a query and a key (A = W̃q, B = W̃k), or the share of an output
// in a mixed input (A = W̃v, Bᵀ = W_o). With X and Y the second moments of x and y, the form A'B'ᵀ of rank r that is closest,
//
//     ‖X^½ (A Bᵀ − A'B'ᵀ) Y^½‖   (Frobenius norm),
//
// is the truncated singular value decomposition of X^½ A Bᵀ Y^½ (Eckart and Young 1936). All of it follows from the Gram
// matrices G_a = AᵀXA, G_b = BᵀYB [D, D], which are the moments of xA and yB themselves: with G = LLᵀ and L_aᵀ L_b = U σ Vᵀ,
//
//     A' = A L_a⁻ᵀ U_r σ_r^½,     B' = B L_b⁻ᵀ V_r σ_r^½,     since X^½ A L_a⁻ᵀ has orthonormal columns, as Y^½ B L_b⁻ᵀ.
import { cholesky, multiply, multiplyTransposed, solveTransposed } from "../../numeric/linalg.ts";
import { decomposeSingular } from "../../numeric/singular-values.ts";
import { findSingularValues } from "../../numeric/spectrum.ts";
import { PIVOT_FLOOR } from "./heads.ts";

/** The Gram matrices of a form: [D, D] each */
export interface FormGrams {
  left: Float64Array; // G_a
  right: Float64Array; // G_b
}

export interface FormFactors {
  /** σ, descending: [D] */
  values: Float64Array;
  /** L_a⁻ᵀ U σ^½: [D, D], whose first r columns give A' of rank r */
  left: Float64Array;
  /** L_b⁻ᵀ V σ^½: [D, D], whose first r columns give B' of rank r */
  right: Float64Array;
}

/** @param left G_a [D, D] @param right G_b [D, D] */
export function factorForm(left: Float64Array, right: Float64Array, D: number): FormFactors {
  const { form, factors } = whitenForm(left, right, D);
  const { values, left: u, right: v } = decomposeSingular(form, D);
  return { values, left: unwhiten(factors.left, u, values, D), right: unwhiten(factors.right, v, values, D) };
}

/** Factors the form of each head of a layer. @param measure gives the moments of its two sides */
export function factorHeads(
  { n_embd, n_head }: { n_embd: number; n_head: number },
  measure: (head: number) => FormGrams,
): FormFactors[] {
  return Array.from({ length: n_head }, (_, head) => {
    const { left, right } = measure(head);
    return factorForm(left, right, n_embd / n_head);
  });
}

/** σ alone, descending: [D]. @param left G_a [D, D] @param right G_b [D, D] */
export function findSpectrum(left: Float64Array, right: Float64Array, D: number): Float64Array {
  return findSingularValues(whitenForm(left, right, D).form, D);
}

/** L_aᵀ L_b, and both factors: [D, D] each */
function whitenForm(left: Float64Array, right: Float64Array, D: number) {
  const factors = { left: cholesky(left, D, PIVOT_FLOOR), right: cholesky(right, D, PIVOT_FLOOR) };
  return { form: multiplyTransposed(factors.left, factors.right, D, D, D), factors };
}

/** L⁻ᵀ Z σ^½ for Zᵀ in the rows of `vectors`: [D, D] */
function unwhiten(factor: Float64Array, vectors: Float64Array, values: Float64Array, D: number): Float64Array {
  const out = new Float64Array(D * D);
  for (let c = 0; c < D; c++) {
    const root = Math.sqrt(values[c] as number);
    for (let i = 0; i < D; i++) out[i * D + c] = root * (vectors[c * D + i] as number);
  }
  solveTransposed(factor, out, D, D);
  return out;
}

/** A' or B' of rank r: [rows, D] times the first r columns of `factor` [D, D], to [rows, r] */
export function applyFactor(weight: Float64Array, factor: Float64Array, rows: number, D: number, r: number) {
  const columns = new Float64Array(D * r);
  for (let i = 0; i < D; i++) columns.set(factor.subarray(i * D, i * D + r), i * r);
  return multiply(weight, columns, rows, D, r);
}

/** √(Σ_{>r} σ² / Σ σ²), the relative error of rank r; 0 for a form that is 0. */
export function measureRankError(values: Float64Array, r: number): number {
  const squares = values.map((value) => value * value);
  const sum = (from: number) => squares.subarray(from).reduceRight((total, square) => total + square, 0);
  const whole = sum(0);
  return whole === 0 ? 0 : Math.sqrt(sum(r) / whole);
}
