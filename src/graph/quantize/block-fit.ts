// One block of weights on the grid s·(q − z): the scale and zero point of least squared error, or of the extremes.
import type { BlockFormat } from "../passes/quantized-blocks.ts";

/** Adding and taking away 1.5·2⁵² rounds a float64 to the nearest integer, ties to even. */
const TO_INTEGER = 1.5 * 2 ** 52;
/** The same to multiples of 2⁻²⁴, the subnormal float16 numbers. */
const TO_SUBNORMAL_HALF = 1.5 * 2 ** 28;
const SMALLEST_NORMAL_HALF = 2 ** -14;

/** Grids that 4 bits try: the extreme weights lie this many steps beyond the last code (before the last: negative). */
const SYMMETRIC_OVERHANGS = [-0.5, 0, 0.5, 1.4];
const ASYMMETRIC_OVERHANGS = [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1];
/** Grids that 2 bits try: these parts of the smallest scale that clips no weight. Few codes want the bulk, not the ends. */
const COARSE_SHRINKS = [0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1];
/** Rounds of scale and codes in turn: 2 bits take longer to settle. */
const REFINEMENTS = 1;
const COARSE_REFINEMENTS = 3;

/** The overhangs that a format tries; 8 bits have none, as the extremes cost them little, and 2 bits others. */
export function listOverhangs({ bits, symmetric }: Pick<BlockFormat, "bits" | "symmetric">): readonly number[] {
  if (bits !== 4) return [];
  return symmetric ? SYMMETRIC_OVERHANGS : ASYMMETRIC_OVERHANGS;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The nearest float16 number, ties to even, as a float64; from 2¹⁶ on the result is none. */
export function toHalf(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude < SMALLEST_NORMAL_HALF) return Math.sign(x) * (magnitude + TO_SUBNORMAL_HALF - TO_SUBNORMAL_HALF);
  float[0] = x;
  const word = bits[0] as number;
  bits[0] = (word + 0xfff + ((word >>> 13) & 1)) & ~0x1fff;
  return float[0] as number;
}

/** Fits one block after another; `weights` and `importance` are filled in by the caller, `scale` and `zero` are results. */
export class BlockFit {
  /** w_k, of which `length` count. */
  readonly weights: Float64Array;
  /** ω_k ≥ 0, how much an error of w_k matters. */
  readonly importance: Float64Array;
  length: number;
  /** s, a float16 number, possibly negative; NaN where a weight is not finite. */
  scale = 0;
  /** z, a code. */
  zero = 0;

  private readonly last: number;
  private readonly symmetric: boolean;
  private readonly middle: number;
  private readonly overhangs: readonly number[];
  // These are the ends of the range of the weights and 0.
  private low = 0;
  private high = 0;
  // Sums that the last `measure` made over the codes c = q − z: Σ ω·w·c and Σ ω·c².
  private along = 0;
  private squares = 0;
  // The squared error that the best candidate so far saves compared with codes of 0.
  private saved = 0;
  private bestScale = 0;
  private bestZero = 0;

  constructor({ bits, block, symmetric }: BlockFormat) {
    this.weights = new Float64Array(block);
    this.importance = new Float64Array(block).fill(1);
    this.length = block;
    this.last = 2 ** bits - 1;
    this.symmetric = symmetric;
    this.middle = 2 ** (bits - 1);
    this.overhangs = listOverhangs({ bits, symmetric });
  }

  /**
   * The grid of ONNX Runtime's quantizer: symmetric, s = −m/2^(bits−1) with m the weight of largest magnitude, so that m has code
   * 0; else s = (max − min)/(2^bits − 1) over the weights and 0, z = −min/s.
   */
  extreme(): void {
    let [low, high, nothing] = [0, 0, 0];
    for (let k = 0; k < this.length; k++) {
      const w = this.weights[k] as number;
      if (w < low) low = w;
      if (w > high) high = w;
      nothing += 0 * w;
    }
    this.low = low;
    this.high = high;
    if (nothing !== 0) {
      this.scale = Number.NaN;
      return;
    }
    if (this.symmetric) {
      this.scale = toHalf((high > -low ? high : low) / -this.middle);
      this.zero = this.middle;
      return;
    }
    const scale = Math.fround(Math.fround(high - low) / this.last);
    this.scale = toHalf(scale);
    this.zero = scale === 0 ? 0 : Math.min(this.last, Math.floor(Math.fround(-low / scale) + 0.5));
  }

