// The inner loop of matrix products in float64, in AssemblyScript: `npm run kernels` compiles it to wasm.ts.
// Every sum runs over k in order and without fused multiply-add, so that all ways to compute a product give the same bits.

/** Rows b [columns, length] as panels [columns/4, length, 4] */
export function pack(b: usize, panels: usize, columns: usize, length: usize): void {
  const row = length << 3;
  for (let j: usize = 0; j < columns; j += 4) {
    const first = b + j * row;
    for (let k: usize = 0; k < row; k += 8) {
      f64.store(panels, f64.load(first + k));
      f64.store(panels, f64.load(first + row + k), 8);
      f64.store(panels, f64.load(first + 2 * row + k), 16);
      f64.store(panels, f64.load(first + 3 * row + k), 24);
      panels += 32;
    }
  }
}

/**
 * out[i, j] += Σ_k a[i, k] b[j, k] for a [rows, length] and the panels of b; out is [rows, columns]. Rows and columns are
 * multiples of 4, and a tile of 4 × 4 sums stays in registers.
 */
export function addProducts(
  out: usize,
  a: usize,
  panels: usize,
  rows: usize,
  columns: usize,
  length: usize,
): void {
  const row = length << 3;
  for (let i: usize = 0; i < rows; i += 4)
    for (let j: usize = 0; j < columns; j += 4)
      addTile(out + (i * columns + j) * 8, columns << 3, a + i * row, panels + j * row, row);
}

// @ts-ignore: a decorator of AssemblyScript
@inline
function addTile(out: usize, step: usize, a: usize, panel: usize, row: usize): void {
  let c00 = v128.load(out);
  let c01 = v128.load(out, 16);
  let c10 = v128.load(out + step);
  let c11 = v128.load(out + step, 16);
  let c20 = v128.load(out + 2 * step);
  let c21 = v128.load(out + 2 * step, 16);
  let c30 = v128.load(out + 3 * step);
  let c31 = v128.load(out + 3 * step, 16);
  const a1 = a + row;
  const a2 = a1 + row;
  const a3 = a2 + row;
  for (let k: usize = 0; k < row; k += 8) {
    const low = v128.load(panel);
    const high = v128.load(panel, 16);
    panel += 32;
    let x = v128.load64_splat(a + k);
    c00 = f64x2.add(c00, f64x2.mul(x, low));
    c01 = f64x2.add(c01, f64x2.mul(x, high));
    x = v128.load64_splat(a1 + k);
    c10 = f64x2.add(c10, f64x2.mul(x, low));
    c11 = f64x2.add(c11, f64x2.mul(x, high));
    x = v128.load64_splat(a2 + k);
    c20 = f64x2.add(c20, f64x2.mul(x, low));
    c21 = f64x2.add(c21, f64x2.mul(x, high));
    x = v128.load64_splat(a3 + k);
    c30 = f64x2.add(c30, f64x2.mul(x, low));
    c31 = f64x2.add(c31, f64x2.mul(x, high));
  }
  v128.store(out, c00);
  v128.store(out, c01, 16);
  v128.store(out + step, c10);
  v128.store(out + step, c11, 16);
  v128.store(out + 2 * step, c20);
  v128.store(out + 2 * step, c21, 16);
  v128.store(out + 3 * step, c30);
  v128.store(out + 3 * step, c31, 16);
}
