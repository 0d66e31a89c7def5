// The noise: its table, the kernel against the definition in plain numbers, and the draws against a normal distribution.
import { beforeAll, describe, expect, it } from "vitest";
import { buildNormalTable, deriveNoiseKeys, NoiseBuffers } from "../../../src/distill/step/noise.ts";
import { drawWords, type Key } from "../../support/noise-words.ts";
import { compareWithBound, cumulative, MISS, poissonTail } from "../../support/statistics.ts";

const N = 1 << 20;

function drawn(seed: number, step: number, sizes: number[]): Float32Array[] {
  const noise = new NoiseBuffers(sizes, seed);
  noise.draw(step);
  return [...noise.arrays];
}

const mean = (x: Float32Array, f: (value: number, i: number) => number) =>
  x.reduce((sum, value, i) => sum + f(value, i), 0) / x.length;

/** √n · correlation of x[i] and y[i + lag], a standard normal if they are independent with variance 1 */
function correlation(x: Float32Array, y: Float32Array, lag = 0): number {
  let sum = 0;
  for (let i = 0; i + lag < y.length; i++) sum += (x[i] as number) * (y[i + lag] as number);
  return sum / Math.sqrt(y.length - lag);
}

const squares = (x: Float32Array) => x.map((value) => (value * value - 1) / Math.SQRT2);

/** √n · the largest distance of the empirical distribution to Φ */
function kolmogorovSmirnov(x: Float32Array): number {
  const sorted = x.slice().sort();
  let largest = 0;
  sorted.forEach((value, i) => {
    const p = cumulative(value);
    largest = Math.max(largest, p - i / sorted.length, (i + 1) / sorted.length - p);
  });
  return largest * Math.sqrt(sorted.length);
}

/** The quantiles as often as they are drawn, ascending: 0 twice, and not the entry that no draw takes */
const table = buildNormalTable();
const quantiles = Float64Array.from([...table.subarray(32_769), 0, ...table.subarray(0, 32_768)]);
const moment = (power: number) => quantiles.reduce((sum, q) => sum + q ** power, 0) / 65_536;

/** The share of pairs of quantiles whose sum exceeds `bound`, exactly */
function tailOfTable(bound: number): number {
  let pairs = 0;
  for (let low = 0, high = 65_536; low < 65_536; low++) {
    while (high > 0 && (quantiles[low] as number) + (quantiles[high - 1] as number) > bound) high--;
    pairs += 65_536 - high;
  }
  return pairs / 2 ** 32;
}

describe("buildNormalTable", () => {
  it("the table is antisymmetric and rises, with variance ½, on a grid on which the sum of two entries is exact", () => {
    expect(table).toHaveLength(65_536);
    expect(quantiles.every((q, k) => q === 0 - (quantiles[65_536 - k - 1] as number))).toBe(true);
    expect(quantiles.every((q, k) => k === 0 || k === 32_768 || q > (quantiles[k - 1] as number))).toBe(true);
    expect(table.some((q) => Object.is(q, -0))).toBe(false);
    expect(moment(2)).toBeCloseTo(0.5, 7);
    expect(table.every((q) => Number.isInteger(q * 2 ** 21))).toBe(true);
    expect(2 * Math.max(...table) * 2 ** 21).toBeLessThan(2 ** 24);
  });

  it("the table holds the quantiles at (k + ½) / 65,536", () => {
    const scale = 3.0902323061678132 / quantileOf(0.999); // Φ⁻¹(0.999), from tables
    for (const k of [0, 1, 100, 20_000, 32_766, 32_769, 50_000, 65_500, 65_534, 65_535]) {
      const p = (k + 0.5) / 65_536;
      expect(Math.abs(cumulative((quantiles[k] as number) * scale) / p - 1)).toBeLessThan(1e-5);
    }
  });

  it("sums of two have a normal's moments to 0.1 %, its tails to 2 % up to 4 and to a fifth beyond 5", () => {
    const [m4, m6] = [moment(4), moment(6)];
    expect(Math.abs((2 * m4 + 1.5) / 3 - 1)).toBeLessThan(0.001);
    expect(Math.abs((2 * m6 + 15 * m4) / 15 - 1)).toBeLessThan(0.001);
    const error = (bound: number) => Math.abs(tailOfTable(bound) / cumulative(-bound) - 1);
    for (const bound of [1, 2, 3, 4]) expect(error(bound)).toBeLessThan(0.02);
    expect(error(5)).toBeLessThan(0.2);
  });

  /** The table between its entries, linearly */
  function quantileOf(p: number): number {
    const at = p * 65_536 - 0.5;
    const k = Math.floor(at);
    return (quantiles[k] as number) + (at - k) * ((quantiles[k + 1] as number) - (quantiles[k] as number));
  }
});

