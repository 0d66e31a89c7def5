// The 32 bits that choose a draw of the noise: uniform, independent, and each changed by every bit of key and position.
import { beforeAll, describe, expect, it } from "vitest";
import { deriveNoiseKeys } from "../../../src/distill/step/noise.ts";
import { drawBits, drawBitsAt, hashPlace, type Key } from "../../support/noise-words.ts";
import { boundOf, chiSquare, compareWithBound, scoreCount } from "../../support/statistics.ts";

const N = 1 << 20;
/** All keys of a draw */
function keysOf(seed: number, draw: number, arrays: number): Key[] {
  const keys = deriveNoiseKeys(seed, draw, arrays);
  return Array.from({ length: arrays }, (_, i) => [...keys.subarray(4 * i, 4 * i + 4)] as unknown as Key);
}

function count(counts: Float64Array, cell: number): void {
  counts[cell] = (counts[cell] as number) + 1;
}

/** Differences from half, as z-scores, of how often each of 32 bits is set */
function scoreBits(length: number, word: (i: number) => number): number[] {
  const bytes = [0, 1, 2, 3].map(() => new Float64Array(256)); // how often each value of each byte is there
  for (let i = 0; i < length; i++) {
    const value = word(i);
    for (let byte = 0; byte < 4; byte++) count(bytes[byte] as Float64Array, (value >>> (8 * byte)) & 0xff);
  }
  return bytes.flatMap((counts) =>
    Array.from({ length: 8 }, (_, bit) => {
      const set = counts.reduce((sum, times, value) => sum + ((value >> bit) & 1) * times, 0);
      return scoreCount(set, length, 0.5);
    }),
  );
}

/** χ² of 65,536 cells */
function scoreCells(cells: (i: number) => number, length: number): number {
  const counts = new Float64Array(65_536);
  for (let i = 0; i < length; i++) count(counts, cells(i));
  return chiSquare(counts, length);
}

describe.each([0, 1, 20_261_124])("the bits of the noise with seed %i", (seed) => {
  let words: Uint32Array = new Uint32Array();
  const at = (i: number) => words[i] as number;
  beforeAll(() => {
    words = drawBits(keysOf(seed, 17, 1)[0] as Key, N);
  });

  it("each bit is set half of the time, and agrees with itself half of the time at any lag", () => {
    const lags = [1, 2, 3, 64, 200, 255, 256, 257, 1024, 65_536];
    const agreements = lags.flatMap((lag) => scoreBits(N - lag, (i) => at(i) ^ at(i + lag)));
    expect(compareWithBound([...scoreBits(N, at), ...agreements])).toBeLessThan(1);
  });

  it("no two bits of a draw agree more or less than half of the time", () => {
    const turns = Array.from({ length: 31 }, (_, k) => k + 1);
    const scores = turns.flatMap((k) => scoreBits(N, (i) => at(i) ^ ((at(i) << k) | (at(i) >>> (32 - k)))));
    expect(compareWithBound(scores)).toBeLessThan(1);
  });

  it("the high and the low 16 bits are uniform, and so are pairs of 8 bits of a draw and of neighbors", () => {
    const neighbors = [1, 255, 256, 257].flatMap((lag) => [
      scoreCells((i) => ((at(i) >>> 24) << 8) | (at(i + lag) >>> 24), N - lag),
      scoreCells((i) => (((at(i) >>> 8) & 0xff) << 8) | ((at(i + lag) >>> 8) & 0xff), N - lag),
      scoreCells((i) => ((at(i) & 0xff) << 8) | ((at(i + lag) >>> 16) & 0xff), N - lag),
    ]);
    const within = [
      scoreCells((i) => at(i) >>> 16, N),
      scoreCells((i) => at(i) & 0xffff, N),
      scoreCells((i) => ((at(i) >>> 24) << 8) | ((at(i) >>> 8) & 0xff), N),
      scoreCells((i) => (((at(i) >>> 16) & 0xff) << 8) | (at(i) & 0xff), N),
    ];
    expect(compareWithBound([...within, ...neighbors])).toBeLessThan(1);
  });

  it("the bits at the corners of rectangles have an even sum half of the time", () => {
    const scores = [256, 512, 768, 65_536].flatMap((rows) =>
      [1, 2, 128].flatMap((columns) => {
        const perRow = 256 - columns;
        return scoreBits((N / 256 - rows / 256) * perRow, (k) => {
          const i = 256 * Math.floor(k / perRow) + (k % perRow);
          return at(i) ^ at(i + columns) ^ at(i + rows) ^ at(i + rows + columns);
        });
      }),
    );
    expect(compareWithBound(scores)).toBeLessThan(1);
  });
});

