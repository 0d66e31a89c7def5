// The metric of a tie where the teacher's attention is known: errors count by the differences between keys that it weighs.
// M̂, P, Γ, Γ̂, L, S̃ and u are those of tie-head.ts.
import { makeIdentity, multiply, multiplyRows, solveLower, trace, transpose } from "../../numeric/linalg.ts";
import { decomposeSymmetric } from "../../numeric/symmetric-eigen.ts";

/** A direction that keeps a smaller share of its length beside the others is noise, as moments are sums in float32. */
const INDEPENDENT = 1e-5;
/** Smallest γ relative to the mean γ, so that differences between keys that the text never shows still count. */
const METRIC_FLOOR = 1e-4;
/** p of `weightForm`: ¼ would be the geometric mean of γ_i and γ_j; on a trained model ⅛ ties best. */
const WEIGHT_POWER = 1 / 8;

/** A form in coordinates in which J of `findClosestForm` is a sum of unweighted squares. */
export interface FormView {
  /** Symmetric target, 0 along the constant input: [n, n] */
  inner: Float64Array;
  /** m, the part of the form that depends on the key alone, 0 along the constant input: [n]; null without one. */
  free: Float64Array | null;
  /** Direction of the constant input, of length 1: [n]; null without one. */
  unit: Float64Array | null;
  /** Takes Y [n, D] back to whitened coordinates. */
  restore: (y: Float64Array, D: number) => Float64Array;
}

/**
 * Computes Γ̂ = L⁻¹ΓL⁻ᵀ [n, n] from the moments Γ [2D, 2D] and the factor L [n, n]. Gives null when Γ is 0, that is when
 * the attention never weighs different keys.
 */
export function whitenMetric(factor: Float64Array, moments: Float64Array, n: number, D: number): Float64Array | null {
  const padded = new Float64Array(n * n); // the constant input does not vary: its row and column are 0
  for (let i = 0; i < 2 * D; i++) padded.set(moments.subarray(i * 2 * D, (i + 1) * 2 * D), i * n);
  solveLower(factor, padded, n, n, INDEPENDENT); // L⁻¹Γ
  const metric = transpose(padded, n, n);
  solveLower(factor, metric, n, n, INDEPENDENT); // L⁻¹ΓL⁻ᵀ
  return trace(metric, n) > 0 ? metric : null;
}

/** trust · Γ̂ + (1 − trust) · (tr Γ̂ / tr N) · N: [n, n] */
export function shrinkMetric(metric: Float64Array, unit: Float64Array | null, n: number, trust: number): Float64Array {
  if (trust === 1) return metric;
  const level = ((1 - trust) * trace(metric, n)) / (unit ? n - 1 : n);
  const plain = makePlainMetric(unit, n);
  return metric.map((value, at) => trust * value + level * (plain[at] as number));
}

/** N = I − uuᵀ, the metric in which all keys count alike; I without a constant input: [n, n] */
export function makePlainMetric(unit: Float64Array | null, n: number): Float64Array {
  const out = makeIdentity(n);
  if (unit)
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        out[i * n + j] = (out[i * n + j] as number) - (unit[i] as number) * (unit[j] as number);
  return out;
}

/**
 * Makes the minimum of ‖(M̂ − P)Γ̂^½‖² over P a nearest point in the Frobenius norm. In the eigenvectors of Γ̂ (u is one of
 * them, with eigenvalue 0), with eigenvalues γ, the closest symmetric N has the derivative 0 by N_ij = N_ji, so that
 *
 *     N_ij = (γ_j M̂_ij + γ_i M̂_ji) / (γ_i + γ_j),   and P costs   Σ ½(γ_i + γ_j)(N_ij − P_ij)²  more than N.
 *
 * ½(γ_i + γ_j) is approximated by d_i²d_j² with d = γ^p; rows and columns are then scaled by d.
 */
export function weightForm(form: Float64Array, metric: Float64Array, unit: Float64Array | null, n: number): FormView {
  const { values, vectors } = decomposeWithUnit(metric, unit, n);
  const turned = multiplyRows(vectors, multiplyRows(vectors, form, n, n, n), n, n, n); // VM̂Vᵀ
  const first = unit ? 1 : 0;
  const d = values.map((value, i) => (i < first ? 1 : value ** WEIGHT_POWER));
  const inner = new Float64Array(n * n);
  for (let i = first; i < n; i++)
    for (let j = first; j < n; j++) {
      const [gi, gj] = [values[i] as number, values[j] as number];
      const nearest = (gj * (turned[i * n + j] as number) + gi * (turned[j * n + i] as number)) / (gi + gj);
      inner[i * n + j] = nearest * (d[i] as number) * (d[j] as number);
    }
  const free = unit && turned.slice(0, n).map((value, j) => (j === 0 ? 0 : value * (d[j] as number)));
  const axis = unit && Float64Array.from(unit, (_, i) => (i === 0 ? 1 : 0));
  const restore = (y: Float64Array, D: number) =>
    multiply(
      transpose(vectors, n, n),
      y.map((value, at) => value / (d[Math.floor(at / D)] as number)),
      n,
      n,
      D,
    );
  return { inner, free, unit: axis, restore };
}

/** Gives the eigenvectors of Γ̂ in rows, u first, and its eigenvalues, raised to the least γ. */
function decomposeWithUnit(metric: Float64Array, unit: Float64Array | null, n: number) {
  const raised = Float64Array.from(metric);
  const above = 2 * trace(metric, n); // puts u first
  if (unit)
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        raised[i * n + j] = (raised[i * n + j] as number) + above * (unit[i] as number) * (unit[j] as number);
  const { values, vectors } = decomposeSymmetric(raised, n);
  const floor = (METRIC_FLOOR * trace(metric, n)) / n;
  return { values: values.map((value) => Math.max(value, floor)), vectors };
}
