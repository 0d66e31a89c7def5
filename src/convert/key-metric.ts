// The key side of the tie's metric when the teacher's attention is known: which differences between keys it looks at.
import { multiply, multiplyRows, solveLower, transpose } from "../numeric/linalg.ts";
import { decomposeSymmetric } from "../numeric/symmetric-eigen.ts";

/** Directions that keep a smaller share of their length beside the others are noise: moments are sums in float32. */
const INDEPENDENT = 1e-5;
/** Least γ over the mean γ: keys that the text never tells apart still count for something. */
const METRIC_FLOOR = 1e-4;
/** d = γ^p in `weightForm`. ¼ would be the geometric mean exactly; measured on a trained model, ⅛ ties best. */
const WEIGHT_POWER = 1 / 8;

/** A form in coordinates where the nearest positive semidefinite one is sought by plain projection. */
export interface FormView {
  /** Symmetric target, 0 along the constant input: [n, n] */
  inner: Float64Array;
  /** What the form gives each key whatever the query, 0 along the constant input: [n]; null without a constant input. */
  free: Float64Array | null;
  /** Direction of the constant input, of length 1: [n] */
  unit: Float64Array | null;
  /** Takes Y [n, D] back to whitened coordinates. */
  restore: (y: Float64Array, D: number) => Float64Array;
}

/**
 * Γ̂ = L⁻¹ΓL⁻ᵀ [n, n] for the moments Γ [2D, 2D] of the head's [q, k] and the factor L [n, n] of the span. null when the
 * attention never weighs different keys: there is nothing to measure then.
 */
export function whitenMetric(factor: Float64Array, moments: Float64Array, n: number, D: number): Float64Array | null {
  const padded = new Float64Array(n * n); // the constant input does not vary: its row and column are 0
  for (let i = 0; i < 2 * D; i++) padded.set(moments.subarray(i * 2 * D, (i + 1) * 2 * D), i * n);
  solveLower(factor, padded, n, n, INDEPENDENT); // L⁻¹Γ
  const metric = transpose(padded, n, n);
  solveLower(factor, metric, n, n, INDEPENDENT); // L⁻¹ΓL⁻ᵀ
  return trace(metric, n) > 0 ? metric : null;
}

/**
 * The form M̂ as a metric Γ̂ on the keys makes it look: ‖(M̂ − P)Γ̂^½‖² is to fall. In the eigenvectors of Γ̂ (u, the
 * constant input, is one of them, with eigenvalue 0) the symmetric N that is closest to M̂ has
 *
 *     N_ij = (γ_j M̂_ij + γ_i M̂_ji) / (γ_i + γ_j),   and P costs   Σ ½(γ_i + γ_j)(N_ij − P_ij)²  more than N.
 *
 * With d_i²d_j² in place of ½(γ_i + γ_j), d = γ^p, scaling row and column i by d_i makes that a Frobenius distance.
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

/** Eigenvectors of Γ̂ in rows, u first; eigenvalues floored, so that no direction goes unweighted. */
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

function trace(a: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[i * n + i] as number;
  return sum;
}
