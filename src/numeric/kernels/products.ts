// Products of rows in float64 by WebAssembly SIMD: blocks of the factors are copied into a small memory of its own.
import { makeMemory, openKernels } from "../web-assembly.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** Rows of a matrix: row i begins at `at` + i · `stride`. */
export interface Rows {
  data: Float64Array;
  at: number;
  stride: number;
}

export interface ProductSize {
  n: number;
  m: number;
  inner: number;
  sign: 1 | -1;
  /** Terms that are summed before they are added to `out`, so that a panel of both factors stays in the cache. */
  chunk?: number | undefined;
}

/** The exports of products.as.ts: addresses are in bytes. */
interface Exports {
  pack(b: number, panels: number, columns: number, length: number): void;
  addProducts(out: number, a: number, panels: number, rows: number, columns: number, length: number): void;
}

/** Sizes of a block, so that all of it stays in a core's cache: rows of a, rows of b, and terms of the sums. */
const [ROWS, COLUMNS, TERMS] = [128, 160, 320];
/** Rows and columns of a tile. */
const TILE = 4;

interface Kernel extends Exports {
  a: Float64Array; // [ROWS, TERMS]
  b: Float64Array; // [COLUMNS, TERMS]
  panels: Float64Array; // [COLUMNS / 4, TERMS, 4]
  out: Float64Array; // [ROWS, COLUMNS]
}

let kernel: Kernel | undefined;

/** Made on first use; a thread has its own. */
function openKernel(): Kernel {
  if (kernel) return kernel;
  const sizes = [ROWS * TERMS, COLUMNS * TERMS, COLUMNS * TERMS, ROWS * COLUMNS];
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const memory = makeMemory(total * Float64Array.BYTES_PER_ELEMENT);
  const { pack, addProducts } = openKernels<Exports>(WASM_BASE64, memory);
  let at = 0;
  const [a, b, panels, out] = sizes.map((size) => {
    const array = new Float64Array(memory.buffer, at, size);
    at += array.byteLength;
    return array;
  }) as [Float64Array, Float64Array, Float64Array, Float64Array];
  kernel = { pack, addProducts, a, b, panels, out };
  return kernel;
}

/**
 * out[i, j] += sign · Σ_k a[i, k] b[j, k] for i < n, j < m, first ≤ k < first + length: each sum runs over k in order and is
 * then added to `out`, so that the bits are those of the textbook loop.
 */
export function addProductsByKernel(
  out: Rows,
  a: Rows,
  b: Rows,
  { n, m, sign, first, length }: Pick<ProductSize, "n" | "m" | "sign"> & { first: number; length: number },
): void {
  const { pack, addProducts, ...arrays } = openKernel();
  for (let j = 0; j < m; j += COLUMNS) {
    const columns = Math.min(COLUMNS, m - j);
    const padded = roundUp(columns);
    for (let i = 0; i < n; i += ROWS) {
      const rows = Math.min(ROWS, n - i);
      arrays.out.fill(0, 0, roundUp(rows) * padded);
      for (let k = 0; k < length; k += TERMS) {
        const terms = Math.min(TERMS, length - k);
        copyRows(b, j, columns, first + k, terms, arrays.b);
        pack(arrays.b.byteOffset, arrays.panels.byteOffset, padded, terms);
        copyRows(a, i, rows, first + k, terms, arrays.a);
        const { out: sums, a: left, panels } = arrays;
        addProducts(sums.byteOffset, left.byteOffset, panels.byteOffset, roundUp(rows), padded, terms);
      }
      addSums(out, i, j, { rows, columns, padded, sign }, arrays.out);
    }
  }
}

const roundUp = (count: number) => Math.ceil(count / TILE) * TILE;

/** Copies entries `at` … `at + terms` of rows `from` … `from + count`. What is left of the last tile keeps old numbers. */
function copyRows(rows: Rows, from: number, count: number, at: number, terms: number, to: Float64Array): void {
  for (let r = 0; r < count; r++) {
    const begin = rows.at + (from + r) * rows.stride + at;
    to.set(rows.data.subarray(begin, begin + terms), r * terms);
  }
}

interface SumsSize {
  rows: number;
  columns: number;
  padded: number;
  sign: number;
}

function addSums(out: Rows, i: number, j: number, size: SumsSize, sums: Float64Array): void {
  const { rows, columns, padded, sign } = size;
  const { data, at, stride } = out;
  for (let r = 0; r < rows; r++) {
    const to = at + (i + r) * stride + j;
    const from = r * padded;
    for (let c = 0; c < columns; c++) data[to + c] = (data[to + c] as number) + sign * (sums[from + c] as number);
  }
}
