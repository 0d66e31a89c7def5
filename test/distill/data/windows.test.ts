// Batches: windows in a seeded order without a table, labels that follow inputs, and the held-out end.
import { writeFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { TokenCorpus } from "../../../src/distill/data/token-cache.ts";
import { Batches, holdOut, type TokenRange } from "../../../src/distill/data/windows.ts";
import { permuteIndex } from "../../../src/numeric/permutation.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("batches");
const VOCABULARY = 50_000;
const open: TokenCorpus[] = [];
afterAll(async () => {
  for (const corpus of open) await corpus.close();
});

/** A corpus whose id at a position is that position, modulo the vocabulary. */
async function counting(tokens: number): Promise<TokenCorpus> {
  const path = at(`${tokens}.bin`);
  writeFileSync(path, new Uint8Array(Uint16Array.from({ length: tokens }, (_, i) => i % VOCABULARY).buffer));
  const corpus = await TokenCorpus.open([path], null, { vocabulary: VOCABULARY });
  open.push(corpus);
  return corpus;
}

async function range(tokens: number): Promise<TokenRange> {
  return { corpus: await counting(tokens), start: 0, end: tokens };
}

/** The window indices of batches 0 … count − 1. */
async function order(batches: Batches, count: number): Promise<number[]> {
  const result: number[] = [];
  for (let index = 0; index < count; index++) result.push(...(await batches.batch(index)).windows);
  return result;
}

const ascending = (count: number) => Array.from({ length: count }, (_, i) => i);
const sorted = (values: readonly number[]) => [...values].sort((a, b) => a - b);

describe("permutations of windows", () => {
  const integer = fc.integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER });

  it("permuted is a permutation for any size and key", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), integer, fc.nat(), (size, seed, epoch) => {
        const images = ascending(size).map((i) => permuteIndex(i, size, [seed, epoch]));
        expect(sorted(images)).toEqual(ascending(size));
      }),
    );
  });

  it("permuted is a permutation around powers of four, where the network grows", () => {
    for (const size of [3, 4, 5, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 65_536, 65_537]) {
      const images = new Set(ascending(size).map((i) => permuteIndex(i, size, [1, 2])));
      expect(images.size).toBe(size);
      expect(Math.max(...images)).toBe(size - 1);
    }
  });

  it("permuted stays in range without collisions for sizes beyond any table", () => {
    const size = 2 ** 40 + 12_345;
    const images = ascending(20_000).map((i) => permuteIndex(size - 1 - i, size, [7, 0]));
    expect(new Set(images).size).toBe(images.length);
    for (const image of images) expect(Number.isInteger(image) && image >= 0 && image < size).toBe(true);
    const mean = images.reduce((sum, image) => sum + image / size, 0) / images.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / images.length)); // 5 σ
  });

  it("permuted puts every index at every place equally often over the epochs", () => {
    const [size, epochs] = [11, 5500];
    const counts = new Float64Array(size * size);
    for (let epoch = 0; epoch < epochs; epoch++)
      for (let i = 0; i < size; i++) {
        const cell = i * size + permuteIndex(i, size, [1337, epoch]);
        counts[cell] = (counts[cell] as number) + 1;
      }
    const expected = epochs / size;
    const chiSquared = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // (size − 1)² = 100 degrees of freedom for a random permutation: 100 ± 14.
    expect(chiSquared).toBeLessThan(100 + 5 * 14.2);
  });

  it("permuted gives all orders of four about equally often", () => {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 4800; seed++) {
      const images = ascending(4)
        .map((i) => permuteIndex(i, 4, [seed, 0]))
        .join();
      counts.set(images, (counts.get(images) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 200)).toBeLessThan(5 * Math.sqrt(200));
  });
});

