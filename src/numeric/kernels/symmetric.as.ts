// The loops over n³ numbers of the symmetric eigenproblem, in AssemblyScript: `npm run kernels` compiles it to wasm.ts.
// Every sum runs in order and without fused multiply-add, so that the bits are those of the textbook loops. Matrices are
// [n, n], addresses in bytes.

/**
 * Householder step k of the tridiagonal form (Golub and Van Loan, Matrix Computations, 8.3.1) on the trailing block of A,
 * for v and w [n − k − 1]: w ← β A v − (β²/2)(vᵀA v) v, then A ← A − v wᵀ − w vᵀ.
 */
export function reflect(a: usize, n: usize, k: usize, v: usize, w: usize, beta: f64): void {
  const m = n - k - 1;
  const block = a + ((k + 1) * n + k + 1) * 8;
  multiplyRows(block, n, m, m, v, w, beta);
  let vw: f64 = 0;
  for (let i: usize = 0; i < m; i++) vw += f64.load(w + 8 * i) * f64.load(v + 8 * i);
  const share = 0.5 * beta * vw;
  for (let i: usize = 0; i < m; i++) f64.store(w + 8 * i, f64.load(w + 8 * i) - share * f64.load(v + 8 * i));
  for (let i: usize = 0; i < m; i++) {
    const row = block + i * n * 8;
    const vi = f64.load(v + 8 * i);
    const wi = f64.load(w + 8 * i);
    let j: usize = 0;
    for (; j + 2 <= m; j += 2) {
      const at = row + 8 * j;
      const less = f64x2.sub(v128.load(at), f64x2.mul(f64x2.splat(vi), v128.load(w + 8 * j)));
      v128.store(at, f64x2.sub(less, f64x2.mul(f64x2.splat(wi), v128.load(v + 8 * j))));
    }
    if (j < m) f64.store(row + 8 * j, f64.load(row + 8 * j) - vi * f64.load(w + 8 * j) - wi * f64.load(v + 8 * j));
  }
}

/** Z ← Z − (β Z v) vᵀ on rows and columns `first` … n − 1, for v [n − first] and memory `w` as large. */
export function reflectRows(z: usize, n: usize, first: usize, v: usize, w: usize, beta: f64): void {
  const m = n - first;
  const block = z + (first * n + first) * 8;
  multiplyRows(block, n, m, m, v, w, beta);
  for (let i: usize = 0; i < m; i++) {
    const row = block + i * n * 8;
    const wi = f64.load(w + 8 * i);
    let j: usize = 0;
    for (; j + 2 <= m; j += 2) {
      const at = row + 8 * j;
      v128.store(at, f64x2.sub(v128.load(at), f64x2.mul(f64x2.splat(wi), v128.load(v + 8 * j))));
    }
    if (j < m) f64.store(row + 8 * j, f64.load(row + 8 * j) - wi * f64.load(v + 8 * j));
  }
}

/** w_i ← β Σ_j a_ij v_j for `rows` rows of `columns` numbers, n apart: four sums side by side hide what an addition takes. */
function multiplyRows(a: usize, n: usize, rows: usize, columns: usize, v: usize, w: usize, beta: f64): void {
  const step = n * 8;
  const length = columns * 8;
  let i: usize = 0;
  for (; i + 4 <= rows; i += 4) {
    const r0 = a + i * step;
    const r1 = r0 + step;
    const r2 = r1 + step;
    const r3 = r2 + step;
    let s0: f64 = 0;
    let s1: f64 = 0;
    let s2: f64 = 0;
    let s3: f64 = 0;
    for (let j: usize = 0; j < length; j += 8) {
      const x = f64.load(v + j);
      s0 += f64.load(r0 + j) * x;
      s1 += f64.load(r1 + j) * x;
      s2 += f64.load(r2 + j) * x;
      s3 += f64.load(r3 + j) * x;
    }
    f64.store(w + 8 * i, beta * s0);
    f64.store(w + 8 * i, beta * s1, 8);
    f64.store(w + 8 * i, beta * s2, 16);
    f64.store(w + 8 * i, beta * s3, 24);
  }
  for (; i < rows; i++) {
    let sum: f64 = 0;
    for (let j: usize = 0; j < length; j += 8) sum += f64.load(a + i * step + j) * f64.load(v + j);
    f64.store(w + 8 * i, beta * sum);
  }
}

/**
 * Rotates rows i and i + 1 of Z by (c, s) for i = high − 1, high − 2, …: `rotations` holds c and s of each, `count` in all.
 * A strip of eight columns goes through all rotations at once, so that the row they share stays in registers.
 */
export function rotate(z: usize, n: usize, high: usize, rotations: usize, count: usize): void {
  const step = n * 8;
  const last = z + high * step;
  let column: usize = 0;
  for (; column + 8 <= n; column += 8) rotateStrip(last + 8 * column, step, rotations, count);
  for (; column < n; column++) {
    let at = last + 8 * column;
    let f = f64.load(at);
    for (let t: usize = 0; t < count; t++) {
      const c = f64.load(rotations + 16 * t);
      const s = f64.load(rotations + 16 * t, 8);
      const h = f64.load(at - step);
      f64.store(at, s * h + c * f);
      f = c * h - s * f;
      at -= step;
    }
    f64.store(at, f);
  }
}

function rotateStrip(at: usize, step: usize, rotations: usize, count: usize): void {
  let f0 = v128.load(at);
  let f1 = v128.load(at, 16);
  let f2 = v128.load(at, 32);
  let f3 = v128.load(at, 48);
  for (let t: usize = 0; t < count; t++) {
    const c = v128.load64_splat(rotations + 16 * t);
    const s = v128.load64_splat(rotations + 16 * t, 8);
    const above = at - step;
    const h0 = v128.load(above);
    const h1 = v128.load(above, 16);
    const h2 = v128.load(above, 32);
    const h3 = v128.load(above, 48);
    v128.store(at, f64x2.add(f64x2.mul(s, h0), f64x2.mul(c, f0)));
    v128.store(at, f64x2.add(f64x2.mul(s, h1), f64x2.mul(c, f1)), 16);
    v128.store(at, f64x2.add(f64x2.mul(s, h2), f64x2.mul(c, f2)), 32);
    v128.store(at, f64x2.add(f64x2.mul(s, h3), f64x2.mul(c, f3)), 48);
    f0 = f64x2.sub(f64x2.mul(c, h0), f64x2.mul(s, f0));
    f1 = f64x2.sub(f64x2.mul(c, h1), f64x2.mul(s, f1));
    f2 = f64x2.sub(f64x2.mul(c, h2), f64x2.mul(s, f2));
    f3 = f64x2.sub(f64x2.mul(c, h3), f64x2.mul(s, f3));
    at = above;
  }
  v128.store(at, f0);
  v128.store(at, f1, 16);
  v128.store(at, f2, 32);
  v128.store(at, f3, 48);
}
