// Sharing out ranks over layers: the least loss, found by trying everything.
import { describe, expect, test } from "vitest";
import { allocateRanks, type RankSpectrum } from "../../../src/convert/attention/ranks.ts";
import { uniform } from "../../numeric/matrices.ts";

const D = 4;

/** A loss that falls ever more slowly. */
function randomSpectrum(random: () => number, parameters = 10): RankSpectrum {
  const parts = Array.from({ length: D }, () => random() ** 2).sort((a, b) => b - a);
  const losses = Float64Array.from({ length: D + 1 }, (_, r) => parts.slice(r).reduce((sum, part) => sum + part, 0));
  return { losses, parameters };
}

const lossOf = (spectra: RankSpectrum[], ranks: number[]) =>
  ranks.reduce((sum, rank, at) => sum + (spectra[at]?.losses[rank] as number), 0);

describe("ranks shared out over layers", () => {
  test.each([3, 5, 7, 12])("a budget of %i ranks gives the least loss of all ways to spend it", (total) => {
    const random = uniform(total);
    const spectra = Array.from({ length: 3 }, () => randomSpectrum(random));
    const ranks = allocateRanks(spectra, 10 * total);
    expect(ranks.reduce((a, b) => a + b)).toBe(total);
    let least = Number.POSITIVE_INFINITY;
    for (let a = 1; a <= D; a++)
      for (let b = 1; b <= D; b++) {
        const c = total - a - b;
        if (c >= 1 && c <= D) least = Math.min(least, lossOf(spectra, [a, b, c]));
      }
    expect(lossOf(spectra, ranks)).toBeCloseTo(least, 12);
  });

  test("each has a rank of at least 1 and at most D, whatever the budget", () => {
    const spectra = [1, 2].map((seed) => randomSpectrum(uniform(seed)));
    expect(allocateRanks(spectra, 0)).toEqual([1, 1]);
    expect(allocateRanks(spectra, 1e9)).toEqual([D, D]);
    expect(allocateRanks([], 100)).toEqual([]);
  });

  test("what costs less for the same gain comes first, and the budget is kept", () => {
    const [dear, cheap] = [randomSpectrum(uniform(3), 20), randomSpectrum(uniform(3), 10)];
    expect(allocateRanks([dear, cheap], 40)).toEqual([1, 2]);
    expect(allocateRanks([dear, cheap], 39)).toEqual([1, 1]);
  });
});