describe("NoiseBuffers", () => {
  it.each([1, 7, 256, 257, 1003, 70_000])("the noise of %i draws is what its definition gives", (length) => {
    const [seed, step] = [123_456_789, 70_000];
    const keys = deriveNoiseKeys(seed, step, 2);
    for (const [index, array] of drawn(seed, step, [length, length]).entries()) {
      const words = drawWords([...keys.subarray(4 * index, 4 * index + 4)] as unknown as Key, length);
      const entry = (word: number) => table[Math.trunc(word / 65_536) & 0xffff] as number;
      const expected = array.map((_, i) => entry(words[2 * i] as number) + entry(words[2 * i + 1] as number));
      expect(new Uint32Array(array.slice().buffer)).toEqual(new Uint32Array(expected.buffer));
    }
  });

  it("the noise depends on seed, step and index alone: not on past draws, other arrays or the memory", () => {
    const noise = new NoiseBuffers([5, 1000, 1000], 3);
    for (const step of [0, 9, 4]) noise.draw(step);
    expect([...noise.arrays]).toEqual(drawn(3, 4, [5, 1000, 1000]));
    expect(noise.arrays[1]?.subarray(0, 30)).toEqual(drawn(3, 4, [0, 30])[1]);
    expect(noise.arrays[1]).not.toEqual(noise.arrays[2]);
    expect(drawn(-1, 0, [8])).not.toEqual(drawn(1, 0, [8]));
  });

  it("the noise is the same when it spreads over several memories", () => {
    const sizes = [20_000, 20_000, 20_000];
    const noise = new NoiseBuffers(sizes, 5, { bankBytes: 262_144 });
    noise.draw(2);
    expect(new Set(noise.arrays.map((array) => array.buffer)).size).toBe(3);
    expect([...noise.arrays]).toEqual(drawn(5, 2, sizes));
  });

  it("the noise of no layers takes no memory", () => expect(drawn(1, 1, [])).toEqual([]));

  it("no two of the keys of seeds, steps and arrays are the same", () => {
    const keys = new Set<string>();
    for (const seed of [-1, 0, 1, 2 ** 32, 2 ** 53 - 1])
      for (const step of [0, 1, 2, 65_536, 2 ** 31]) {
        const own = deriveNoiseKeys(seed, step, 12);
        for (let index = 0; index < 12; index++) keys.add(own.subarray(4 * index, 4 * index + 4).join());
      }
    expect(keys.size).toBe(5 * 5 * 12);
  });

  describe.each([0, 1, 20_261_124])("noise with seed %i", (seed) => {
    let arrays: Float32Array[] = [];
    let x: Float32Array = new Float32Array();
    beforeAll(() => {
      arrays = drawn(seed, 17, [N, N]);
      x = arrays[0] as Float32Array;
    });

    it("the noise has a normal's moments 1 to 4 and 6", () => {
      const z = (power: number, expected: number, variance: number) =>
        (mean(x, (value) => value ** power) - expected) * Math.sqrt(N / variance);
      expect(compareWithBound([z(1, 0, 1), z(2, 1, 2), z(3, 0, 15), z(4, 3, 96), z(6, 15, 10_170)])).toBeLessThan(1);
    });

    it("the noise has a normal's distribution and tails", () => {
      expect(kolmogorovSmirnov(x)).toBeLessThan(2.7); // 2·exp(−2·2.7²) = 9e-7
      for (const bound of [2, 3, 4, 5])
        for (const sign of [-1, 1]) {
          const count = x.reduce((sum, value) => sum + (sign * value > bound ? 1 : 0), 0);
          const expected = N * cumulative(-bound);
          if (expected > 1000) expect(compareWithBound([(count - expected) / Math.sqrt(expected)])).toBeLessThan(1);
          else expect(poissonTail(count, expected)).toBeGreaterThan(MISS);
        }
    });

    it("the noise has no correlation along an array, and none with other arrays, steps or seeds", () => {
      const y = arrays[1] as Float32Array;
      const [next] = drawn(seed, 18, [N]) as [Float32Array];
      const [other] = drawn(seed + 1, 17, [N]) as [Float32Array];
      const lags = [1, 2, 3, 4, 8, 64, 128, 200, 255, 256, 257, 512, 1024, 65_536];
      const all = [
        ...lags.flatMap((lag) => [correlation(x, x, lag), correlation(squares(x), squares(x), lag)]),
        ...[y, next, other].flatMap((each) => [correlation(x, each), correlation(squares(x), squares(each))]),
      ];
      expect(compareWithBound(all)).toBeLessThan(1);
    });

    it("the corners of rectangles in an array are independent, although rows and columns share words", () => {
      const at = (i: number) => x[i] as number;
      const scores = [1, 2, 3, 16, 255, 1024].flatMap((rows) =>
        [1, 2, 64, 128].map((columns) => {
          const corners = (i: number) => at(i) * at(i + columns) * at(i + 256 * rows) * at(i + 256 * rows + columns);
          let [sum, count] = [0, 0];
          for (let i = 0; i + 256 * rows + columns < N; i++)
            if (i % 256 < 256 - columns) {
              sum += corners(i);
              count++;
            }
          return sum / Math.sqrt(count);
        }),
      );
      expect(compareWithBound(scores)).toBeLessThan(1);
    });
  });

  it("the noise of 64 steps of 4 arrays shares no draws: every pair is uncorrelated", () => {
    const noise = new NoiseBuffers([512, 512, 512, 512], 1);
    const rows: Float32Array[] = [];
    for (let step = 0; step < 64; step++) {
      noise.draw(step);
      rows.push(...noise.arrays.map((array) => array.slice()));
    }
    // The correlation of 512 draws has heavier tails than a normal: 6.8 is beyond the bound of 32,640 pairs, 6.0.
    const pairs = rows.flatMap((row, i) => rows.slice(0, i).map((other) => Math.abs(correlation(row, other))));
    expect(Math.max(...pairs)).toBeLessThan(6.8);
  });

  it("the noise of the heads of an array [4, 8, 64, 64] is uncorrelated", () => {
    const [x] = drawn(7, 3, [4 * 8 * 64 * 64]) as [Float32Array];
    const heads = Array.from({ length: 32 }, (_, head) => x.subarray(4096 * head, 4096 * (head + 1)));
    const scores = heads.flatMap((head, i) => heads.slice(0, i).map((other) => correlation(head, other)));
    expect(compareWithBound(scores)).toBeLessThan(1);
  });
});
