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

/** Adding and taking away 1.5·2⁵² rounds a float64 to the nearest integer, ties to even. */
const TO_INTEGER: f64 = 6755399441055744;
/** The same to multiples of 2⁻²⁴, the subnormal float16 numbers, of which 2⁻¹⁴ is no more one. */
const TO_SUBNORMAL_HALF: f64 = 402653184;
const SMALLEST_NORMAL_HALF: f64 = 0.00006103515625;
const LARGEST_HALF: f64 = 65504;

/** The scratch of a memory: the weights of two blocks of up to 128, two lanes each; two sums; up to 16 overhangs in float64. */
const SUMS: usize = 128 << 4;
const OVERHANGS: usize = SUMS + 32;

/** block-fit.ts has all that follows for one block, and says why; here two go side by side, one a lane, to the same bits. */
function toHalf(x: f64): f64 {
  const magnitude = abs(x);
  if (magnitude < SMALLEST_NORMAL_HALF) return copysign(magnitude + TO_SUBNORMAL_HALF - TO_SUBNORMAL_HALF, x);
  const word = reinterpret<u32>(<f32>x);
  return <f64>reinterpret<f32>((word + 0xfff + ((word >>> 13) & 1)) & ~0x1fff);
}

/** Leaves Σ w·c and Σ c² over the codes c = q − z in the scratch. */
function measure(scale: v128, zero: v128, last: f64, length: usize): void {
  const inverse = f64x2.div(f64x2.splat(1), scale);
  const low = f64x2.neg(zero);
  const high = f64x2.sub(f64x2.splat(last), zero);
  const rounder = f64x2.splat(TO_INTEGER);
  let along = f64x2.splat(0);
  let squares = f64x2.splat(0);
  for (let at: usize = 0; at < length << 4; at += 16) {
    const w = v128.load(at);
    let c = f64x2.sub(f64x2.add(f64x2.mul(w, inverse), rounder), rounder);
    c = f64x2.pmin(f64x2.pmax(c, low), high);
    along = f64x2.add(along, f64x2.mul(c, w));
    squares = f64x2.add(squares, f64x2.mul(c, c));
  }
  v128.store(SUMS, along);
  v128.store(SUMS, squares, 16);
}

let best: v128 = f64x2.splat(0);
let bestZero: v128 = f64x2.splat(0);
let saved: v128 = f64x2.splat(0);

function consider(scale: v128, zero: v128, last: f64, length: usize): void {
  measure(scale, zero, last, length);
  const along = v128.load(SUMS);
  const squares = v128.load(SUMS, 16);
  const gain = f64x2.div(f64x2.mul(along, along), squares);
  const better = f64x2.gt(gain, saved);
  saved = v128.bitselect(gain, saved, better);
  best = v128.bitselect(f64x2.div(along, squares), best, better);
  bestZero = v128.bitselect(zero, bestZero, better);
}

/** Σ (w − s·c)² − Σ w² */
function errorOf(scale: v128, zero: v128, last: f64, length: usize): v128 {
  measure(scale, zero, last, length);
  const twice = f64x2.mul(f64x2.splat(2), v128.load(SUMS));
  return f64x2.mul(scale, f64x2.sub(f64x2.mul(scale, v128.load(SUMS, 16)), twice));
}

/** The grids around the extreme one. */
function considerAll(low: v128, high: v128, symmetric: bool, last: f64, overhangs: usize, length: usize): void {
  const middle = (last + 1) / 2;
  if (overhangs == 0) return consider(best, bestZero, last, length);
  const extreme = v128.bitselect(high, low, f64x2.gt(high, f64x2.neg(low)));
  const range = f64x2.sub(high, low);
  const sum = f64x2.add(low, high);
  const rounder = f64x2.splat(TO_INTEGER);
  for (let i: usize = 0; i < overhangs; i++) {
    const overhang = load<f64>(OVERHANGS + (i << 3));
    if (symmetric) {
      consider(f64x2.div(f64x2.neg(extreme), f64x2.splat(middle + overhang)), f64x2.splat(middle), last, length);
      consider(f64x2.div(extreme, f64x2.splat(middle - 1 + overhang)), f64x2.splat(middle), last, length);
      continue;
    }
    const scale = f64x2.div(range, f64x2.splat(last + 2 * overhang));
    const center = f64x2.div(f64x2.sub(f64x2.splat(last), f64x2.div(sum, scale)), f64x2.splat(2));
    const zero = f64x2.sub(f64x2.add(center, rounder), rounder);
    consider(scale, f64x2.pmax(f64x2.pmin(zero, f64x2.splat(last)), f64x2.splat(0)), last, length);
  }
}

let scales: v128 = f64x2.splat(0);
let zeros: v128 = f64x2.splat(0);

