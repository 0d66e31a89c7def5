// The kernels: compiled from their source, right on whole arrays at any address; memory is laid out as promised.
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocate, type Region } from "../../src/distill/kernels/memory.ts";
import { roundInMemory, shapeGrid } from "../../src/distill/kernels/round-weight.ts";
import { countElements } from "../../src/formats/dtype.ts";
import { BlockFit } from "../../src/graph/quantize/block-fit.ts";
import { BlockCodes, quantizeBlocks } from "../../src/graph/quantize/blocks.ts";
import { ROUNDING_SCRATCH } from "../../src/graph/quantize/rounding-kernel.ts";
import { roundWeight } from "../../src/model/weight-forms.ts";
import { makeRandom } from "../../src/numeric/random.ts";
import { failureOf } from "../support/failure.ts";

function only(lengths: number[], shared = 0): Region {
  return allocate([{ name: "test", lengths }], undefined, shared)[0] as Region;
}

describe("WebAssembly kernels", () => {
  it("the kernels are what their source compiles to", () => {
    expect(() => execFileSync(process.execPath, ["scripts/make-kernels.mjs", "--check"])).not.toThrow();
  });

  it.each([0, 1, 3, 4, 5, 1003])("the kernels sum the squares of %i floats in float64", (length) => {
    const { kernels, arrays } = only([length]);
    const [x] = arrays as [Float32Array];
    for (let i = 0; i < length; i++) x[i] = Math.sin(i + 1) * 10 ** ((i % 13) - 6);
    const expected = x.reduce((sum, value) => sum + value * value, 0);
    expect(Math.abs(kernels.sumOfSquares(x.byteOffset, length) - expected)).toBeLessThanOrEqual(1e-14 * expected);
  });

  it("the kernels sum a million equal squares without drift, and squares beyond float32", () => {
    const { kernels, arrays } = only([1_000_000, 2]);
    const [many, large] = arrays as [Float32Array, Float32Array];
    many.fill(0.1);
    large.set([1e30, 2e30]);
    expect(kernels.sumOfSquares(many.byteOffset, many.length) / 1e6 / Math.fround(0.1) ** 2).toBeCloseTo(1, 11);
    expect(kernels.sumOfSquares(large.byteOffset, 2) / 5e60).toBeCloseTo(1, 6);
  });

  it.each([1, 6, 1003])("the kernels add %i floats and touch no neighbor", (length) => {
    const { kernels, arrays } = only([length, length, 4]);
    const [target, source, neighbor] = arrays as [Float32Array, Float32Array, Float32Array];
    const expected = Float32Array.from(target, (_, i) => Math.fround(i / 3) + Math.fround(i / 7));
    for (let i = 0; i < length; i++) [target[i], source[i]] = [i / 3, i / 7];
    neighbor.fill(7);
    kernels.addInto(target.byteOffset, source.byteOffset, length);
    expect(target).toEqual(expected);
    expect(source).toEqual(Float32Array.from(source, (_, i) => i / 7));
    expect(neighbor).toEqual(Float32Array.of(7, 7, 7, 7));
  });

  it.each([1, 6, 1003])("the kernels mix %i floats into others and exchange them, and touch no neighbor", (length) => {
    const { kernels, arrays } = only([length, length, 4]);
    const [target, source, neighbor] = arrays as [Float32Array, Float32Array, Float32Array];
    for (let i = 0; i < length; i++) [target[i], source[i]] = [i, -2 * i];
    neighbor.fill(7);
    kernels.mixInto(target.byteOffset, source.byteOffset, length, 0.25);
    expect(target).toEqual(Float32Array.from(target, (_, i) => i / 4)); // ¾·i − ¼·2i
    kernels.swap(target.byteOffset, source.byteOffset, length);
    expect([...target]).toEqual(Array.from(target, (_, i) => -2 * i));
    expect(source).toEqual(Float32Array.from(source, (_, i) => i / 4));
    expect(neighbor).toEqual(Float32Array.of(7, 7, 7, 7));
  });

  it("the kernels work above 2 GiB, where an address is negative as a signed number", () => {
    const { kernels, arrays } = only([550_000_000, 5, 5]);
    const [, target, source] = arrays as [Float32Array, Float32Array, Float32Array];
    expect(target.byteOffset).toBeGreaterThan(2 ** 31);
    target.fill(1);
    source.fill(2);
    kernels.addInto(target.byteOffset, source.byteOffset, 5);
    expect([...target]).toEqual([3, 3, 3, 3, 3]);
    expect(kernels.sumOfSquares(target.byteOffset, 5)).toBe(45);
  });
});

