// The number types of GGUF tensors that nfc writes, and how llama.cpp rounds float32 to them.
import { encodeFloats, OVERFLOW, viewBytes } from "../dtype.ts";

/** Weights that share a scale in q8_0 and q4_0. */
const GGUF_BLOCK = 32;

/**
 * `code` is ggml's number of the type; `bytes` are those of `count` weights that lie together. A weight of the magnitude
 * `limit` would become infinite, or its block's scale.
 */
const TYPES = {
  f32: { code: 0, count: 1, bytes: 4, limit: Number.POSITIVE_INFINITY },
  f16: { code: 1, count: 1, bytes: 2, limit: OVERFLOW.F16 },
  q4_0: { code: 2, count: GGUF_BLOCK, bytes: 2 + GGUF_BLOCK / 2, limit: 8 * OVERFLOW.F16 },
  q8_0: { code: 8, count: GGUF_BLOCK, bytes: 2 + GGUF_BLOCK, limit: 127 * OVERFLOW.F16 },
} as const;

export type GgufType = keyof typeof TYPES;

/** The types in which a file's matrices are stored, as users name them. */
export const GGUF_PRECISIONS = ["f16", "q8_0", "q4_0"] as const satisfies readonly GgufType[];
export type GgufPrecision = (typeof GGUF_PRECISIONS)[number];

/** ggml's number of a type. */
export const toTypeCode = (type: GgufType): number => TYPES[type].code;

/** Whether rows of so many numbers can be stored in the type: blocks do not reach over the end of a row. */
export const fitsRows = (type: GgufType, width: number): boolean => width % TYPES[type].count === 0;

/** Bytes of so many numbers, whole blocks of them. */
export const countGgufBytes = (type: GgufType, elements: number): number =>
  (elements / TYPES[type].count) * TYPES[type].bytes;

/** The first finite number that the type cannot hold; undefined for none. */
export function findTooLarge(values: Float32Array, type: GgufType): number | undefined {
  const { limit } = TYPES[type];
  return values.find((value) => Math.abs(value) >= limit && Number.isFinite(value));
}

/** Rounds numbers, whole blocks of them, as llama.cpp's quantize does. */
export function encodeGguf(values: Float32Array, type: GgufType): Uint8Array {
  if (type === "f32") return viewBytes(values);
  if (type === "f16") return encodeFloats(values, "F16");
  const { bytes } = TYPES[type];
  const blocks = values.length / GGUF_BLOCK;
  const out = new Uint8Array(blocks * bytes);
  const scales = new Float32Array(blocks);
  const encodeBlock = type === "q8_0" ? encodeQ8 : encodeQ4;
  for (let block = 0; block < blocks; block++)
    scales[block] = encodeBlock(values, block * GGUF_BLOCK, out, block * bytes + 2);
  const halves = encodeFloats(scales, "F16"); // [blocks] float16, each before the codes of its block
  for (let block = 0; block < blocks; block++) {
    out[block * bytes] = halves[2 * block] as number;
    out[block * bytes + 1] = halves[2 * block + 1] as number;
  }
  return out;
}

const { fround, abs } = Math;

/**
 * d = max|x| / 127, code = round(x / d), halves away from zero: `quantize_row_q8_0_ref` of llama.cpp's ggml-quants.c.
 * Reads 32 numbers from `start` on and writes 32 codes, int8, from `to` on.
 * @returns d, before it is rounded to float16
 */
function encodeQ8(values: Float32Array, start: number, codes: Uint8Array, to: number): number {
  const d = fround(abs(findExtreme(values, start)) / 127);
  const inverse = d === 0 ? 0 : fround(1 / d);
  for (let i = 0; i < GGUF_BLOCK; i++) {
    const scaled = fround((values[start + i] as number) * inverse);
    codes[to + i] = scaled < 0 ? -Math.floor(0.5 - scaled) : Math.floor(scaled + 0.5);
  }
  return d;
}

/**
 * d = x* / −8 for x* the number of largest magnitude, code = min(15, ⌊x / d + 8.5⌋): `quantize_row_q4_0_ref`. Writes 16
 * bytes: code i in the low half of byte i, code i + 16 in the high one.
 * @returns d, before it is rounded to float16
 */
function encodeQ4(values: Float32Array, start: number, codes: Uint8Array, to: number): number {
  const d = fround(findExtreme(values, start) / -8);
  const inverse = d === 0 ? 0 : fround(1 / d);
  const half = GGUF_BLOCK / 2;
  for (let i = 0; i < half; i++) {
    const low = fround(fround((values[start + i] as number) * inverse) + 8.5);
    const high = fround(fround((values[start + half + i] as number) * inverse) + 8.5);
    codes[to + i] = Math.min(15, Math.floor(low)) | (Math.min(15, Math.floor(high)) << 4);
  }
  return d;
}

/** The number of largest magnitude among 32, the first of equal ones. */
function findExtreme(values: Float32Array, start: number): number {
  let extreme = 0;
  for (let i = start; i < start + GGUF_BLOCK; i++) {
    const value = values[i] as number;
    if (abs(value) > abs(extreme)) extreme = value;
  }
  return extreme;
}
