// The grid of rounded weights, found again from the weights alone.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dequantize, quantize } from "../../../src/graph/passes/int8.ts";
import { dequantizeBlocks, quantizeBlocks, roundToBlocks } from "../../../src/graph/quantize/blocks.ts";
import { findBlocks } from "../../../src/graph/quantize/find-grid.ts";

const formats = fc.record({
  bits: fc.constantFrom(4 as const, 8 as const),
  block: fc.constantFrom(16, 32),
  symmetric: fc.boolean(),
  byRow: fc.boolean(),
});
/** Of all sizes, many of them alike, and some 0. */
const weight = fc.oneof(
  fc.float({ min: -1, max: 1, noNaN: true }),
  fc.float({ min: Math.fround(-1e-6), max: Math.fround(1e-6), noNaN: true }),
  fc.constantFrom(0, 0.5, -0.5, 0.25),
);

describe("weights that were rounded to blocks", () => {
  it("have codes and scales again that decode to the same bits", () => {
    const inner = 40; // the last block is not full
    fc.assert(
      fc.property(formats, fc.array(weight, { minLength: 3 * inner, maxLength: 3 * inner }), (format, drawn) => {
        const options = { ...format, name: "w", shape: (format.byRow ? [3, inner] : [inner, 3]) as [number, number] };
        const weights = Float32Array.from(drawn);
        const codes = quantizeBlocks(weights, options);
        const rounded = dequantizeBlocks(codes, options);
        const alone = new Float32Array(weights.length);
        roundToBlocks(weights, options, alone);
        expect(alone).toEqual(rounded);
        const found = findBlocks(rounded, options);
        if (!found) throw new Error("no grid");
        expect(dequantizeBlocks(found, options)).toEqual(rounded);
        expect(findBlocks(dequantizeBlocks(found, options), options)).toEqual(found);
      }),
      { numRuns: 500 },
    );
  });

  it("have the very codes that were chosen, where these use all of their range", () => {
    const shape: [number, number] = [1, 32];
    const options = { bits: 4 as const, block: 16, symmetric: false, byRow: true, shape, name: "w" };
    const weights = Float32Array.from({ length: 32 }, (_, i) => ((i * 7) % 16) / 10 - 0.4 + 0.01 * Math.sin(i));
    const codes = quantizeBlocks(weights, options);
    expect(findBlocks(dequantizeBlocks(codes, options), options)).toEqual(codes);
  });

  it("are not found where one of them lies on no grid, or is not finite", () => {
    const options = { bits: 4 as const, block: 16, symmetric: false, byRow: true, name: "w" };
    const weights = Float32Array.from({ length: 16 }, (_, i) => i / 16);
    const shape: [number, number] = [1, 16];
    expect(findBlocks(weights, { ...options, shape })).not.toBeNull();
    for (const other of [0.03, 17 / 16, Number.NaN]) {
      const changed = weights.slice();
      changed[3] = other;
      expect(findBlocks(changed, { ...options, shape })).toBeNull();
    }
  });
});

describe("weights that were rounded to int8", () => {
  it("have the same codes and scales again, bit for bit", () => {
    const shape = [4, 8];
    fc.assert(
      fc.property(fc.array(weight, { minLength: 32, maxLength: 32 }), fc.boolean(), (drawn, byRow) => {
        const matrix = quantize(Float32Array.from(drawn), shape, { byRow });
        const again = quantize(dequantize(matrix, byRow), shape, { byRow });
        expect(again).toEqual(matrix);
      }),
      { numRuns: 2000 },
    );
  });
});