describe("batches of windows", () => {
  it("batches show every window once per epoch, in another order for each epoch and each seed", async () => {
    const data = await range(10 * 32 + 5);
    const batches = new Batches(data, { length: 10, batchSize: 4, seed: 1 });
    expect(batches.windowCount).toBe(32);
    const windows = await order(batches, 16);
    const [first, second] = [windows.slice(0, 32), windows.slice(32)];
    expect(sorted(first)).toEqual(ascending(32));
    expect(sorted(second)).toEqual(ascending(32));
    expect(first).not.toEqual(ascending(32));
    expect(second).not.toEqual(first);
    const other = await order(new Batches(data, { length: 10, batchSize: 4, seed: 2 }), 8);
    expect(sorted(other)).toEqual(ascending(32));
    expect(other).not.toEqual(first);
  });

  it("batches continue over the end of an epoch that they do not divide", async () => {
    const batches = new Batches(await range(71), { length: 10, batchSize: 4, seed: 3 });
    expect(batches.windowCount).toBe(7);
    const windows = await order(batches, 7);
    for (let epoch = 0; epoch < 4; epoch++)
      expect(sorted(windows.slice(7 * epoch, 7 * epoch + 7))).toEqual(ascending(7));
  });

  it("a batch may be larger than an epoch", async () => {
    const batches = new Batches(await range(21), { length: 10, batchSize: 5, seed: 3 });
    const { windows } = await batches.batch(0);
    expect(sorted([...windows.slice(0, 2)])).toEqual([0, 1]);
    expect(sorted([...windows.slice(2, 4)])).toEqual([0, 1]);
  });

  it("the labels of a batch are its inputs shifted by one", async () => {
    const corpus = await counting(1000);
    const batches = new Batches({ corpus, start: 300, end: 1000 }, { length: 7, batchSize: 3, seed: 5 });
    for (const index of [0, 1, 33, 1_000_000]) {
      const { inputs, labels, windows } = await batches.batch(index);
      expect([inputs.length, labels.length, windows.length]).toEqual([21, 21, 3]);
      for (const [b, window] of windows.entries())
        for (let t = 0; t < 7; t++) {
          expect(inputs[7 * b + t]).toBe(300 + 7 * window + t);
          expect(labels[7 * b + t]).toBe(300 + 7 * window + t + 1);
        }
    }
  });

  it("batches use the last window that the range holds, and nothing past it", async () => {
    const whole = await range(101);
    expect(new Batches(whole, { length: 10, batchSize: 1, seed: 0 }).windowCount).toBe(10);
    expect(new Batches({ ...whole, end: 100 }, { length: 10, batchSize: 1, seed: 0 }).windowCount).toBe(9);
  });

  it("a batch is the same for the same index, whatever came before", async () => {
    const data = await range(5000);
    const one = new Batches(data, { length: 16, batchSize: 4, seed: 9 });
    await order(one, 40);
    const two = new Batches(data, { length: 16, batchSize: 4, seed: 9 });
    expect(await two.batch(123)).toEqual(await one.batch(123));
  });

  it("batches keep their order from release to release, which resumed runs depend on", async () => {
    const batches = new Batches(await range(101), { length: 10, batchSize: 10, seed: 1337 });
    expect((await order(batches, 2)).join(" ")).toBe("9 5 1 3 4 6 7 2 0 8 6 2 4 3 8 9 1 5 7 0");
  });

  it("batches of a range without a window are refused", async () => {
    const data = await range(10);
    const { code, message } = await failureOf(() => new Batches(data, { length: 10, batchSize: 1, seed: 0 }));
    expect(code).toBe("invalid-file");
    expect(message).toBe(`${at("10.bin")}: 10 tokens, under the 11 that are needed`);
  });
});

describe("the held-out end of a corpus", () => {
  it.each([
    [100_000, 128, 2000, "2 %"],
    [1000, 16, 34, "two windows at least"],
    [4_000_000, 128, 65_536, "no more than 65,536 tokens"],
    [33, 10, 22, "the shortest corpus"],
  ])("the held-out end of %i tokens at length %i has %i: %s", async (tokens, length, expected) => {
    const corpus = await counting(tokens);
    const { train, heldOut } = holdOut(corpus, length);
    expect([train.start, train.end, heldOut.start, heldOut.end]).toEqual([
      0,
      tokens - expected,
      tokens - expected,
      tokens,
    ]);
    expect(new Batches(train, { length, batchSize: 1, seed: 0 }).windowCount).toBeGreaterThanOrEqual(1);
    expect(new Batches(heldOut, { length, batchSize: 1, seed: 0 }).windowCount).toBeGreaterThanOrEqual(2);
  });

  it("a held-out end that leaves nothing to train on is refused", async () => {
    const corpus = await counting(32);
    const { code, message } = await failureOf(() => holdOut(corpus, 10));
    expect(code).toBe("invalid-file");
    expect(message).toBe(`${at("32.bin")}: 32 tokens, under the 33 that are needed`);
  });
});
