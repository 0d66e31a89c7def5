// The rounding of weights to blocks in AssemblyScript, as block-fit.ts does it: `npm run kernels` compiles it to wasm.ts.
// Two blocks go side by side, one in each lane of a pair of float64, with the operations and the order of block-fit.ts.

/** Adding and taking away 1.5·2⁵² rounds a float64 to the nearest integer, ties to even. */
const TO_INTEGER: f64 = 6755399441055744;
/** The same to multiples of 2⁻²⁴, the subnormal float16 numbers, of which 2⁻¹⁴ is no more one. */
const TO_SUBNORMAL_HALF: f64 = 402653184;
const SMALLEST_NORMAL_HALF: f64 = 0.00006103515625;
const LARGEST_HALF: f64 = 65504;

/** The scratch of a memory: the weights of two blocks of up to 128, two lanes each; two sums; up to 16 overhangs in float64. */
const SUMS: usize = 128 << 4;
const OVERHANGS: usize = SUMS + 32;

/** The nearest float16 number, ties to even */
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
  if (last == 3) return; // 2 bits keep the extreme grid
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

function loadGrids(grid: usize, next: usize): void {
  scales = f64x2.replace_lane(f64x2.splat(<f64>load<f32>(grid)), 1, <f64>load<f32>(next));
  zeros = f64x2.replace_lane(f64x2.splat(<f64>load<f32>(grid, 4)), 1, <f64>load<f32>(next, 4));
}

function storeGrids(grid: usize, next: usize): void {
  store<f32>(next, <f32>f64x2.extract_lane(scales, 1));
  store<f32>(next, <f32>f64x2.extract_lane(zeros, 1), 4);
  store<f32>(grid, <f32>f64x2.extract_lane(scales, 0));
  store<f32>(grid, <f32>f64x2.extract_lane(zeros, 0), 4);
}

@inline
function rounded32(x: v128): v128 {
  return f64x2.promote_low_f32x4(f32x4.demote_f64x2_zero(x));
}

/**
 * Rounds a matrix of `channels` rows of `inner` weights, `stepN` and `stepK` bytes apart, in blocks of `block`, to
 * s·(q − z). At `grids` lie s and z of each block, float32 numbers: with `keeps` 1 they are written there, with 2 read from
 * there instead of chosen, with 0 there are none. Gives 0, or 1 where a weight is not finite or a scale too large for float16: the target is then undefined.
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
  grids: usize,
  keeps: i32,
): i32 {
  const blocks = (inner + block - 1) / block;
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
      const grid = grids + ((n * blocks + first / block) << 3);
      const nextGrid = n + 1 < channels ? grid + (blocks << 3) : grid;
      if (keeps == 2) loadGrids(grid, nextGrid);
      else fitPair(symmetric, last, overhangs, length);
      if (keeps == 1) storeGrids(grid, nextGrid);
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