describe("allocate", () => {
  it("allocate keeps a request in one memory, in order, on cache lines, and makes no memory larger than needed", () => {
    const requests = [3, 10_000, 7_000, 1].map((length) => ({ name: `n${length}`, lengths: [length, length] }));
    const regions = allocate(requests, 131_072, 5);
    const buffers = regions.map((region) => region.shared.buffer);
    expect(regions.map(({ arrays }) => arrays.map((array) => array.length))).toEqual(requests.map((r) => r.lengths));
    for (const { arrays, shared } of regions) {
      for (const array of arrays) {
        expect(array.buffer).toBe(shared.buffer);
        expect(array.byteOffset % 64).toBe(0);
      }
    }
    expect(buffers[0]).toBe(buffers[1]);
    expect(buffers[2]).not.toBe(buffers[1]);
    expect(buffers[3]).toBe(buffers[2]);
    expect(buffers.map((buffer) => buffer.byteLength)).toEqual([131_072, 131_072, 65_536, 65_536]);
    expect(regions[0]?.shared).toBe(regions[1]?.shared);
    expect(regions[0]?.shared).toHaveLength(5);
  });

  it("allocate refuses by name what no memory holds", () => {
    expect(() => allocate([{ name: "wte.weight", lengths: [600_000_000, 600_000_000] }])).toThrow(
      expect.objectContaining({
        code: "unsupported",
        message: "wte.weight: its arrays take 4.80 GB, more than a memory of 4.29 GB holds",
        hint: expect.stringContaining("smaller"),
      }),
    );
    expect(() => allocate([{ name: "x", lengths: [16_384] }], 65_536, 1)).toThrow(/x: its arrays take/);
  });

  it("allocate gives no memory for no requests", () => expect(allocate([])).toEqual([]));

  it("the kernels round weights to blocks as the export does, bit for bit", () => {
    const sizes = fc.record({ channels: fc.integer({ min: 1, max: 5 }), inner: fc.constantFrom(8, 32, 40, 160) });
    const format = fc.record({
      bits: fc.constantFrom(4 as const, 8 as const),
      block: fc.constantFrom(16, 32, 128),
      symmetric: fc.boolean(),
      byRow: fc.boolean(),
    });
    const seed = fc.integer();
    fc.assert(
      fc.property(sizes, format, seed, ({ channels, inner }, blocks, key) => {
        const size = channels * inner;
        const [region] = allocate([{ name: "w", lengths: [size, size, 4] }], undefined, ROUNDING_SCRATCH) as [Region];
        const [values, into, neighbor] = region.arrays as [Float32Array, Float32Array, Float32Array];
        neighbor.fill(7);
        const random = makeRandom(key);
        // Blocks of all sizes, down to subnormal scales, of one sign and of zeros; weights that are alike, and outliers.
        for (let i = 0; i < size; i++) {
          const scale = 10 ** -Math.floor(((i >> 4) * 7) % 9);
          const kind = random();
          values[i] = kind < 0.1 ? 0 : kind < 0.2 ? scale : kind < 0.25 ? 20 * scale : (random() - 0.3) * scale;
        }
        values.fill(0, 0, 16);
        const shape: [number, number] = blocks.byRow ? [channels, inner] : [inner, channels];
        const form = { kind: "blocks", format: { ...blocks, shape } } as const;
        const expected = new Float32Array(size);
        roundWeight(values, form, "w", expected);
        roundInMemory(region, { values, into, form, name: "w" });
        expect(into).toEqual(expected);
        expect([...neighbor]).toEqual([7, 7, 7, 7]);
      }),
      { numRuns: 300 },
    );
  });

  /** A weight of three channels of 40 inputs, with a grid that is to be kept. */
  function makeFixed(byRow: boolean) {
    const [channels, inner] = [3, 40];
    const shape: [number, number] = byRow ? [channels, inner] : [inner, channels];
    const form = { kind: "blocks", format: { bits: 4, block: 16, symmetric: false, byRow, shape } } as const;
    const size = channels * inner;
    const lengths = [size, size, countElements(shapeGrid(form) ?? [])];
    const [region] = allocate([{ name: "w", lengths }], undefined, ROUNDING_SCRATCH) as [Region];
    const [values, into, grids] = region.arrays as [Float32Array, Float32Array, Float32Array];
    return { channels, inner, form, size, region, values, into, grid: { values: grids, known: false }, name: "w" };
  }

  it.each([false, true])("a weight that is rounded already keeps its own grid: by row %s", (byRow) => {
    const { channels, inner, size, region, ...weight } = makeFixed(byRow);
    const random = makeRandom(5);
    for (let n = 0; n < channels; n++)
      for (let k = 0; k < inner; k++) {
        // Codes 4 to 9 of a grid that could hold more on both sides.
        const scale = 0.25 + 0.125 * n + (k >> 4);
        weight.values[byRow ? n * inner + k : k * channels + n] = scale * (Math.floor(6 * random()) - 3);
      }
    const fitted = new Float32Array(size);
    roundWeight(weight.values, weight.form, "w", fitted);
    expect(fitted).not.toEqual(weight.values.slice());
    roundInMemory(region, weight);
    expect(weight.into.slice()).toEqual(weight.values.slice());
    const once = weight.grid.values.slice();
    for (let i = 0; i < size; i++) weight.values[i] = (weight.values[i] as number) + 0.01;
    roundInMemory(region, weight);
    expect(weight.grid.values.slice()).toEqual(once);
  });

  it.each([false, true])("the kernels keep the grids of the first weights where they are fixed: by row %s", (byRow) => {
    const { channels, inner, size, region, ...weight } = makeFixed(byRow);
    const { values, into, form } = weight;
    const random = makeRandom(3);
    for (let i = 0; i < size; i++) values[i] = random() - 0.4;
    const codes = new BlockCodes(form.format, quantizeBlocks(values, { ...form.format, name: "w" }));
    const expected = new Float32Array(size);
    roundWeight(values, form, "w", expected);
    roundInMemory(region, weight);
    expect(into).toEqual(expected);
    const fit = new BlockFit(form.format);
    for (let i = 0; i < size; i++) values[i] = 1.5 * (values[i] as number) + 0.1 * random(); // beyond the last codes, too
    for (let n = 0; n < channels; n++)
      for (let k = 0; k < inner; k++) {
        const at = byRow ? n * inner + k : k * channels + n;
        fit.scale = codes.scale(n, k >> 4);
        fit.zero = codes.zero(n, k >> 4);
        expected[at] = fit.scale * (fit.code(values[at] as number) - fit.zero) + 0;
      }
    roundInMemory(region, weight);
    expect(into).toEqual(expected);
  });

  it.each([
    [Number.NaN, "invalid-file"],
    [Number.POSITIVE_INFINITY, "invalid-file"],
    [3e6, "unsupported"],
  ])("the kernels refuse to round a weight of %d, as the export does", async (weight, code) => {
    const [region] = allocate([{ name: "w", lengths: [32, 32] }], undefined, ROUNDING_SCRATCH) as [Region];
    const [values, into] = region.arrays as [Float32Array, Float32Array];
    values[17] = weight;
    const format = { bits: 4, block: 16, symmetric: false, byRow: true, shape: [1, 32] } as const;
    const failure = await failureOf(async () =>
      roundInMemory(region, { values, into, form: { kind: "blocks", format }, name: "w" }),
    );
    expect(failure.code).toBe(code);
  });
});
