// The inner loops of optimizer and noise in AssemblyScript: `npm run kernels` compiles them to wasm.ts.
// Arrays are float32 at byte addresses that are multiples of 16. Loops go in fours or eights, over the
// padding that memory.ts leaves behind every array. No fused multiply-add, so that every machine gives the same bits.

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

/** The draws of a row of the noise: few, so that the words of its columns stay in the fastest cache beside the table. */
const WIDTH: usize = 256;
/** Bytes of three arrays of words, for the columns and for 256 rows, behind the 32,768 floats of the table at address 0 */
const PLANE: usize = WIDTH << 2;
const COLUMNS: usize = 32768 << 2;
const ROWS: usize = COLUMNS + 3 * PLANE;

/** h·2¹⁶ + h/2¹⁶, the quotient truncated: nearly the halves of h exchanged, in operations that ONNX has for int32 too */
@inline
function turned(h: v128): v128 {
  const quotient = i32x4.shr_s(i32x4.add(h, i32x4.shr_u(i32x4.shr_s(h, 31), 16)), 16);
  return i32x4.add(i32x4.shl(h, 16), quotient);
}

/** turned(y·(2y + odd)): RC6's product (Rivest, Robshaw, Sidney and Yin 1998), whose high bits depend on all bits of y */
@inline
function hashed(y: v128, odd: i32): v128 {
  return turned(i32x4.mul(y, i32x4.add(i32x4.add(y, y), i32x4.splat(odd))));
}

/**
 * Three words for each place from `first` on: hashed with the key, doubled, and with `lowest` as their lowest bit. Each of
 * nine steps adds a function of one word to another, so that no two places or keys 0 and 1 give the same three words.
 */
function hashPlaces(words: usize, count: usize, first: i32, lowest: i32, key0: i32, key1: i32, key2: i32, key3: i32): void {
  let places = i32x4.add(i32x4.splat(first), i32x4(0, 1, 2, 3));
  for (let at = words; at < words + (count << 2); at += 16) {
    let a = places;
    let b = i32x4.add(i32x4.splat(key0), hashed(a, 0x3c6ef373));
    let c = i32x4.add(i32x4.splat(key1), hashed(b, 0x5be0cd19));
    a = i32x4.add(a, hashed(c, 0x1f83d9ab));
    a = i32x4.add(a, i32x4.splat(key2));
    b = i32x4.add(b, i32x4.splat(key3));
    b = i32x4.add(b, hashed(a, 0x3c6ef373));
    c = i32x4.add(c, hashed(b, 0x5be0cd19));
    a = i32x4.add(a, hashed(c, 0x1f83d9ab));
    b = i32x4.add(b, hashed(a, 0x3c6ef373));
    c = i32x4.add(c, hashed(b, 0x5be0cd19));
    a = i32x4.add(a, hashed(c, 0x1f83d9ab));
    v128.store(at, i32x4.add(i32x4.shl(a, 1), i32x4.splat(lowest)));
    v128.store(at + PLANE, i32x4.add(i32x4.shl(b, 1), i32x4.splat(lowest)));
    v128.store(at + 2 * PLANE, i32x4.add(i32x4.shl(c, 1), i32x4.splat(lowest)));
    places = i32x4.add(places, i32x4.splat(4));
  }
}

/** Q(z) = ±table[|z|/2¹⁶], the quotient truncated and the sign that of z, which `sign` (2³¹) masks */
@inline
function quantiles(z: v128, sign: v128): v128 {
  const addresses = i32x4.dot_i16x8_s(i32x4.abs(z), i32x4.splat(4 << 16)); // 4·(high 16 bits)
  const low = reinterpret<u64>(f64x2.extract_lane(addresses, 0)); // faster than two lanes of 32 bits
  const high = reinterpret<u64>(f64x2.extract_lane(addresses, 1));
  let entries = v128.load32_zero(<u32>low);
  entries = v128.load_lane<u32>(<u32>(low >>> 32), entries, 1);
  entries = v128.load_lane<u32>(<u32>high, entries, 2);
  entries = v128.load_lane<u32>(<u32>(high >>> 32), entries, 3);
  return v128.xor(entries, v128.and(z, sign));
}

/** z = (a + p)·(b + q) mod 2³² for the words of a row and of four columns */
@inline
function product(a: v128, b: v128, columns: usize): v128 {
  const p = v128.load(columns, COLUMNS);
  const q = v128.load(columns, COLUMNS + PLANE);
  return i32x4.mul(i32x4.add(a, p), i32x4.add(b, q));
}

/** Q(z) + Q(m·z); 0 is added because Q(z) may be −0, which the table has not */
@inline
function drawn(z: v128, m: v128, sign: v128): v128 {
  return f32x4.add(f32x4.add(quantiles(z, sign), quantiles(i32x4.mul(z, m), sign)), f32x4.splat(0));
}

/**
 * Standard normal draws, functions of key and position alone. A draw is the sum of two of 65,536 quantiles of N(0, ½),
 * which z and m·z choose by their high 16 bits; z = (a + p)·(b + q) mod 2³² for words (a, b, m) of the row and (p, q) of
 * the column. a, b and m are odd and p and q even, so that z and m·z are odd, and each takes every odd number equally often.
 * noise-graph.ts makes the same bits by ONNX's int32 operations. Other bits change every model that is trained with noise.
 */
export function normals(target: usize, length: usize, key0: i32, key1: i32, key2: i32, key3: i32): void {
  hashPlaces(COLUMNS, min(length, WIDTH), 0, 0, key0, key1, key2, key3);
  const rows = (length + WIDTH - 1) / WIDTH;
  for (let row: usize = 0; row < rows; row++) {
    const word = (row % WIDTH) << 2;
    if (word == 0) hashPlaces(ROWS, min(rows - row, WIDTH), <i32>(WIDTH + row), 1, key0, key1, key2, key3);
    const a = v128.load32_splat(word, ROWS);
    const b = v128.load32_splat(word, ROWS + PLANE);
    const m = v128.load32_splat(word, ROWS + 2 * PLANE);
    const sign = i32x4.shl(m, 31); // a constant would be loaded again and again
    const bytes = min(length - row * WIDTH, WIDTH) << 2;
    let to = target + row * PLANE;
    for (let at: usize = 0; at < bytes; at += 32) {
      const z0 = product(a, b, at); // both products first: faster than one after the other
      const z1 = product(a, b, at + 16);
      v128.store(to, drawn(z0, m, sign));
      v128.store(to, drawn(z1, m, sign), 16);
      to += 32;
    }
  }
}
