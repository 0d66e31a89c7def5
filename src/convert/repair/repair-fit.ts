// The change of a half-block's output weights that comes nearest to what is missing after it.
import { addRidge, factorPanels, solveLower, solveTransposed } from "../../numeric/linalg.ts";
import { addRowProducts, dot } from "../../numeric/products.ts";
import { transposeInto } from "../../numeric/transpose.ts";
import { FIT_RIDGE } from "../statistics/moments.ts";
import type { HalfMoments } from "./repair-moments.ts";

/** Columns of D that are solved for at once. */
const COLUMNS = 64;

/**
 * W + t D for the D that is least in Σ‖ũD − r‖² + ridge ‖D‖² over the text, so that the ridge draws towards the present
 * W, and the t from 0 to 1 that is best on the text held out:
 *
 *     D = (Σ ũᵀũ + ridge)⁻¹ Σ ũᵀr        t = tr(Dᵀ Σ' ũᵀr) / tr(Dᵀ Σ' ũᵀũ D)
 *
 * @param weight W: [n, C]
 * @param moments become unusable
 * @returns W + t D: [n, C]
 * @yields between its pieces: see `runInPieces`
 */
export function* fitChange(
  weight: Float64Array,
  { gram, cross, size }: HalfMoments,
  held: HalfMoments,
): Generator<void, Float64Array> {
  addRidge(gram, size, FIT_RIDGE);
  yield* factorPanels(gram, size, 0);
  const change = yield* solveFactored(gram, cross, size);
  const share = yield* findShare(change, held);
  return weight.map((value, i) => value + share * (change[i] as number));
}

/** X with L Lᵀ X = B for the factor L [n, n] and B [n, m], some columns at a time. */
function* solveFactored(factor: Float64Array, b: Float64Array, n: number): Generator<void, Float64Array> {
  const m = b.length / n;
  const x = new Float64Array(b.length);
  for (let first = 0; first < m; first += COLUMNS) {
    const count = Math.min(COLUMNS, m - first);
    const part = new Float64Array(n * count);
    for (let i = 0; i < n; i++) part.set(b.subarray(i * m + first, i * m + first + count), i * count);
    solveLower(factor, part, n, count, 0);
    yield;
    solveTransposed(factor, part, n, count);
    for (let i = 0; i < n; i++) x.set(part.subarray(i * count, (i + 1) * count), i * m + first);
    yield;
  }
  return x;
}

/** t of `fitChange` */
function* findShare(change: Float64Array, { gram, cross, size }: HalfMoments): Generator<void, number> {
  const width = change.length / size;
  const columns = transposeInto(change, size, width, new Float64Array(change.length)); // Dᵀ: [C, n]
  const product = new Float64Array(change.length); // Dᵀ Σ' ũᵀũ, which is symmetric: [C, n]
  for (let first = 0; first < width; first += COLUMNS) {
    const at = (data: Float64Array) => ({ data, at: first * size, stride: size });
    const n = Math.min(COLUMNS, width - first);
    addRowProducts(at(product), at(columns), { data: gram, at: 0, stride: size }, { n, m: size, inner: size, sign: 1 });
    yield;
  }
  const gain = dot(change, 0, cross, 0, change.length);
  const cost = dot(product, 0, columns, 0, change.length);
  return cost > 0 ? Math.min(1, Math.max(0, gain / cost)) : 0;
}
