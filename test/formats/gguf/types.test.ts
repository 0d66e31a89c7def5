// llama.cpp's rounding of weights: blocks of 32 with a float16 scale, by hand.
import { describe, expect, it } from "vitest";
import { decodeFloats } from "../../../src/formats/dtype.ts";
import { countGgufBytes, encodeGguf, findTooLarge, fitsRows } from "../../../src/formats/gguf/types.ts";

const scaleOf = (block: Uint8Array) => decodeFloats(block.subarray(0, 2), "F16")[0];
/** 0, then the given numbers, then zeros. */
const blockOf = (...values: number[]) => Float32Array.from({ length: 32 }, (_, i) => values[i - 1] ?? 0);

describe("blocks of GGUF", () => {
  it.each([
    ["f16", 65_519],
    ["q4_0", 8 * 65_519],
    ["q8_0", 127 * 65_519],
  ] as const)("%s holds numbers up to %d", (type, most) => {
    expect(findTooLarge(blockOf(-most), type)).toBeUndefined();
    const scale = decodeFloats(
      encodeGguf(blockOf(-most), type)
        .slice(type === "f16" ? 2 : 0)
        .subarray(0, 2),
      "F16",
    )[0];
    expect(Math.abs(scale as number)).toBe(65_504);
    const more = Math.fround(most * 1.0001);
    expect(findTooLarge(blockOf(3, more), type)).toBe(more);
  });

  it("q8_0 has the scale max|x| / 127 and codes rounded half away from zero", () => {
    const bytes = encodeGguf(blockOf(127, -127, 0.5, -0.5, 1.5, -2.5, 2.49), "q8_0");
    expect(bytes).toHaveLength(34);
    expect(scaleOf(bytes)).toBe(1);
    expect([...new Int8Array(bytes.slice(2).buffer)].slice(0, 9)).toEqual([0, 127, -127, 1, -1, 2, -3, 2, 0]);
  });

  it("q8_0 computes codes by the scale before it is rounded to float16", () => {
    const bytes = encodeGguf(blockOf(1, 0.3), "q8_0");
    expect(scaleOf(bytes)).toBeCloseTo(1 / 127, 5);
    expect(scaleOf(bytes)).not.toBe(Math.fround(1 / 127));
    expect([...new Int8Array(bytes.slice(2).buffer)].slice(0, 3)).toEqual([0, 127, 38]);
  });

  it("q4_0 maps the number of largest magnitude to code 0, and codes i and i + 16 share a byte", () => {
    const values = blockOf(-8, 7, 3.4, 3.6);
    values[16] = 1;
    values[17] = 9; // beyond the last code: 15
    const bytes = encodeGguf(
      Float32Array.from(values, (value) => (value === 9 ? 7.9 : value)),
      "q4_0",
    );
    expect(bytes).toHaveLength(18);
    expect(scaleOf(bytes)).toBe(1);
    const codes = [...bytes.subarray(2)];
    expect(codes.map((byte) => byte & 15).slice(0, 5)).toEqual([8, 0, 15, 11, 12]);
    expect(codes.map((byte) => byte >> 4).slice(0, 3)).toEqual([9, 15, 8]);
  });

  it("q4_0 of a positive extreme has a negative scale, and a block of zeros has the scale −0, 0 / −8, and code 8", () => {
    expect(scaleOf(encodeGguf(blockOf(8), "q4_0"))).toBe(-1);
    const zeros = encodeGguf(new Float32Array(32), "q4_0");
    expect([...zeros]).toEqual([0, 0x80, ...Array<number>(16).fill(0x88)]);
    expect([...encodeGguf(new Float32Array(32), "q8_0")]).toEqual(Array<number>(34).fill(0));
  });

  it("sizes count whole blocks, which rows must divide into", () => {
    expect(["f32", "f16", "q8_0", "q4_0"].map((type) => countGgufBytes(type as "f32", 64))).toEqual([256, 128, 68, 36]);
    expect([fitsRows("q4_0", 64), fitsRows("q4_0", 48), fitsRows("f16", 48)]).toEqual([true, false, true]);
  });
});
