// Blocks of 2, 4 and 8 bits: ONNX Runtime's own bytes, scales of least squared error, and what is refused.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeFloats, encodeFloats } from "../../../src/formats/dtype.ts";
import type { MatrixFormat } from "../../../src/graph/passes/quantized-blocks.ts";
import { toHalf } from "../../../src/graph/quantize/block-fit.ts";
import {
  type BlockMatrix,
  countScaleBytes,
  dequantizeBlocks,
  quantizeBlocks,
} from "../../../src/graph/quantize/blocks.ts";
import { uniform } from "../../numeric/matrices.ts";
import { failureOf } from "../../support/failure.ts";

const hex = (bytes: Uint8Array | null) => bytes && Buffer.from(bytes).toString("hex");
const halves = (matrix: BlockMatrix) => [...new Uint16Array(countScaleBytes(matrix).slice().buffer)];

/** Multiples of 1/64 within ±2 from a linear congruence, of which float16 holds each, and many lie between two codes. */
function congruence(count: number): Float32Array {
  let x = 12345n;
  return Float32Array.from({ length: count }, () => {
    x = (x * 1103515245n + 12345n) % 2n ** 31n;
    return (Number((x >> 8n) % 257n) - 128) / 64;
  });
}

/** [40, 3], with a block of zeros: what test/export/quantise's numbers were computed from, in Python. */
function sample(): Float32Array {
  const weights = congruence(120);
  weights[3 * 3 + 1] = 0;
  for (let k = 0; k < 16; k++) weights[k * 3 + 2] = 0;
  return weights;
}

/** Σ_k ω_k (w − ŵ)² */
function errorOf(weights: Float32Array, decoded: Float32Array, importance: (i: number) => number = () => 1): number {
  return weights.reduce((sum, w, i) => sum + importance(i) * (w - (decoded[i] as number)) ** 2, 0);
}

describe("quantizeBlocks beside ONNX Runtime's quantizer", () => {
  // quantize_matmul_4bits and _8bits of onnxruntime 1.30.0 (Python) on float16 weights: values, scales' bits, zero points.
  test.each([
    {
      bits: 4,
      symmetric: true,
      block: 16,
      values:
        "078064cd7955a017e7065752d2791e9af750481488888888cb88fd2a71d0954309d67240614116774ffc06f2888888888888888888888888433ff919a7f340460b02d13b88888888",
      scales: [46064, 46016, 13104, 46064, 13280, 46016, 32768, 13296, 13296],
      zeroPoints: null,
    },
    {
      bits: 4,
      symmetric: false,
      block: 16,
      values:
        "f76f9a10759a3fe708f9a8ad2e86e155f750481488888888347702d58e2f6abc0bf7824071411778b003f91d777777770000000000000000433ff919a7f340460d02f13d99999999",
      scales: [13039, 13167, 13133, 13342, 13056, 13316, 0, 13333, 13013],
      zeroPoints: "768897878089",
    },
    {
      bits: 4,
      symmetric: false,
      block: 32,
      values:
        "f87fab3286ab5fe808f9a8ad2d86e155f7504814888888888888888888888888347702c68e2f6abc08c5613051310666b003f91d7777777777777777777777778888888888888888433ff919a7f340460d02f13d999999999999999999999999",
      scales: [13193, 13133, 13367, 13316, 13333, 13013],
      zeroPoints: "877798",
    },
    {
      bits: 8,
      symmetric: true,
      block: 16,
      values:
        "720500824659d2bf9178495204a4721574e65e006b4b21511cc89577e115a09870f40051843c44128080808080808080b6c27e80d8f999240a6f00d44e89333d96025ed51e6c003e14611539680f7069f140c5f9640022ea8080808080808080808080808080808080808080808080802941ee3490f7940e769f2fec003e5f43b0001a020ccfb2298080808080808080",
      scales: [41968, 41920, 9008, 41968, 9184, 41920, 32768, 9200, 9200],
      zeroPoints: null,
    },
    {
      bits: 8,
      symmetric: false,
      block: 32,
      values:
        "80faff6eb19c15295d79aea4fb4780e87e0095fc87aad8a4dd21597a06e54d5676ff00558b3f4713868686868686868686868686868686868686868686868686493d817f270666dbf590ff2bb176ccc295025ed41e6b003d14601538670f6f6809be350099ffdc0f7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c848484848484848484848484848484842b42f53695ff990e7aa431f300406245da0020020fffdc339e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e9e",
      scales: [8983, 8927, 9200, 9104, 9136, 8814],
      zeroPoints: "70867f7c849e",
    },
  ] as const)(
    "blocks are ONNX Runtime's at $bits bits, symmetric: $symmetric, block $block",
    ({ bits, symmetric, block, ...expected }) => {
      const format = { bits, symmetric, block, shape: [40, 3] as const, byRow: false };
      const matrix = quantizeBlocks(sample(), { ...format, rule: "extreme", name: "w" });
      expect(hex(matrix.values)).toBe(expected.values);
      expect(halves(matrix)).toEqual(expected.scales);
      expect(hex(matrix.zeroPoints)).toBe(expected.zeroPoints);
    },
  );
});

