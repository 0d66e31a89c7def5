// The noise against an independent generator, and its statistics: bounds that sound draws miss with p < 1e-6.
import { beforeAll, describe, expect, it } from "vitest";
import { buildNormalTable, NoiseBuffers } from "../../../src/distill/step/noise.ts";

/** |z| of a standard normal exceeds this with p = 1e-6. */
const Z = 4.9;
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

/** Φ, from the error function's Taylor series inside and its continued fraction outside, to 1e-14 */
function cumulative(x: number): number {
  if (x < 0) return 1 - cumulative(-x);
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x > 3) {
    let fraction = x;
    for (let k = 60; k > 0; k--) fraction = x + k / fraction;
    return 1 - density / fraction;
  }
  let [term, sum] = [x, x];
  for (let k = 1; k < 80; k++) {
    term *= (-x * x) / (2 * k);
    sum += term / (2 * k + 1);
  }
  return 0.5 + sum / Math.sqrt(2 * Math.PI);
}

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

const M64 = (1n << 64n) - 1n;

function splitmix(z: bigint): bigint {
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & M64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & M64;
  return z ^ (z >> 31n);
}

/** 32-bit words of one xoshiro128++, begun from (seed, counter) through four Feistel rounds */
function* words(seed: bigint, counter: bigint): Generator<number> {
  let [a, b] = [seed & M64, counter & M64];
  const golden = 0x9e3779b97f4a7c15n;
  for (const round of [1n, 3n]) {
    a ^= splitmix((b + golden * round) & M64);
    b ^= splitmix((a + golden * (round + 1n)) & M64);
  }
  const s = Uint32Array.of(...[a, a >> 32n, b, b >> 32n].map((word) => Number(word & 0xffffffffn)));
  const rotate = (x: number, k: number) => ((x << k) | (x >>> (32 - k))) >>> 0;
  for (;;) {
    let [s0, s1, s2, s3] = s as unknown as [number, number, number, number];
    yield (rotate((s0 + s3) >>> 0, 7) + s0) >>> 0;
    const t = s1 << 9;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s.set([s0, s1, s2 ^ t, rotate(s3 >>> 0, 11)]);
  }
}

describe("halfNormals", () => {
  const table = buildNormalTable();

  it("halfNormals is antisymmetric and rises, with variance ½ and a normal's kurtosis to 1 %", () => {
    expect(table).toHaveLength(65_536);
    expect(table.every((q, k) => q === -(table[65_535 - k] as number))).toBe(true);
    expect(table.every((q, k) => k === 0 || q > (table[k - 1] as number))).toBe(true);
    expect(mean(table, (q) => q * q)).toBeCloseTo(0.5, 7);
    expect(Math.abs(mean(table, (q) => q ** 4) / 0.25 / 3 - 1)).toBeLessThan(0.01);
  });

  it("halfNormals holds the quantiles at (k + ½) / 65,536", () => {
    const scale = 3.0902323061678132 / quantileOf(0.999); // Φ⁻¹(0.999), from tables
    for (const k of [0, 1, 100, 20_000, 32_767, 32_768, 50_000, 65_500, 65_534, 65_535]) {
      const p = (k + 0.5) / 65_536;
      expect(Math.abs(cumulative((table[k] as number) * scale) / p - 1)).toBeLessThan(1e-5);
    }
  });

  /** The table between its entries, linearly */
  function quantileOf(p: number): number {
    const at = p * 65_536 - 0.5;
    const k = Math.floor(at);
    return (table[k] as number) + (at - k) * ((table[k + 1] as number) - (table[k] as number));
  }
});

describe("NoiseBuffers", () => {
  it("the noise is what four xoshiro128++ generators give, which begin from seed, step, array and lane", () => {
    const table = buildNormalTable();
    const seed = 123_456_789;
    const step = 70_000;
    for (const [index, array] of drawn(seed, step, [41, 7]).entries()) {
      const lanes = [0n, 1n, 2n, 3n].map((lane) =>
        words(BigInt(seed), 4n * (BigInt(step) * 65_536n + BigInt(index)) + lane),
      );
      const expected = Float32Array.from(array, (_, i) => {
        const word = lanes[i % 4]?.next().value as number;
        return (table[word & 0xffff] as number) + (table[word >>> 16] as number);
      });
      expect(array).toEqual(expected);
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
    const noise = new NoiseBuffers(sizes, 5, { bankBytes: 393_216 });
    noise.draw(2);
    expect(new Set(noise.arrays.map((array) => array.buffer)).size).toBe(3);
    expect([...noise.arrays]).toEqual(drawn(5, 2, sizes));
  });

  it("the noise of no layers takes no memory", () => expect(drawn(1, 1, [])).toEqual([]));

  describe.each([0, 1, 20_261_124])("noise with seed %i", (seed) => {
    let arrays: Float32Array[] = [];
    beforeAll(() => {
      arrays = drawn(seed, 17, [N, N]);
    });

    it("the noise has a normal's moments", () => {
      const [x] = arrays as [Float32Array];
      const z = (power: number, expected: number, variance: number) =>
        (mean(x, (value) => value ** power) - expected) * Math.sqrt(N / variance);
      expect(Math.abs(z(1, 0, 1))).toBeLessThan(Z);
      expect(Math.abs(z(2, 1, 2))).toBeLessThan(Z);
      expect(Math.abs(z(3, 0, 15))).toBeLessThan(Z);
      expect(Math.abs(z(4, 3, 96))).toBeLessThan(Z);
    });

    it("the noise has a normal's distribution and tails", () => {
      const [x] = arrays as [Float32Array];
      expect(kolmogorovSmirnov(x)).toBeLessThan(2.7); // 2·exp(−2·2.7²) = 9e-7
      for (const bound of [3, 4]) {
        const expected = 2 * N * cumulative(-bound);
        const count = x.filter((value) => Math.abs(value) > bound).length;
        expect(Math.abs(count - expected)).toBeLessThan(Z * Math.sqrt(expected) + 3);
      }
    });

    it("the noise has no correlation along an array, between lanes, arrays, steps or seeds", () => {
      const [x, y] = arrays as [Float32Array, Float32Array];
      const [next] = drawn(seed, 18, [N]) as [Float32Array];
      const [other] = drawn(seed + 1, 17, [N]) as [Float32Array];
      const lags = [1, 2, 3, 4, 8, 12, 64, 128, 4096];
      const squares = (a: Float32Array) => a.map((value) => (value * value - 1) / Math.SQRT2);
      const all = [
        ...lags.map((lag) => correlation(x, x, lag)),
        ...lags.map((lag) => correlation(squares(x), squares(x), lag)),
        ...[y, next, other].flatMap((each) => [correlation(x, each), correlation(squares(x), squares(each))]),
      ];
      expect(Math.max(...all.map(Math.abs))).toBeLessThan(Z);
    });
  });

  it("the noise of 64 steps of 4 arrays shares no draws: every pair is uncorrelated", () => {
    const noise = new NoiseBuffers([512, 512, 512, 512], 1);
    const rows: Float32Array[] = [];
    for (let step = 0; step < 64; step++) {
      noise.draw(step);
      rows.push(...noise.arrays.map((array) => array.slice()));
    }
    const pairs = rows.flatMap((row, i) => rows.slice(0, i).map((other) => Math.abs(correlation(row, other))));
    expect(Math.max(...pairs)).toBeLessThan(6.8); // 32,640 pairs: p = 3e-7
  });
});