  /**
   * Minimizes Σ ω_k (w_k − s·(q_k − z))² over s, z and the codes: a few grids around the extreme one, each with its best
   * scale s = Σ ω w c / Σ ω c², c = q − z; the best of them with codes and scale in turn once more, or a few times in 2
   * bits. Never worse than `extreme`, which is kept where nothing beats it.
   */
  leastSquares(): void {
    this.extreme();
    const { scale, zero } = this;
    if (scale === 0 || Number.isNaN(scale)) return;
    let error = this.errorOf(scale, zero);
    this.saved = 0;
    this.bestScale = scale;
    this.bestZero = zero;
    this.candidates();
    for (let round = this.last > 3 ? REFINEMENTS : COARSE_REFINEMENTS; round > 0; round--) {
      this.measure(this.bestScale, this.bestZero);
      if (this.squares === 0) return;
      const refined = toHalf(this.along / this.squares);
      const left = this.errorOf(refined, this.bestZero);
      if (refined === 0 || left >= error) return;
      error = left;
      this.scale = refined;
      this.zero = this.bestZero;
      this.bestScale = refined;
    }
  }

  /** q = round(w/s) + z within the codes, in float32 and with ties away from 0, as ONNX Runtime's quantizer. */
  code(w: number): number {
    const inverse = this.scale === 0 ? 0 : Math.fround(1 / this.scale);
    const q = Math.floor(Math.fround(Math.fround(w * inverse) + this.zero) + 0.5);
    return Math.max(0, Math.min(q, this.last));
  }

  private candidates(): void {
    const { low, high, middle, last, overhangs } = this;
    if (last === 3) {
      this.considerCoarse();
    } else if (overhangs.length === 0) {
      this.consider(this.scale, this.zero);
    } else if (this.symmetric) {
      const extreme = high > -low ? high : low;
      for (const overhang of overhangs) {
        this.consider(-extreme / (middle + overhang), middle);
        this.consider(extreme / (middle - 1 + overhang), middle);
      }
    } else {
      for (const overhang of overhangs) {
        const scale = (high - low) / (last + 2 * overhang);
        const zero = (last - (low + high) / scale) / 2 + TO_INTEGER - TO_INTEGER;
        this.consider(scale, Math.max(0, Math.min(zero, last)));
      }
    }
  }

  /** 2 bits: every zero point, or both signs of a symmetric block, with scales that clip more and more. */
  private considerCoarse(): void {
    const { low, high, middle, last, symmetric } = this;
    for (let zero = symmetric ? middle : 0; zero <= (symmetric ? middle : last); zero++) {
      const whole = (below: number, above: number) =>
        Math.max(zero > 0 ? below / zero : 0, zero < last ? above / (last - zero) : 0);
      for (const shrink of COARSE_SHRINKS) {
        this.consider(shrink * whole(-low, high), zero);
        if (symmetric) this.consider(-shrink * whole(high, -low), zero);
      }
    }
  }

  private consider(scale: number, zero: number): void {
    this.measure(scale, zero);
    const saved = (this.along * this.along) / this.squares;
    if (!(saved > this.saved)) return;
    this.saved = saved;
    this.bestScale = this.along / this.squares;
    this.bestZero = zero;
  }

  /** Σ ω (w − s·c)² − Σ ω w² */
  private errorOf(scale: number, zero: number): number {
    this.measure(scale, zero);
    return scale * (scale * this.squares - 2 * this.along);
  }

  private measure(scale: number, zero: number): void {
    const { weights, importance, length } = this;
    const inverse = 1 / scale;
    const low = -zero;
    const high = this.last - zero;
    let along = 0;
    let squares = 0;
    for (let k = 0; k < length; k++) {
      const w = weights[k] as number;
      let c = w * inverse + TO_INTEGER - TO_INTEGER;
      if (c < low) c = low;
      else if (c > high) c = high;
      const weighted = (importance[k] as number) * c;
      along += weighted * w;
      squares += weighted * c;
    }
    this.along = along;
    this.squares = squares;
  }
}
