// Computes what the rounding error of an input costs once later inputs have made up for it, by a Cholesky factor.
import { factorInPlace } from "../../numeric/linalg.ts";

/** How the errors of later inputs change the target of an earlier one. */
export interface Feedback {
  /** a[k, j] = L_jk/L_kk for j > k: [K, K], upper triangle */
  shares: Float64Array;
  /** d_k = L_kk², what a squared error of input k costs once the inputs before it have made up for what they can: [K] */
  costs: Float64Array;
}

/**
 * From H = L Lᵀ, since tr(E H Eᵀ) = Σ_k d_k (e_k + Σ_{j>k} e_j a_kj)². Overwrites H [K, K], which is symmetric; `damping`
 * times its mean diagonal is added to the diagonal first, so that inputs that never fire do no harm.
 */
export function computeFeedback(hessian: Float64Array, size: number, damping: number): Feedback {
  let trace = 0;
  for (let k = 0; k < size; k++) trace += hessian[k * size + k] as number;
  const shift = (damping * trace) / size || 1;
  for (let k = 0; k < size; k++) hessian[k * size + k] = (hessian[k * size + k] as number) + shift;
  factorInPlace(hessian, size, 0);
  const costs = Float64Array.from({ length: size }, (_, k) => (hessian[k * size + k] as number) ** 2);
  for (let k = 0; k < size; k++) {
    const pivot = hessian[k * size + k] as number;
    for (let j = k + 1; j < size; j++) hessian[k * size + j] = (hessian[j * size + k] as number) / pivot;
  }
  return { shares: hessian, costs };
}
