// How the rounding error of one input is made good by the others: a blocked Cholesky factor, and the product it is made of.

/** Columns that are factored, and weights that are quantised, before the rest is brought up to date. */
export const PANEL = 128;
/** Inner length of a pass of the product: a panel of it, 512 KiB, stays in the cache. */
const CHUNK = 512;

/** Rows of a matrix: row i begins at `at` + i · `stride`. */
export interface Rows {
  data: Float64Array;
  at: number;
  stride: number;
}

/** out[i, j] += sign · Σ_k a[i, k] b[j, k] for i < n, j < m, k < inner. In tiles of 2 × 4 sums, as linear as memory is. */
export function addRowProducts(
  out: Rows,
  a: Rows,
  b: Rows,
  { n, m, inner, sign }: { n: number; m: number; inner: number; sign: 1 | -1 },
): void {
  for (let k = 0; k < inner; k += CHUNK) {
    const length = Math.min(CHUNK, inner - k);
    for (let i = 0; i < n; i += 2)
      for (let j = 0; j < m; j += 4)
        if (i + 2 <= n && j + 4 <= m) tile(out, a, b, { i, j, k, length, sign });
        else edge(out, a, b, { i, j, k, length, sign, n: Math.min(n, i + 2), m: Math.min(m, j + 4) });
  }
}

interface Tile {
  i: number;
  j: number;
  k: number;
  length: number;
  sign: number;
}

function tile(out: Rows, a: Rows, b: Rows, { i, j, k, length, sign }: Tile): void {
  const { data: x } = a;
  const { data: y } = b;
  const x0 = a.at + i * a.stride + k;
  const x1 = x0 + a.stride;
  const y0 = b.at + j * b.stride + k;
  const y1 = y0 + b.stride;
  const y2 = y1 + b.stride;
  const y3 = y2 + b.stride;
  let [c00, c01, c02, c03, c10, c11, c12, c13] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let t = 0; t < length; t++) {
    const u = x[x0 + t] as number;
    const v = x[x1 + t] as number;
    const w0 = y[y0 + t] as number;
    const w1 = y[y1 + t] as number;
    const w2 = y[y2 + t] as number;
    const w3 = y[y3 + t] as number;
    c00 += u * w0;
    c01 += u * w1;
    c02 += u * w2;
    c03 += u * w3;
    c10 += v * w0;
    c11 += v * w1;
    c12 += v * w2;
    c13 += v * w3;
  }
  const first = out.at + i * out.stride + j;
  const second = first + out.stride;
  const { data } = out;
  data[first] = (data[first] as number) + sign * c00;
  data[first + 1] = (data[first + 1] as number) + sign * c01;
  data[first + 2] = (data[first + 2] as number) + sign * c02;
  data[first + 3] = (data[first + 3] as number) + sign * c03;
  data[second] = (data[second] as number) + sign * c10;
  data[second + 1] = (data[second + 1] as number) + sign * c11;
  data[second + 2] = (data[second + 2] as number) + sign * c12;
  data[second + 3] = (data[second + 3] as number) + sign * c13;
}

function edge(out: Rows, a: Rows, b: Rows, { i, j, k, length, sign, n, m }: Tile & { n: number; m: number }): void {
  for (let r = i; r < n; r++)
    for (let c = j; c < m; c++) {
      const at = out.at + r * out.stride + c;
      const sum = dot(a.data, a.at + r * a.stride + k, b.data, b.at + c * b.stride + k, length);
      out.data[at] = (out.data[at] as number) + sign * sum;
    }
}

/** Σ_t x[xAt + t] y[yAt + t] */
export function dot(x: Float64Array, xAt: number, y: Float64Array, yAt: number, length: number): number {
  let sum = 0;
  for (let t = 0; t < length; t++) sum += (x[xAt + t] as number) * (y[yAt + t] as number);
  return sum;
}

/** What the errors of later inputs ask of an earlier one. */
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
  cholesky(hessian, size);
  const costs = Float64Array.from({ length: size }, (_, k) => (hessian[k * size + k] as number) ** 2);
  for (let k = 0; k < size; k++) {
    const pivot = hessian[k * size + k] as number;
    for (let j = k + 1; j < size; j++) hessian[k * size + j] = (hessian[j * size + k] as number) / pivot;
  }
  return { shares: hessian, costs };
}

/** The lower triangle of a positive definite A [n, n] becomes L with L Lᵀ = A; the upper one is left alone. */
function cholesky(a: Float64Array, n: number): void {
  for (let first = 0; first < n; first += PANEL) {
    const end = Math.min(n, first + PANEL);
    const left = (row: number): Rows => ({ data: a, at: row * n, stride: n });
    const panel = { data: a, at: first * n + first, stride: n };
    addRowProducts(panel, left(first), left(first), { n: n - first, m: end - first, inner: first, sign: -1 });
    for (let i = first; i < n; i++)
      for (let j = first; j < end && j <= i; j++) {
        const rest = (a[i * n + j] as number) - dot(a, i * n + first, a, j * n + first, j - first);
        a[i * n + j] = i === j ? Math.sqrt(rest) : rest / (a[j * n + j] as number);
      }
  }
}
