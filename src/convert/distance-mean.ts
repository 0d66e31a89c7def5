// Fits the distance-dependent noise mean: weighted least squares of score residuals on the distance buckets.
import { NfcError } from "../errors.ts";
import { solvePositive } from "../numeric/linalg.ts";
import type { RowBlock } from "./attention-blocks.ts";

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
  private readonly table: readonly number[];
  /** The first distance of each bucket; one more entry ends the last one. */
  private readonly starts: readonly number[];
  /** W_i and Σ_j w_ij r_ij of each bucket, of the row at hand. */
  private readonly weights: Float64Array;
  private readonly products: Float64Array;
  /** Its lower triangle: */
  private readonly normal: Float64Array; // [H, K, K]
  private readonly right: Float64Array; // [H, K]

  /** `table[d]` is the bucket of distance d; it never falls. */
  constructor(heads: number, buckets: number, table: readonly number[]) {
    this.heads = heads;
    this.size = buckets;
    this.table = table;
    const starts = Array.from({ length: buckets }, (_, bucket) => table.findIndex((other) => other >= bucket));
    this.starts = [...starts, table.length].map((start) => (start < 0 ? table.length : start));
    this.weights = new Float64Array(buckets);
    this.products = new Float64Array(buckets);
    this.normal = new Float64Array(heads * buckets * buckets);
    this.right = new Float64Array(heads * buckets);
  }

  /** Adds rows of a window: `residual` and `weight` [H, end − first, end], entries with j > i ignored. */
  add(residual: Float32Array, weight: Float32Array, { first, end }: RowBlock): void {
    const rows = end - first;
    for (let head = 0; head < this.heads; head++)
      for (let row = 0; row < rows; row++) {
        this.addRow(head, residual, weight, (head * rows + row) * end, first + row);
      }
  }

  private addRow(head: number, residual: Float32Array, weight: Float32Array, offset: number, i: number): void {
    const { size, table, starts, weights, products } = this;
    const last = table[i] as number; // the farthest bucket of this row
    let total = 0; // w_i
    let product = 0; // R_i
    for (let bucket = last; bucket >= 0; bucket--) {
      const begin = Math.max(0, i - (starts[bucket + 1] as number) + 1);
      const end = i - (starts[bucket] as number);
      let sum = 0;
      let weighted = 0;
      for (let j = offset + begin; j <= offset + end; j++) {
        const w = weight[j] as number;
        const wr = w * (residual[j] as number);
        sum += w;
        weighted += wr;
        total += w;
        product += wr;
      }
      weights[bucket] = sum;
      products[bucket] = weighted;
    }
    if (total === 0) return;
    for (let a = 0; a <= last; a++) {
      const share = (weights[a] as number) / total;
      const row = (head * size + a) * size;
      this.right[head * size + a] = (this.right[head * size + a] as number) + (products[a] as number) - share * product;
      this.normal[row + a] = (this.normal[row + a] as number) + (weights[a] as number);
      for (let b = 0; b <= a; b++)
        this.normal[row + b] = (this.normal[row + b] as number) - share * (weights[b] as number);
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
      const matrix = this.normal.slice(head * size * size, (head + 1) * size * size);
      const right = this.right.slice(head * size, (head + 1) * size);
      const trace = right.reduce((sum, _, a) => sum + (matrix[a * size + a] as number), 0);
      if (![trace, ...right].every(Number.isFinite))
        throw new NfcError("invalid-file", `head ${head}: attention scores are not finite`, {
          hint: "the checkpoint is damaged",
        });
      let farthest = size - 1;
      while (farthest > 0 && matrix[farthest * size + farthest] === 0) farthest -= 1;
      const ridge = RIDGE * (trace / size) || 1;
      for (let a = 0; a < size; a++) matrix[a * size + a] = (matrix[a * size + a] as number) + ridge;
      const mean = solvePositive(matrix, right, size);
      for (let a = 0; a < size; a++) result[head * size + a] = (mean[Math.min(a, farthest)] as number) * factor;
    }
    return result;
  }
}
