// Fits the distance-dependent noise mean: weighted least squares of score residuals on the distance buckets.
import { NfcError } from "../errors.ts";
import { solvePositive, transpose } from "../numeric/linalg.ts";
import { addRowProducts, type Rows } from "../numeric/products.ts";
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
    this.table = table;
    const starts = Array.from({ length: buckets }, (_, bucket) => table.findIndex((other) => other >= bucket));
    this.starts = [...starts, table.length].map((start) => (start < 0 ? table.length : start));
    this.weights = new Float64Array(heads * buckets);
    this.products = new Float64Array(heads * buckets);
    this.means = new Float64Array(heads * (buckets + 1) ** 2);
  }

  /** Adds rows of a window: `residual` and `weight` [H, end − first, end], entries with j > i ignored. */
  add(residual: Float32Array, weight: Float32Array, { first, end }: RowBlock): void {
    const rows = end - first;
    const width = this.size + 1;
    for (let head = 0; head < this.heads; head++) {
      const shares = new Float64Array(rows * width); // u_i
      for (let row = 0; row < rows; row++) {
        const offset = (head * rows + row) * end;
        this.addRow(head, residual, weight, offset, first + row, shares.subarray(row * width, (row + 1) * width));
      }
      const means: Rows = { data: this.means, at: head * width * width, stride: width };
      const columns: Rows = { data: transpose(shares, rows, width), at: 0, stride: rows };
      addRowProducts(means, columns, columns, { n: width, m: width, inner: rows, sign: 1 });
    }
  }

  /** Adds the sums of row i of a head, which begins at `offset`, and gives its u_i. @param share [K + 1] of zeros */
  private addRow(
    head: number,
    residual: Float32Array,
    weight: Float32Array,
    offset: number,
    i: number,
    share: Float64Array,
  ): void {
    const { size, starts, weights, products } = this;
    let total = 0; // w_i
    let product = 0; // R_i
    const last = this.table[i] as number; // the farthest bucket of this row
    for (let bucket = last; bucket >= 0; bucket--) {
      const begin = Math.max(0, i - (starts[bucket + 1] as number) + 1);
      const end = i - (starts[bucket] as number);
      const [sum, weighted] = sumProducts(weight, residual, offset + begin, offset + end + 1);
      const at = head * size + bucket;
      weights[at] = (weights[at] as number) + sum;
      products[at] = (products[at] as number) + weighted;
      share[bucket] = sum;
      total += sum;
      product += weighted;
    }
    share[size] = product;
    const factor = total === 0 ? 0 : 1 / Math.sqrt(total);
    for (let a = 0; a <= size; a++) share[a] = (share[a] as number) * factor;
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

/** Σ w and Σ w r over the entries `begin` … `end` − 1, two sums of each side by side. */
function sumProducts(w: Float32Array, r: Float32Array, begin: number, end: number): [number, number] {
  let [sum, weighted, otherSum, otherWeighted] = [0, 0, 0, 0];
  let j = begin;
  for (; j + 2 <= end; j += 2) {
    const first = w[j] as number;
    const second = w[j + 1] as number;
    sum += first;
    weighted += first * (r[j] as number);
    otherSum += second;
    otherWeighted += second * (r[j + 1] as number);
  }
  if (j < end) {
    sum += w[j] as number;
    weighted += (w[j] as number) * (r[j] as number);
  }
  return [sum + otherSum, weighted + otherWeighted];
}
