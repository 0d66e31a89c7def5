// The change of a half-block's output weights that comes nearest to what is missing after it.
import { factorInPlace, solveLower, solveTransposed } from "../numeric/linalg.ts";
import { addRowProducts, dot } from "../numeric/products.ts";
import { transposeInto } from "../numeric/transpose.ts";
import type { HalfMoments } from "./repair-moments.ts";

/** Ridge relative to the mean diagonal of the moments. */
const RIDGE = Number(process.env.RIDGE ?? 1e-2);

/**
 * W + t D for the D that is least in Σ‖ũD − r‖² + ridge ‖D‖² over the text, so that the ridge draws towards the present
 * W, and the t from 0 to 1 that is best on the text held out:
 *
 *     D = (Σ ũᵀũ + ridge)⁻¹ Σ ũᵀr        t = tr(Dᵀ Σ' ũᵀr) / tr(Dᵀ Σ' ũᵀũ D)
 *
 * @param weight W: [n, C]
 * @returns W + t D: [n, C]
 */
export function fitChange(weight: Float64Array, { gram, cross, size }: HalfMoments, held: HalfMoments): Float64Array {
  const width = weight.length / size;
  let trace = 0;
  for (let i = 0; i < size; i++) trace += gram[i * size + i] as number;
  const ridge = (RIDGE * trace) / size || 1;
  for (let i = 0; i < size; i++) gram[i * size + i] = (gram[i * size + i] as number) + ridge;
  factorInPlace(gram, size, 0);
  const change = Float64Array.from(cross);
  solveLower(gram, change, size, width, 0);
  solveTransposed(gram, change, size, width);
  const share = findShare(change, held);
  return weight.map((value, i) => value + share * (change[i] as number));
}

/** t of `fitChange` */
function findShare(change: Float64Array, { gram, cross, size }: HalfMoments): number {
  const width = change.length / size;
  const columns = transposeInto(change, size, width, new Float64Array(change.length)); // Dᵀ: [C, n]
  const rowsOf = (data: Float64Array, stride: number) => ({ data, at: 0, stride });
  const product = new Float64Array(change.length); // Dᵀ Σ' ũᵀũ, which is symmetric: [C, n]
  addRowProducts(rowsOf(product, size), rowsOf(columns, size), rowsOf(gram, size), {
    n: width,
    m: size,
    inner: size,
    sign: 1,
  });
  const gain = dot(change, 0, cross, 0, change.length);
  const cost = dot(product, 0, columns, 0, change.length);
  return cost > 0 ? Math.min(1, Math.max(0, gain / cost)) : 0;
}