/** The extreme grid of a lane. */
function setExtreme(low: f64, high: f64, symmetric: bool, last: f64, lane: bool): void {
  const middle = (last + 1) / 2;
  let scale: f64 = (high > -low ? high : low) / -middle;
  let zero = middle;
  if (!symmetric) {
    scale = <f64><f32>(<f64><f32>(high - low) / last);
    zero = scale == 0 ? 0 : min(last, floor(<f64><f32>(-low / scale) + 0.5));
  }
  scale = toHalf(scale);
  scales = lane ? f64x2.replace_lane(scales, 1, scale) : f64x2.replace_lane(scales, 0, scale);
  zeros = lane ? f64x2.replace_lane(zeros, 1, zero) : f64x2.replace_lane(zeros, 0, zero);
}

/** Chooses the grids of the two blocks in the scratch. */
function fitPair(symmetric: bool, last: f64, overhangs: usize, length: usize): void {
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  for (let at: usize = 0; at < length << 4; at += 16) {
    low = f64x2.pmin(low, v128.load(at));
    high = f64x2.pmax(high, v128.load(at));
  }
  setExtreme(f64x2.extract_lane(low, 0), f64x2.extract_lane(high, 0), symmetric, last, false);
  setExtreme(f64x2.extract_lane(low, 1), f64x2.extract_lane(high, 1), symmetric, last, true);
  const error = errorOf(scales, zeros, last, length);
  saved = f64x2.splat(0);
  best = scales;
  bestZero = zeros;
  considerAll(low, high, symmetric, last, overhangs, length);
  measure(best, bestZero, last, length);
  const ratio = f64x2.div(v128.load(SUMS), v128.load(SUMS, 16));
  const refined = f64x2.replace_lane(
    f64x2.splat(toHalf(f64x2.extract_lane(ratio, 0))),
    1,
    toHalf(f64x2.extract_lane(ratio, 1)),
  );
  const some = f64x2.ne(scales, f64x2.splat(0));
  const used = v128.and(f64x2.gt(v128.load(SUMS, 16), f64x2.splat(0)), f64x2.ne(refined, f64x2.splat(0)));
  const better = f64x2.lt(errorOf(refined, bestZero, last, length), error);
  const taken = v128.and(some, v128.and(used, better));
  scales = v128.bitselect(refined, scales, taken);
  zeros = v128.bitselect(bestZero, zeros, taken);
}

@inline
function rounded32(x: v128): v128 {
  return f64x2.promote_low_f32x4(f32x4.demote_f64x2_zero(x));
}

/**
 * Rounds a matrix of `channels` rows of `inner` weights, `stepN` and `stepK` bytes apart, in blocks of `block`, to
 * s·(q − z). Gives 0, or 1 where a weight is not finite or a scale too large for float16: the target is then undefined.
 */
export function roundBlocks(
  source: usize,
  target: usize,
  channels: usize,
  inner: usize,
  stepN: usize,
  stepK: usize,
  block: usize,
  last: f64,
  symmetric: bool,
  overhangs: usize,
): i32 {
  const half = f64x2.splat(0.5);
  const nothing = f64x2.splat(0);
  for (let first: usize = 0; first < inner; first += block) {
    const length = min(block, inner - first);
    for (let n: usize = 0; n < channels; n += 2) {
      const at = n * stepN + first * stepK;
      const next = n + 1 < channels ? at + stepN : at;
      let check = nothing;
      for (let k: usize = 0, from = source + at; k < length; k++, from += stepK) {
        const w = f64x2.replace_lane(f64x2.splat(<f64>load<f32>(from)), 1, <f64>load<f32>(from + (next - at)));
        check = f64x2.add(check, f64x2.mul(w, nothing)); // 0, or NaN where a weight is not finite
        v128.store(k << 4, w);
      }
      if (v128.any_true(f64x2.ne(check, nothing))) return 1;
      fitPair(symmetric, last, overhangs, length);
      if (v128.any_true(f64x2.gt(f64x2.abs(scales), f64x2.splat(LARGEST_HALF)))) return 1;
      const inverse = v128.andnot(rounded32(f64x2.div(f64x2.splat(1), scales)), f64x2.eq(scales, nothing));
      for (let k: usize = 0, to = target + at; k < length; k++, to += stepK) {
        const steps = rounded32(f64x2.add(rounded32(f64x2.mul(v128.load(k << 4), inverse)), zeros));
        const q = f64x2.pmin(f64x2.pmax(f64x2.floor(f64x2.add(steps, half)), nothing), f64x2.splat(last));
        const value = f64x2.add(f64x2.mul(scales, f64x2.sub(q, zeros)), nothing);
        store<f32>(to + (next - at), <f32>f64x2.extract_lane(value, 1));
        store<f32>(to, <f32>f64x2.extract_lane(value, 0));
      }
    }
  }
  return 0;
}
