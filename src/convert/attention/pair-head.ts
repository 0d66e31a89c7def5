// Finds the form S A Sᵀ of one projection S and a free A [D, D] that is close to a head's bilinear form.
//
// In the whitened coordinates of tie-head.ts the head is M̂ and errors count by Γ̂, or by N = I − uuᵀ without a text. For a
// given Y (S̃ = B L⁻ᵀ Y) the best A is that of least squares,
//
//     minimize ‖(M̂ − Y A Yᵀ) Γ̂^½‖²:     A = (YᵀY)⁻¹ Yᵀ M̂ Γ̂ Y (YᵀΓ̂Y)⁻¹.
//
// Two Y are tried, each with its own A and with that of least squares. The closest form of rank D/2 is M̂ ≈ U UᵀM̂ with the
// first eigenvectors U of M̂Γ̂M̂ᵀ: half of the columns of Y are U and ask, the other half are M̂ᵀU and answer. The other Y is
// the closest symmetric form's, with A = I.
import {
  cholesky,
  makeIdentity,
  multiply,
  multiplyRows,
  multiplyTransposed,
  solveLower,
  solveTransposed,
  transpose,
} from "../../numeric/linalg.ts";
import { decomposeSymmetric } from "../../numeric/symmetric-eigen.ts";
import { PIVOT_FLOOR } from "./heads.ts";
import { makePlainMetric } from "./key-metric.ts";
import { findClosestForm, type HeadSpan, measureFormError, spanSize } from "./tie-head.ts";

export interface ClosestPair {
  /** Y in whitened coordinates: [n, D] */
  whitened: Float64Array;
  /** A: [D, D] */
  pair: Float64Array;
  /** As `measureTieError` defines it. */
  error: number;
}

export function findClosestPair(span: HeadSpan): ClosestPair {
  const D = span.headDim;
  const starts = [splitColumns(span), { whitened: findClosestForm(span), pair: makeIdentity(D) }];
  const candidates = starts.flatMap(({ whitened, pair }) => [
    measurePair(span, whitened, pair),
    measurePair(span, whitened, fitPair(span, whitened)),
  ]);
  return candidates.reduce((best, other) => (other.error < best.error ? other : best));
}

function measurePair(span: HeadSpan, whitened: Float64Array, pair: Float64Array): ClosestPair {
  const [n, D] = [spanSize(span), span.headDim];
  const form = multiplyRows(multiply(whitened, pair, n, D, D), whitened, n, D, n); // Y A Yᵀ
  return { whitened, pair, error: measureFormError(span, form) };
}

/** Y = [U σ^½, M̂ᵀU σ^−½] with ⌈D/2⌉ columns of the first and ⌊D/2⌋ of the second kind, and the A that joins their pairs. */
function splitColumns(span: HeadSpan): Omit<ClosestPair, "error"> {
  const { headDim: D, form } = span;
  const n = spanSize(span);
  const weighted = multiply(form, takeMetric(span, n), n, n, n); // M̂Γ̂
  const { values, vectors } = decomposeSymmetric(multiplyRows(weighted, form, n, n, n), n);
  const answers = multiply(vectors, form, n, n, n); // rows UᵀM̂
  const asking = Math.ceil(D / 2);
  const [whitened, pair] = [new Float64Array(n * D), new Float64Array(D * D)];
  for (let c = 0; c < D; c++) {
    const half = c < asking ? c : c - asking;
    const sigma = Math.sqrt(Math.max(0, values[half] as number));
    const known = sigma > PIVOT_FLOOR * Math.sqrt(Math.max(0, values[0] as number));
    const scale = c < asking ? Math.sqrt(sigma) : known ? 1 / Math.sqrt(sigma) : 0;
    const rows = c < asking ? vectors : answers;
    for (let i = 0; i < n; i++) whitened[i * D + c] = scale * (rows[half * n + i] as number);
    if (c >= asking) pair[half * D + c] = 1;
  }
  return { whitened, pair };
}

/** A of least squares for Y [n, D]: [D, D] */
function fitPair(span: HeadSpan, whitened: Float64Array): Float64Array {
  const { headDim: D, form } = span;
  const n = spanSize(span);
  const weighted = multiply(takeMetric(span, n), whitened, n, n, D); // Γ̂Y
  const middle = multiplyTransposed(whitened, multiply(form, weighted, n, n, D), D, n, D); // YᵀM̂Γ̂Y
  solveGram(multiplyTransposed(whitened, whitened, D, n, D), middle, D);
  const turned = transpose(middle, D, D);
  solveGram(multiplyTransposed(whitened, weighted, D, n, D), turned, D);
  return transpose(turned, D, D);
}

/** B becomes G⁻¹B for a Gram matrix G [D, D]. */
function solveGram(gram: Float64Array, b: Float64Array, D: number): void {
  const factor = cholesky(gram, D, PIVOT_FLOOR);
  solveLower(factor, b, D, D, PIVOT_FLOOR);
  solveTransposed(factor, b, D, D);
}

/** Γ̂, or N without a text: [n, n] */
function takeMetric({ metric, unit }: HeadSpan, n: number): Float64Array {
  return metric ?? makePlainMetric(unit, n);
}
