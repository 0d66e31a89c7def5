// Defines the number formats of safetensors and their sizes, and converts the float formats to and from float32.

/**
 * Every dtype name of the safetensors reference implementation (0.8) with its width in bits, in the reference's
 * alignment order: the writer sorts tensors by this order, descending.
 */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A dtype name as it stands in a safetensors header. */
export type Dtype = keyof typeof DTYPE_BITS;

/** The dtypes that model weights use and that convert to float32. */
export type FloatDtype = "F64" | "F32" | "F16" | "BF16";

const ALIGNMENT_ORDER = new Map(Object.keys(DTYPE_BITS).map((name, index) => [name, index]));
const FLOAT_DTYPES: ReadonlySet<string> = new Set<FloatDtype>(["F64", "F32", "F16", "BF16"]);

/** True for an exact dtype name: the format is case sensitive. */
export function isDtype(name: string): name is Dtype {
  return ALIGNMENT_ORDER.has(name);
}

/** True for the dtypes that {@link decodeFloats} and {@link encodeFloats} handle. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return FLOAT_DTYPES.has(dtype);
}

/** Position in the reference's alignment order: larger means wider, and earlier in a written file. */
export function rankAlignment(dtype: Dtype): number {
  return ALIGNMENT_ORDER.get(dtype) ?? 0;
}

/** The number of elements of a shape; 1 for the scalar shape []. */
export function countElements(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/**
 * Bytes of a tensor: product(shape) · bits / 8.
 * @throws RangeError when that is no whole number of bytes or no safe integer (headers are checked before, by name).
 */
export function countBytes(dtype: Dtype, shape: readonly number[]): number {
  const bytes = (countElements(shape) * DTYPE_BITS[dtype]) / 8;
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new RangeError(`${dtype} [${shape.join(", ")}] has no whole, safe number of bytes`);
  }
  return bytes;
}

/**
 * Converts float bytes (little-endian, any alignment) to float32. F64 is rounded to nearest even; the others are exact.
 * With `into`, the values go there and the used part of it is returned.
 * @throws RangeError when `bytes` is no whole number of elements or `into` is too short.
 */
export function decodeFloats(bytes: Uint8Array, dtype: FloatDtype, into?: Float32Array): Float32Array {
  const count = (bytes.byteLength * 8) / DTYPE_BITS[dtype];
  if (!Number.isInteger(count)) throw new RangeError(`${bytes.byteLength} bytes are no whole number of ${dtype}`);
  if (into && into.length < count) throw new RangeError(`${count} values do not fit in ${into.length}`);
  const out = into ? into.subarray(0, count) : new Float32Array(count);
  if (dtype === "F16") return decodeHalf(align(bytes, Uint16Array), out);
  if (dtype === "BF16") return decodeBrain(align(bytes, Uint16Array), out);
  if (dtype === "F64") out.set(align(bytes, Float64Array));
  else viewBytes(out).set(bytes);
  return out;
}

/** Magnitudes that round to infinity: half a step above the largest finite number. Float64 has passed float32 before. */
export const OVERFLOW: Record<FloatDtype, number> = {
  F64: Number.POSITIVE_INFINITY,
  F32: Number.POSITIVE_INFINITY,
  F16: 65_520,
  BF16: 2 ** 128 - 2 ** 119,
};

/**
 * Converts float32 values to little-endian bytes of a float dtype, rounded to nearest even; overflow gives infinity, NaN a quiet
 * NaN of the same sign. F32 is a view of `values`, not a copy.
 */
export function encodeFloats(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === "F32") return viewBytes(values);
  if (dtype === "F64") return viewBytes(Float64Array.from(values));
  const bits = viewBits(values);
  return viewBytes(dtype === "F16" ? encodeHalf(bits) : encodeBrain(bits));
}

/** The bytes of a typed array: a view, not a copy. */
export function viewBytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function viewBits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

interface TypedArrayConstructor<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
}

/** A typed view of `bytes`, through a copy when they lie at an odd place (tensors in a file are often unaligned). */
function align<T>(bytes: Uint8Array, View: TypedArrayConstructor<T>): T {
  const source = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new View(source.buffer, source.byteOffset, source.byteLength / View.BYTES_PER_ELEMENT);
}

let halfTable: Float32Array | undefined;

/** Tabulates all 65,536 half floats: 5 exponent bits (bias 15), 10 fraction bits. A lookup is 30 times faster than arithmetic. */
function buildHalfTable(): Float32Array {
  const table = new Float32Array(65536);
  for (let half = 0; half < table.length; half++) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 0x3ff;
    if (exponent === 31) table[half] = fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else if (exponent === 0) table[half] = sign * fraction * 2 ** -24;
    else table[half] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

function decodeHalf(halves: Uint16Array, out: Float32Array): Float32Array {
  halfTable ??= buildHalfTable();
  const table = halfTable;
  for (let i = 0; i < halves.length; i++) out[i] = table[halves[i] as number] as number;
  return out;
}

/** A bfloat16 is the upper half of a float32. */
function decodeBrain(brains: Uint16Array, out: Float32Array): Float32Array {
  const bits = viewBits(out);
  for (let i = 0; i < brains.length; i++) bits[i] = (brains[i] as number) << 16;
  return out;
}

// Float32 bit patterns (sign removed) at which the rounding to a half float changes its rule.
const F32_INFINITY = 0x7f800000;
const HALF_OVERFLOW = 0x47800000; // 2^16, above every half float
const HALF_SMALLEST_NORMAL = 0x38800000; // 2^-14
const HALF_ROUNDS_TO_ZERO = 0x33000000; // 2^-25, half of the smallest subnormal: the tie goes to zero

function encodeHalf(bits: Uint32Array): Uint16Array {
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] as number;
    const magnitude = word & 0x7fffffff;
    const sign = (word >>> 16) & 0x8000;
    if (magnitude >= HALF_OVERFLOW) halves[i] = sign | (magnitude > F32_INFINITY ? 0x7e00 : 0x7c00);
    else if (magnitude >= HALF_SMALLEST_NORMAL) halves[i] = sign | roundNormalHalf(magnitude);
    else halves[i] = sign | (magnitude <= HALF_ROUNDS_TO_ZERO ? 0 : roundSubnormalHalf(magnitude));
  }
  return halves;
}

/** Changes the exponent's bias from 127 to 15 and rounds 13 fraction bits away; a carry moves into the exponent. */
function roundNormalHalf(magnitude: number): number {
  return (magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
}

/** Rounds the value to a multiple of 2^-24, ties to even. */
function roundSubnormalHalf(magnitude: number): number {
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const half = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  return rest > middle || (rest === middle && half & 1) ? half + 1 : half;
}

function encodeBrain(bits: Uint32Array): Uint16Array {
  const brains = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] as number;
    const notANumber = (word & 0x7fffffff) > F32_INFINITY;
    brains[i] = notANumber ? ((word >>> 16) & 0x8000) | 0x7fc0 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return brains;
}
