// Fits the distance-dependent noise mean: weighted least squares of score residuals on the distance buckets.
import { NfcError } from "../errors.ts";
import { solvePositive } from "../numeric/linalg.ts";

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
  private readonly normal: Float64Array; // [H, K, K]
  private readonly right: Float64Array; // [H, K]

  /** `table[d]` is the bucket of distance d. */
  constructor(heads: number, buckets: number, table: readonly number[]) {
    this.heads = heads;
    this.size = buckets;
    this.table = table;
    this.normal = new Float64Array(heads * buckets * buckets);
    this.right = new Float64Array(heads * buckets);
  }

  /** Adds one window: `residual` and `weight` [H, T, T], entries with j > i ignored. */
  add(residual: Float32Array, weight: Float32Array, length: number): void {
    for (let head = 0; head < this.heads; head++)
      for (let i = 0; i < length; i++) this.addRow(head, residual, weight, (head * length + i) * length, i);
  }

  private addRow(head: number, residual: Float32Array, weight: Float32Array, offset: number, i: number): void {
    const { size, table } = this;
    const weights = new Float64Array(size); // W_i
    const products = new Float64Array(size);
    let total = 0; // w_i
    let product = 0; // R_i
    for (let j = 0; j <= i; j++) {
      const w = weight[offset + j] as number;
      const wr = w * (residual[offset + j] as number);
      const bucket = table[i - j] as number;
      weights[bucket] = (weights[bucket] as number) + w;
      products[bucket] = (products[bucket] as number) + wr;
      total += w;
      product += wr;
    }
    if (total === 0) return;
    const last = table[i] as number; // the farthest bucket of this row
    for (let a = 0; a <= last; a++) {
      const share = (weights[a] as number) / total;
      const row = (head * size + a) * size;
      this.right[head * size + a] = (this.right[head * size + a] as number) + (products[a] as number) - share * product;
      this.normal[row + a] = (this.normal[row + a] as number) + (weights[a] as number);
      for (let b = 0; b <= last; b++)
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
