// Number formats: sizes, and float conversion held against @petamoriken/float16 and exact arithmetic.
import { getFloat16, setFloat16 } from "@petamoriken/float16";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  countBytes,
  DTYPE_BITS,
  decodeFloats,
  encodeFloats,
  isDtype,
  isFloatDtype,
  rankAlignment,
} from "../../src/formats/dtype.ts";

const view = new DataView(new ArrayBuffer(8));

function floatOfBits(bits: number): number {
  view.setUint32(0, bits);
  return view.getFloat32(0);
}

function bitsOfFloat(value: number): number {
  view.setFloat32(0, value);
  return view.getUint32(0);
}

function oracleHalf(value: number): number {
  setFloat16(view, 0, value);
  return view.getUint16(0);
}

function halvesOf(values: Float32Array): Uint16Array {
  return new Uint16Array(encodeFloats(values, "F16").slice().buffer);
}

/** The nearest of the two enclosing bfloat16 numbers by exact distances; ties to the even one. */
function oracleBrain(bits: number): number {
  const below = bits & 0xffff0000;
  const value = Math.abs(floatOfBits(bits));
  const low = Math.abs(floatOfBits(below >>> 0));
  const high = (below & 0x7fff0000) === 0x7f7f0000 ? 2 ** 128 : Math.abs(floatOfBits((below + 0x10000) >>> 0));
  const up = high - value < value - low || (high - value === value - low && (below >>> 16) & 1);
  return ((below >>> 16) + (up ? 1 : 0)) & 0xffff;
}

describe("sizes of dtypes", () => {
  it("the 22 dtypes are those of the reference implementation, exactly as spelled there", () => {
    expect(Object.keys(DTYPE_BITS)).toHaveLength(22);
    expect(isDtype("F8_E4M3FNUZ")).toBe(true);
    expect(isDtype("f32")).toBe(false);
    expect(isDtype("toString")).toBe(false);
  });

  it("only the four weight formats are called floats", () => {
    expect(Object.keys(DTYPE_BITS).filter((name) => isDtype(name) && isFloatDtype(name))).toEqual([
      "F16",
      "BF16",
      "F32",
      "F64",
    ]);
  });

  it("a wider format has a higher rank", () => {
    expect(rankAlignment("F64")).toBeGreaterThan(rankAlignment("F32"));
    expect(rankAlignment("BF16")).toBeGreaterThan(rankAlignment("F16"));
    expect(rankAlignment("F32")).toBeGreaterThan(rankAlignment("U32"));
  });

  it("byte counts are right for scalars and sub-byte formats too", () => {
    expect(countBytes("F32", [3, 4])).toBe(48);
    expect(countBytes("BF16", [])).toBe(2);
    expect(countBytes("F64", [5, 0, 7])).toBe(0);
    expect(countBytes("F4", [3, 2])).toBe(3);
    expect(countBytes("F6_E2M3", [4])).toBe(3);
  });

  it("a shape that is no whole number of bytes is refused", () => {
    expect(() => countBytes("F4", [3])).toThrow("F4 [3] has no whole, safe number of bytes");
  });

  it("a size beyond 2^53 is refused", () => {
    expect(() => countBytes("F32", [2 ** 40, 2 ** 20])).toThrow(RangeError);
  });
});

describe("decoding floats", () => {
  it("all 65,536 half floats are decoded as by @petamoriken/float16", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const decoded = decodeFloats(new Uint8Array(halves.buffer), "F16");
    const halfView = new DataView(halves.buffer);
    const wrong = [...halves].filter((half) => !Object.is(decoded[half], getFloat16(halfView, half * 2, true)));
    expect(wrong).toEqual([]);
  });

  it("bfloat16 is decoded as the upper half of a float32", () => {
    const bytes = Uint8Array.of(0x80, 0x3f, 0x49, 0xc0, 0x80, 0x7f, 0x01, 0x00, 0x00, 0x80);
    expect([...decodeFloats(bytes, "BF16")]).toEqual([1, -3.140625, Number.POSITIVE_INFINITY, 2 ** -133, -0]);
  });

  it("F64 is rounded to the nearest float32", () => {
    const doubles = Float64Array.of(Math.PI, 1e300, -1e-50, 16777217, 16777219);
    expect([...decodeFloats(new Uint8Array(doubles.buffer), "F64")]).toEqual([...doubles].map(Math.fround));
  });

  it("every format is read at an odd offset, as tensors in files often lie", () => {
    for (const dtype of ["F64", "F32", "F16", "BF16"] as const) {
      const values = Float32Array.of(1, -2, 0.5);
      const encoded = encodeFloats(values, dtype);
      const shifted = new Uint8Array(encoded.byteLength + 1);
      shifted.set(encoded, 1);
      expect(decodeFloats(shifted.subarray(1), dtype)).toEqual(values);
    }
  });

  it("decoding fills a given array and returns the part it used", () => {
    const into = new Float32Array(4).fill(9);
    const used = decodeFloats(encodeFloats(Float32Array.of(1, 2), "BF16"), "BF16", into);
    expect([...used]).toEqual([1, 2]);
    expect([...into]).toEqual([1, 2, 9, 9]);
  });

  it("bytes that are no whole number of elements are refused", () => {
    expect(() => decodeFloats(new Uint8Array(5), "F32")).toThrow("5 bytes are no whole number of F32");
  });

  it("an array that is too short for the values is refused", () => {
    expect(() => decodeFloats(new Uint8Array(8), "F32", new Float32Array(1))).toThrow("2 values do not fit in 1");
  });
});

