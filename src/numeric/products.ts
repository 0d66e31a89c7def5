// Dot products and products of rows in float64: the inner loops of all dense linear algebra here.
import { addProductsByKernel, type ProductSize, type Rows } from "./kernels/products.ts";

export type { ProductSize, Rows };

/** Σ_t x[xAt + t] y[yAt + t] over `length` terms, in order. */
export function dot(x: Float64Array, xAt: number, y: Float64Array, yAt: number, length: number): number {
  let sum = 0;
  for (let t = 0; t < length; t++) sum += (x[xAt + t] as number) * (y[yAt + t] as number);
  return sum;
}

/** Terms of a product from which on copying its factors to the kernel costs little. */
const KERNEL_TERMS = 2 ** 14;
/** Rows of either factor from which on the kernel's tiles are mostly full. */
const KERNEL_ROWS = 4;

/**
 * out[i, j] += sign · Σ_k a[i, k] b[j, k] for i < n, j < m, k < inner. Both factors are read along rows; small products
 * keep a tile of 2 × 4 sums in registers, large ones are the kernel's. Both give the same bits.
 */
export function addRowProducts(out: Rows, a: Rows, b: Rows, { n, m, inner, sign, chunk = inner }: ProductSize): void {
  for (let k = 0; k < inner; k += chunk) {
    const length = Math.min(chunk, inner - k);
    if (n >= KERNEL_ROWS && m >= KERNEL_ROWS && n * m * length >= KERNEL_TERMS) {
      addProductsByKernel(out, a, b, { n, m, sign, first: k, length });
      continue;
    }
    for (let i = 0; i < n; i += 2)
      for (let j = 0; j < m; j += 4)
        if (i + 2 <= n && j + 4 <= m) addTile(out, a, b, { i, j, k, length, sign });
        else addEdge(out, a, b, { i, j, k, length, sign, n: Math.min(n, i + 2), m: Math.min(m, j + 4) });
  }
}

interface Tile {
  i: number;
  j: number;
  k: number;
  length: number;
  sign: number;
}

function addTile(out: Rows, a: Rows, b: Rows, { i, j, k, length, sign }: Tile): void {
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

function addEdge(out: Rows, a: Rows, b: Rows, { i, j, k, length, sign, n, m }: Tile & { n: number; m: number }): void {
  for (let r = i; r < n; r++)
    for (let c = j; c < m; c++) {
      const at = out.at + r * out.stride + c;
      const sum = dot(a.data, a.at + r * a.stride + k, b.data, b.at + c * b.stride + k, length);
      out.data[at] = (out.data[at] as number) + sign * sum;
    }
}