test("codes of 2 bits lie four in a byte, the first lowest, zero points likewise and each channel's from a byte of its own", () => {
  const format = { bits: 2, symmetric: false, block: 16, shape: [2, 40], byRow: true } as const;
  const codes = Array.from({ length: 80 }, (_, i) => (i * 7 + (i >> 3)) % 4);
  // Blocks that have all four codes give s = 1 and the zero points 1 and 2 of their channels.
  const weights = Float32Array.from(codes, (code, i) => code - (i < 40 ? 1 : 2));
  const matrix = quantizeBlocks(weights, { ...format, name: "w" });
  expect([...matrix.scales]).toEqual(Array(6).fill(1));
  expect(hex(matrix.zeroPoints)).toBe("95aa"); // 1 1 1 and 2 2 2, then the unused 2
  const packed = (row: number, pad: number) =>
    Array.from({ length: 12 }, (_, byte) =>
      [0, 1, 2, 3].reduce((sum, i) => {
        const k = 4 * byte + i;
        return sum + ((k < 40 ? (codes[40 * row + k] as number) : pad) << (2 * i));
      }, 0),
    );
  expect([...matrix.values]).toEqual([...packed(0, 1), ...packed(1, 2)]);
  expect(dequantizeBlocks(matrix, format)).toEqual(weights);
});

test("2 bits on the numbers of a bell curve lose little more than the best four even steps do, and less than the extremes'", () => {
  // Four even steps of 0.9957 leave 0.1188 of N(0, 1) (Max, 1960).
  const random = uniform(11);
  const unit = () => (random() + 1) / 2;
  const bell = Float32Array.from(
    { length: 32 * 400 },
    () => Math.sqrt(-2 * Math.log(unit() + 1e-9)) * Math.cos(2 * Math.PI * unit()),
  );
  const format = { bits: 2, block: 32, shape: [400, 32], byRow: true } as const;
  const lossOf = (symmetric: boolean, rule: "extreme" | "least-squares") => {
    const options = { ...format, symmetric };
    return (
      errorOf(bell, dequantizeBlocks(quantizeBlocks(bell, { ...options, rule, name: "w" }), options)) / bell.length
    );
  };
  for (const symmetric of [false, true]) {
    expect(lossOf(symmetric, "least-squares")).toBeLessThan(0.15);
    expect(lossOf(symmetric, "least-squares")).toBeLessThan(0.9 * lossOf(symmetric, "extreme"));
  }
});

const formats = fc.record({
  bits: fc.constantFrom(2 as const, 4 as const, 8 as const),
  symmetric: fc.boolean(),
  block: fc.constantFrom(16, 32, 64, 128),
});
const finite = fc.float({ min: -1000, max: 1000, noNaN: true });

test("scales by least squares are never worse than scales by extremes, weighted or not", () => {
  const matrices = fc.record({
    format: formats,
    weights: fc.array(finite, { minLength: 3, maxLength: 150 }),
    importance: fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: 150, maxLength: 150 }),
    weighted: fc.boolean(),
  });
  fc.assert(
    fc.property(matrices, ({ format, weights, importance, weighted }) => {
      const row = Float32Array.from(weights);
      const options = { ...format, shape: [1, row.length] as const, byRow: true, name: "w" };
      const error = (rule: "extreme" | "least-squares") => {
        const matrix = quantizeBlocks(row, { ...options, rule, ...(weighted && { importance }) });
        return errorOf(row, dequantizeBlocks(matrix, options), (k) => (weighted ? (importance[k] as number) : 1));
      };
      const worst = error("extreme");
      // Decoded weights are rounded to float32.
      expect(error("least-squares")).toBeLessThanOrEqual(worst * (1 + 1e-4) + 1e-12);
    }),
    { numRuns: 300 },
  );
});