describe("encoding floats", () => {
  it("all half floats that are not NaN come back bit for bit", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((half) => (half & 0x7fff) <= 0x7c00);
    const decoded = decodeFloats(new Uint8Array(halves.buffer), "F16");
    expect(halvesOf(decoded)).toEqual(halves);
  });

  it("half floats are rounded as by @petamoriken/float16 at every midpoint and beside it", () => {
    const bits: number[] = [];
    for (let half = 0; half <= 0x7bff; half++) {
      const low = decodeFloats(Uint8Array.of(half & 255, half >> 8), "F16")[0] as number;
      const next =
        half === 0x7bff ? 65536 : (decodeFloats(Uint8Array.of((half + 1) & 255, (half + 1) >> 8), "F16")[0] as number);
      const middle = bitsOfFloat((low + next) / 2);
      bits.push(middle - 1, middle, middle + 1);
    }
    const values = Float32Array.from(bits, floatOfBits);
    expect(halvesOf(values)).toEqual(Uint16Array.from(values, oracleHalf));
    expect(halvesOf(values.map((value) => -value))).toEqual(Uint16Array.from(values, (value) => oracleHalf(-value)));
  });

  it("random float32 bit patterns are rounded to half floats as by @petamoriken/float16", () => {
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 64, maxLength: 512 }), (bits) => {
        const values = Float32Array.from(bits, floatOfBits).filter((value) => !Number.isNaN(value));
        expect(halvesOf(values)).toEqual(Uint16Array.from(values, oracleHalf));
      }),
    );
  });

  it("random float32 bit patterns are rounded to bfloat16 by exact distance", () => {
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 64, maxLength: 512 }), (bits) => {
        const finite = bits.filter((word) => (word & 0x7f800000) !== 0x7f800000);
        const encoded = encodeFloats(new Float32Array(finite.buffer), "BF16");
        expect(new Uint16Array(encoded.buffer)).toEqual(Uint16Array.from(finite, oracleBrain));
      }),
    );
  });

  it("ties in bfloat16 are rounded to even", () => {
    const ties = Uint32Array.of(0x3f808000, 0x3f818000, 0xbf808000, 0x7f7f8000, 0x00008000);
    const brains = new Uint16Array(encodeFloats(new Float32Array(ties.buffer), "BF16").buffer);
    expect([...brains]).toEqual([0x3f80, 0x3f82, 0xbf80, 0x7f80, 0]);
  });

  it("NaN stays a NaN of the same sign, and infinity stays infinite", () => {
    // The last pattern is a signalling NaN whose payload lies in the bits that both formats drop.
    const bits = Uint32Array.of(0x7fc00000, 0xffc00000, 0x7f800000, 0xff800000, 0x7f800001);
    const values = new Float32Array(bits.buffer);
    expect([...halvesOf(values)]).toEqual([0x7e00, 0xfe00, 0x7c00, 0xfc00, 0x7e00]);
    expect([...new Uint16Array(encodeFloats(values, "BF16").buffer)]).toEqual([0x7fc0, 0xffc0, 0x7f80, 0xff80, 0x7fc0]);
  });

  it("widening to F64 is exact", () => {
    const values = Float32Array.of(0.1, -0, 2 ** -149, 3.4e38);
    expect([...new Float64Array(encodeFloats(values, "F64").buffer)]).toEqual([...values]);
  });

  it("encoding to F32 returns a view without a copy", () => {
    const values = Float32Array.of(1, 2, 3).subarray(1);
    const bytes = encodeFloats(values, "F32");
    values[0] = 7;
    expect(new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true)).toBe(7);
    expect(bytes.byteLength).toBe(8);
  });
});