describe("the hash of the noise", () => {
  const SAMPLES = 4096;
  const samples = keysOf(99, 0, SAMPLES);
  const flipKey = (key: Key, bit: number) => key.map((word, i) => (i === bit >> 5 ? word ^ (1 << (bit & 31)) : word));
  const bits = (count: number) => Array.from({ length: count }, (_, bit) => bit);

  it("flipping any bit of the position or the key flips each bit of a draw half of the time", () => {
    const element = (i: number) => (i * 2_654_435_761) % (i % 2 ? 2 ** 12 : 2 ** 30); // half of them in small arrays
    const positions = bits(30).map((bit) =>
      samples.map((key, i) => drawBitsAt(key, element(i)) ^ drawBitsAt(key, element(i) ^ (1 << bit))),
    );
    const keys = bits(128).map((bit) =>
      samples.map(
        (key, i) => drawBitsAt(key, element(i)) ^ drawBitsAt(flipKey(key, bit) as unknown as Key, element(i)),
      ),
    );
    const scores = [...positions, ...keys].flatMap((changes) => scoreBits(SAMPLES, (i) => changes[i] as number));
    expect(compareWithBound(scores)).toBeLessThan(1);
  });

  it("flipping any bit of the place or the key flips each bit of the three words half of the time", () => {
    const place = (i: number) => (i * 2_654_435_761) % (i % 2 ? 2 ** 10 : 2 ** 31);
    const changes = (a: readonly number[], b: readonly number[]) => a.map((word, k) => word ^ (b[k] as number));
    const places = bits(32).map((bit) =>
      samples.map((key, i) => changes(hashPlace(key, place(i)), hashPlace(key, place(i) ^ (1 << bit)))),
    );
    const keys = bits(128).map((bit) =>
      samples.map((key, i) =>
        changes(hashPlace(key, place(i)), hashPlace(flipKey(key, bit) as unknown as Key, place(i))),
      ),
    );
    const scores = [...places, ...keys].flatMap((rows) =>
      [0, 1, 2].flatMap((word) => scoreBits(SAMPLES, (i) => rows[i]?.[word] as number)),
    );
    expect(compareWithBound(scores)).toBeLessThan(1);
  });
});

describe("arrays of the noise", () => {
  const LENGTH = 4096;
  const steps = [0, 1, 2, 3, 4, 5, 6, 7];
  const arrays = [1, 2].flatMap((seed) =>
    steps.flatMap((step) => keysOf(seed, step, 4).map((key) => drawBits(key, LENGTH))),
  );

  it("equal places of two arrays hold equal halves as often as chance has it, and no equal draws", () => {
    const counts = { high: 0, low: 0, both: 0, trials: 0 };
    for (const [i, x] of arrays.entries())
      for (const y of arrays.slice(0, i)) {
        counts.trials += LENGTH;
        for (let k = 0; k < LENGTH; k++) {
          const difference = ((x[k] as number) ^ (y[k] as number)) >>> 0;
          if (difference < 65_536) counts.high++;
          if ((difference & 0xffff) === 0) counts.low++;
          if (difference === 0) counts.both++;
        }
      }
    const scores = [counts.high, counts.low].map((equal) => scoreCount(equal, counts.trials, 2 ** -16));
    expect(compareWithBound(scores)).toBeLessThan(1);
    expect(counts.both).toBeLessThanOrEqual(1); // 0.0019 are expected: two or more have p = 2e-6
  });

  it("each bit of two arrays agrees half of the time, between steps, layers and seeds", () => {
    const scores = arrays.flatMap((x, i) =>
      arrays.slice(0, i).map((y) => {
        let equal = 0;
        for (let k = 0; k < LENGTH; k++) equal += 32 - countBits((x[k] as number) ^ (y[k] as number));
        return scoreCount(equal, 32 * LENGTH, 0.5);
      }),
    );
    expect(compareWithBound(scores)).toBeLessThan(1);
  });

  it("no array is a shifted copy of another, even of keys that differ by little", () => {
    const key = keysOf(3, 0, 1)[0] as Key;
    const close = [0, 1, 2, 3].flatMap((word) =>
      [-256, -2, -1, 1, 2, 256, 65_536].map((by) => key.map((own, i) => (i === word ? (own + by) | 0 : own))),
    );
    const runs = new Set<string>(); // four draws that follow each other have 128 bits
    let total = 0;
    for (const each of [key, ...close]) {
      const words = drawBits(each as unknown as Key, LENGTH);
      for (let at = 0; at + 4 <= LENGTH; at++, total++) runs.add(words.subarray(at, at + 4).join());
    }
    expect(runs.size).toBe(total);
  });

  function countBits(word: number): number {
    let [set, rest] = [0, word];
    for (; rest !== 0; rest &= rest - 1) set++;
    return set;
  }
});

it("the bounds are those of the distributions of the statistics", () => {
  expect(boundOf(1)).toBeCloseTo(4.8916, 3); // Φ⁻¹(1 − 5e-7)
  expect(boundOf(1000)).toBeCloseTo(6.1094, 3); // Φ⁻¹(1 − 5e-10)
});