test("scales by least squares beat those by extremes on bell-shaped weights, and importance moves the error", () => {
  const weights = Float32Array.from({ length: 64 * 256 }, (_, i) => {
    const [a, b, c] = [17, 31, 101].map((p) => ((i * p * 2654435761) % 2 ** 32) / 2 ** 32) as [number, number, number];
    return (a + b + c - 1.5) / 10;
  });
  const options: MatrixFormat & { name: string } = {
    bits: 4,
    symmetric: true,
    block: 32,
    shape: [64, 256],
    byRow: true,
    name: "w",
  };
  const importance = Float64Array.from({ length: 256 }, (_, k) => (k % 7 === 0 ? 50 : 1));
  const decoded = (choice: object) => dequantizeBlocks(quantizeBlocks(weights, { ...options, ...choice }), options);
  const weighted = (i: number) => importance[i % 256] as number;
  expect(errorOf(weights, decoded({}))).toBeLessThan(0.92 * errorOf(weights, decoded({ rule: "extreme" })));
  expect(errorOf(weights, decoded({ importance }), weighted)).toBeLessThan(
    0.97 * errorOf(weights, decoded({}), weighted),
  );
});

test("[K, N] and [N, K] give the same bytes, and decode to their own layout", () => {
  fc.assert(
    fc.property(formats, fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 5 }), (format, inner, channels) => {
      const byRow = congruence(channels * inner);
      const byColumn = Float32Array.from(
        byRow,
        (_, i) => byRow[(i % channels) * inner + Math.floor(i / channels)] ?? 0,
      );
      const rows = { ...format, shape: [channels, inner] as const, byRow: true };
      const columns = { ...format, shape: [inner, channels] as const, byRow: false };
      const matrix = quantizeBlocks(byRow, { ...rows, name: "w" });
      expect(quantizeBlocks(byColumn, { ...columns, name: "w" })).toEqual(matrix);
      const decoded = dequantizeBlocks(matrix, rows);
      const turned = dequantizeBlocks(matrix, columns);
      for (let n = 0; n < channels; n++)
        for (let k = 0; k < inner; k++) expect(turned[k * channels + n]).toBe(decoded[n * inner + k]);
      // No weight is further off than one step: 4/3 for 2 bits, 4/15 for 4, each block's range being 4 at most.
      const limit = format.bits === 2 ? 1.5 : 0.3;
      for (const [i, w] of byRow.entries()) expect(Math.abs(w - (decoded[i] as number))).toBeLessThan(limit);
    }),
    { numRuns: 60 },
  );
});

test("weights that a grid holds exactly come back exactly, denormals and zeros included", () => {
  for (const unit of [1, 2 ** -20, 0]) {
    const weights = Float32Array.from({ length: 32 }, (_, k) => ((k % 16) - 8) * unit);
    const format = { bits: 4 as const, symmetric: true, block: 32, shape: [1, 32] as const, byRow: true };
    const decoded = dequantizeBlocks(quantizeBlocks(weights, { ...format, name: "w" }), format);
    expect([...decoded].map((w) => w + 0)).toEqual([...weights].map((w) => w + 0));
  }
  // Below half of the smallest float16 there is no scale but 0.
  const tiny = new Float32Array(16).fill(1e-30);
  const format = { bits: 4 as const, symmetric: false, block: 16, shape: [1, 16] as const, byRow: true };
  expect([...dequantizeBlocks(quantizeBlocks(tiny, { ...format, name: "w" }), format)]).toEqual(Array(16).fill(0));
});

test("toHalf rounds as io/dtype does, below 2¹⁶", () => {
  const half = (x: number) => decodeFloats(encodeFloats(Float32Array.of(x), "F16"), "F16")[0];
  fc.assert(
    fc.property(fc.float({ min: -65000, max: 65000, noNaN: true }), (x) => {
      expect(toHalf(x)).toBe(half(x));
      expect(toHalf(x * 2 ** -20)).toBe(half(x * 2 ** -20));
    }),
  );
});

describe("weights that quantizeBlocks refuses", () => {
  const options = { bits: 4, block: 16, shape: [1, 16], byRow: true, name: "h.0.mlp.c_fc.weight" } as const;
  for (const symmetric of [true, false])
    for (const [value, code] of [
      [Number.NaN, "invalid-file"],
      [Number.NEGATIVE_INFINITY, "invalid-file"],
      [3e6, "unsupported"],
    ] as const)
      test(`a weight of ${value} is refused by name, symmetric: ${symmetric}`, async () => {
        const weights = new Float32Array(16).fill(0.1);
        weights[9] = value;
        const failure = await failureOf(() => quantizeBlocks(weights, { ...options, symmetric }));
        expect(failure.code).toBe(code);
        expect(failure.message).toContain("h.0.mlp.c_fc.weight");
      });
});
