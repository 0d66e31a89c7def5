// Sums of weighted rows by the distance from the diagonal, in AssemblyScript: `npm run kernels` compiles it to wasm.ts.

/**
 * For row i = first … first + rows − 1 of w and r, float32 [rows, columns]: W_b = Σ w_ij and P_b = Σ w_ij r_ij over the
 * j ≤ i whose distance i − j lies in bucket b, from starts[b] to starts[b + 1] − 1 (int32). W_b is added to weights[b],
 * P_b to products[b], and row i of `shares` [rows, buckets + 1] becomes [W, Σ P]/√ΣW, zeros where ΣW is 0.
 */
export function addBuckets(
  w: usize,
  r: usize,
  rows: i32,
  first: i32,
  columns: i32,
  starts: usize,
  buckets: i32,
  weights: usize,
  products: usize,
  shares: usize,
): void {
  for (let row = 0; row < rows; row++) {
    const i = first + row;
    let total: f64 = 0;
    let product: f64 = 0;
    for (let b = buckets - 1; b >= 0; b--) {
      const at: usize = 8 * b;
      const end = i - load<i32>(starts + 4 * b) + 1;
      if (end <= 0) {
        f64.store(shares + at, 0);
        continue;
      }
      let begin = i - load<i32>(starts + 4 * b + 4) + 1;
      if (begin < 0) begin = 0;
      let sums = f64x2.splat(0);
      let otherSums = f64x2.splat(0);
      let dots = f64x2.splat(0);
      let otherDots = f64x2.splat(0);
      let j = begin;
      for (; j + 4 <= end; j += 4) {
        const x = f64x2.promote_low_f32x4(v128.load64_zero(w + 4 * j));
        const y = f64x2.promote_low_f32x4(v128.load64_zero(w + 4 * j, 8));
        sums = f64x2.add(sums, x);
        otherSums = f64x2.add(otherSums, y);
        dots = f64x2.add(dots, f64x2.mul(x, f64x2.promote_low_f32x4(v128.load64_zero(r + 4 * j))));
        otherDots = f64x2.add(otherDots, f64x2.mul(y, f64x2.promote_low_f32x4(v128.load64_zero(r + 4 * j, 8))));
      }
      sums = f64x2.add(sums, otherSums);
      dots = f64x2.add(dots, otherDots);
      let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
      let dot = f64x2.extract_lane(dots, 0) + f64x2.extract_lane(dots, 1);
      for (; j < end; j++) {
        const x = <f64>f32.load(w + 4 * j);
        sum += x;
        dot += x * <f64>f32.load(r + 4 * j);
      }
      f64.store(weights + at, f64.load(weights + at) + sum);
      f64.store(products + at, f64.load(products + at) + dot);
      f64.store(shares + at, sum);
      total += sum;
      product += dot;
    }
    f64.store(shares + 8 * buckets, product);
    const factor: f64 = total == 0 ? 0 : 1 / sqrt<f64>(total);
    for (let b = 0; b <= buckets; b++) f64.store(shares + 8 * b, f64.load(shares + 8 * b) * factor);
    w += 4 * columns;
    r += 4 * columns;
    shares += 8 * (buckets + 1);
  }
}
