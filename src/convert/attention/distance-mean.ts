// Fits the distance-dependent noise mean: weighted least squares of score residuals on the distance buckets.
import { makeNotFiniteError } from "../../errors.ts";
import { BucketKernel, type BucketSums } from "../../numeric/kernels/buckets.ts";
import { addRidge, solvePositive, trace, transpose } from "../../numeric/linalg.ts";
import { addRowProducts, type Rows } from "../../numeric/products.ts";
import type { RowBlock } from "../statistics/attention-blocks.ts";

/** Ridge relative to the mean diagonal. It chooses the smallest μ, since a constant added to μ changes no softmax. */
const RIDGE = 1e-6;

/**
 * For each head minimizes Σ_i Σ_{j≤i} w_ij (r_ij − μ[bucket(i−j)] − c_i)² over μ and the row constants c_i (the softmax
 * ignores a row's mean). With W_ib = Σ_j w_ij [bucket = b], R_i = Σ_j w_ij r_ij and w_i = Σ_j w_ij the normal equations
 * are A = diag(Σ_i W_ib) − Σ_i W_i W_iᵀ / w_i, and rhs_b = Σ_ij w_ij r_ij [bucket = b] − Σ_i W_ib R_i / w_i.
 */
export class DistanceFit {
  private readonly heads: number;
  private readonly size: number;
  private readonly kernel: BucketKernel;
  /** Σ_i W_ib: [H, K] */
  private readonly weights: Float64Array;
  /** Σ_ij w_ij r_ij [bucket = b]: [H, K] */
  private readonly products: Float64Array;
  /** Σ_i u_i u_iᵀ with u_i = [W_i, R_i]/√w_i: [H, K + 1, K + 1] */
  private readonly means: Float64Array;

  /** `table[d]` is the bucket of distance d; it never falls. */
  constructor(heads: number, buckets: number, table: readonly number[]) {
    this.heads = heads;
    this.size = buckets;
    const starts = Array.from({ length: buckets }, (_, bucket) => table.findIndex((other) => other >= bucket));
    this.kernel = new BucketKernel([...starts, table.length].map((start) => (start < 0 ? table.length : start)));
    this.weights = new Float64Array(heads * buckets);
    this.products = new Float64Array(heads * buckets);
    this.means = new Float64Array(heads * (buckets + 1) ** 2);
  }

  /** Adds rows of a window: `residual` and `weight` [H, end − first, end], entries with j > i ignored. */
  add(residual: Float32Array, weight: Float32Array, { first, end }: RowBlock): void {
    const rows = end - first;
    const width = this.size + 1;
    for (let head = 0; head < this.heads; head++) {
      const [from, to] = [head * rows * end, (head + 1) * rows * end];
      const block = { first, rows, columns: end };
      const sums = this.kernel.sum(weight.subarray(from, to), residual.subarray(from, to), block);
      this.addSums(head, sums);
      const means: Rows = { data: this.means, at: head * width * width, stride: width };
      const columns: Rows = { data: transpose(sums.shares, rows, width), at: 0, stride: rows }; // of u_i
      addRowProducts(means, columns, columns, { n: width, m: width, inner: rows, sign: 1 });
    }
  }

  private addSums(head: number, { weights, products }: BucketSums): void {
    for (let bucket = 0; bucket < this.size; bucket++) {
      const at = head * this.size + bucket;
      this.weights[at] = (this.weights[at] as number) + (weights[bucket] as number);
      this.products[at] = (this.products[at] as number) + (products[bucket] as number);
    }
  }

  /**
   * μ · factor, float32 [H, K]. Buckets farther than any row reached take the value of the farthest one that was: 0, the
   * mean of the others, would draw attention to them.
   * @throws NfcError "invalid-file" when scores were not finite
   */
  solve(factor: number): Float32Array {
    const { size } = this;
    const result = new Float32Array(this.heads * size);
    for (let head = 0; head < this.heads; head++) {
      const { matrix, right } = this.makeEquations(head);
      if (![trace(matrix, size), ...right].every(Number.isFinite))
        throw makeNotFiniteError(`head ${head}: attention scores are not finite`);
      let farthest = size - 1;
      while (farthest > 0 && matrix[farthest * size + farthest] === 0) farthest -= 1;
      addRidge(matrix, size, RIDGE);
      const mean = solvePositive(matrix, right, size);
      for (let a = 0; a < size; a++) result[head * size + a] = (mean[Math.min(a, farthest)] as number) * factor;
    }
    return result;
  }

  /** The normal equations of a head: A [K, K] and its right-hand side [K] */
  private makeEquations(head: number): { matrix: Float64Array; right: Float64Array } {
    const { size, weights, products, means } = this;
    const mean = (a: number, b: number) => means[(head * (size + 1) + a) * (size + 1) + b] as number;
    const matrix = new Float64Array(size * size);
    const right = new Float64Array(size);
    for (let a = 0; a < size; a++) {
      for (let b = 0; b < size; b++) matrix[a * size + b] = -mean(a, b);
      matrix[a * size + a] = (weights[head * size + a] as number) - mean(a, a);
      right[a] = (products[head * size + a] as number) - mean(a, size);
    }
    return { matrix, right };
  }
}
