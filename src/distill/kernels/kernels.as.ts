// The inner loops of optimizer and noise in AssemblyScript: `npm run kernels` compiles them to wasm.ts.
// Arrays are float32 at byte addresses that are multiples of 16. Loops go in fours, over the padding that memory.ts
// leaves behind every array. No fused multiply-add, so that every machine gives the same bits.

const SMALLEST_NORMAL: f32 = 1.17549435e-38;

/** Sets subnormals to zero (NaN stays): a moment without a gradient would stay subnormal for ever, which is slow. */
function flushed(x: v128): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), f32x4.splat(SMALLEST_NORMAL)));
}

/** a + w·(b − a) */
function mixed(a: v128, b: v128, w: v128): v128 {
  return f32x4.add(a, f32x4.mul(w, f32x4.sub(b, a)));
}

/**
 * AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW: with g = scale·gradient and bias_i = 1 − β_i^step,
 * m ← β1·m + (1 − β1)·g, v ← β2·v + (1 − β2)·g², p ← (1 − lr·decay)·p − lr·(m/bias1) / (√(v/bias2) + ε).
 * The last is taken as p − (lr·decay·p + lr·√bias2/bias1·m / (√v + ε·√bias2)): 1 − lr·decay would lose lr·decay.
 */
export function adamw(
  value: usize,
  gradient: usize,
  moment1: usize,
  moment2: usize,
  length: usize,
  lr: f64,
  beta1: f64,
  beta2: f64,
  epsilon: f64,
  decay: f64,
  bias1: f64,
  bias2: f64,
  scale: f64,
): void {
  const weight1 = f32x4.splat(<f32>(1 - beta1));
  const weight2 = f32x4.splat(<f32>(1 - beta2));
  const rate = f32x4.splat(<f32>((lr * sqrt(bias2)) / bias1));
  const floor = f32x4.splat(<f32>(epsilon * sqrt(bias2)));
  const shrink = f32x4.splat(<f32>(lr * decay));
  const scales = f32x4.splat(<f32>scale);
  for (let at: usize = 0; at < length << 2; at += 16) {
    const p = v128.load(value + at);
    const g = f32x4.mul(scales, v128.load(gradient + at));
    const m = flushed(mixed(v128.load(moment1 + at), g, weight1));
    const v = flushed(mixed(v128.load(moment2 + at), f32x4.mul(g, g), weight2));
    v128.store(moment1 + at, m);
    v128.store(moment2 + at, v);
    const step = f32x4.div(f32x4.mul(rate, m), f32x4.add(f32x4.sqrt(v), floor));
    v128.store(value + at, f32x4.sub(p, f32x4.add(f32x4.mul(shrink, p), step)));
  }
}

/** Σ x², each square exact and added in float64 */
export function sumOfSquares(source: usize, length: usize): f64 {
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  for (let at: usize = 0; at < length << 2; at += 16) {
    const x = v128.load(source + at);
    const a = f64x2.promote_low_f32x4(x);
    const b = f64x2.promote_low_f32x4(v128.shuffle<i32>(x, x, 2, 3, 2, 3));
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
  }
  const sum = f64x2.add(low, high);
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}

/** target ← target + source */
export function addInto(target: usize, source: usize, length: usize): void {
  for (let at: usize = 0; at < length << 2; at += 16) {
    v128.store(target + at, f32x4.add(v128.load(target + at), v128.load(source + at)));
  }
}

/** target ← target + weight·(source − target): with weight 1/n, the mean of n arrays from that of n − 1 and the last */
export function mixInto(target: usize, source: usize, length: usize, weight: f64): void {
  const weights = f32x4.splat(<f32>weight);
  for (let at: usize = 0; at < length << 2; at += 16) {
    v128.store(target + at, mixed(v128.load(target + at), v128.load(source + at), weights));
  }
}

/** Exchanges the contents of two arrays. */
export function swap(a: usize, b: usize, length: usize): void {
  for (let at: usize = 0; at < length << 2; at += 16) {
    const x = v128.load(a + at);
    v128.store(a + at, v128.load(b + at));
    v128.store(b + at, x);
  }
}

/** The finalizer of splitmix64 (Steele, Lea and Flood 2014) on both lanes */
function hashed(z: v128): v128 {
  z = i64x2.mul(v128.xor(z, i64x2.shr_u(z, 30)), i64x2.splat(0xbf58476d1ce4e5b9));
  z = i64x2.mul(v128.xor(z, i64x2.shr_u(z, 27)), i64x2.splat(0x94d049bb133111eb));
  return v128.xor(z, i64x2.shr_u(z, 31));
}

function rotated(x: v128, bits: i32): v128 {
  return v128.or(i32x4.shl(x, bits), i32x4.shr_u(x, 32 - bits));
}

/** table[low 16 bits] + table[high 16 bits] */
function normal(table: usize, bits: u32): f32 {
  return load<f32>(table + ((bits & 0xffff) << 2)) + load<f32>(table + ((bits >>> 16) << 2));
}

/**
 * Standard normal draws: each is the sum of two entries of `table` (65,536 quantiles of N(0, ½)) that 32 bits of
 * xoshiro128++ (Blackman and Vigna 2021) choose. Four generators are interleaved. The 128 bits of generator i are
 * (seed, 4·stream + i) through four Feistel rounds, a bijection: no two (seed, stream, i) begin alike.
 * The generator is apart from numeric/random.ts (xoshiro128**) because its bits are the noise of training: another one
 * would change every model that is trained with noise.
 */
export function normals(target: usize, length: usize, table: usize, seed: u64, stream: u64): void {
  let a01 = i64x2.splat(seed);
  let a23 = a01;
  let b01 = i64x2.add(i64x2.splat(stream << 2), i64x2(0, 1));
  let b23 = i64x2.add(i64x2.splat(stream << 2), i64x2(2, 3));
  const golden: u64 = 0x9e3779b97f4a7c15;
  for (let round: u64 = 1; round < 5; round += 2) {
    const even = i64x2.splat(golden * round);
    const odd = i64x2.splat(golden * (round + 1));
    a01 = v128.xor(a01, hashed(i64x2.add(b01, even)));
    a23 = v128.xor(a23, hashed(i64x2.add(b23, even)));
    b01 = v128.xor(b01, hashed(i64x2.add(a01, odd)));
    b23 = v128.xor(b23, hashed(i64x2.add(a23, odd)));
  }
  let s0 = v128.shuffle<i32>(a01, a23, 0, 2, 4, 6);
  let s1 = v128.shuffle<i32>(a01, a23, 1, 3, 5, 7);
  let s2 = v128.shuffle<i32>(b01, b23, 0, 2, 4, 6);
  let s3 = v128.shuffle<i32>(b01, b23, 1, 3, 5, 7);
  for (let at: usize = target; at < target + (length << 2); at += 16) {
    const bits = i32x4.add(rotated(i32x4.add(s0, s3), 7), s0);
    const shifted = i32x4.shl(s1, 9);
    s2 = v128.xor(s2, s0);
    s3 = v128.xor(s3, s1);
    s1 = v128.xor(s1, s2);
    s0 = v128.xor(s0, s3);
    s2 = v128.xor(s2, shifted);
    s3 = rotated(s3, 11);
    store<f32>(at, normal(table, i32x4.extract_lane(bits, 0)));
    store<f32>(at, normal(table, i32x4.extract_lane(bits, 1)), 4);
    store<f32>(at, normal(table, i32x4.extract_lane(bits, 2)), 8);
    store<f32>(at, normal(table, i32x4.extract_lane(bits, 3)), 12);
  }
}
