// Merges in a table, by a scan of short words and a heap of long ones, against the rule itself.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Merges } from "../../../src/checkpoint/encoding/merges.ts";

type Pair = [left: number, right: number, id: number];

/** Merges the first of the pairs of the lowest rank until there is none: the rule, in quadratic time. */
function mergeByRule(symbols: readonly number[], pairs: readonly Pair[]): number[] {
  const ids = [...symbols];
  for (;;) {
    let best = -1;
    let lowest = Number.POSITIVE_INFINITY;
    for (let i = 0; i + 1 < ids.length; i++) {
      const rank = pairs.findLastIndex(([left, right]) => left === ids[i] && right === ids[i + 1]);
      if (rank >= 0 && rank < lowest) [best, lowest] = [i, rank];
    }
    if (best < 0) return ids;
    ids.splice(best, 2, (pairs[lowest] as Pair)[2]);
  }
}

function makeMerges(pairs: readonly Pair[]): Merges {
  const merges = new Merges(pairs.length);
  for (const [rank, [left, right, id]] of pairs.entries()) merges.add(left, right, rank, id);
  return merges;
}

const id = fc.integer({ min: 0, max: 8 });
const pair = fc.tuple(id, id, id);

describe("merges", () => {
  test("words of any length merge by the rule, pairs that come twice among them", () => {
    fc.assert(
      fc.property(fc.array(pair, { maxLength: 20 }), fc.array(id, { minLength: 2, maxLength: 140 }), (pairs, word) => {
        const seen: Pair[] = [];
        const merged = makeMerges(pairs).merge(word, (...one) => seen.push(one));
        expect(merged).toEqual(mergeByRule(word, pairs));
        expect(seen).toHaveLength(word.length - merged.length);
      }),
      { numRuns: 1500 },
    );
  });

  test("a word of a million equal symbols merges in time that does not grow with its square", () => {
    const merges = makeMerges(Array.from({ length: 12 }, (_, i) => [i, i, i + 1]));
    const word = new Array<number>(2 ** 20).fill(0);
    expect(merges.merge(word)).toEqual(new Array(2 ** 8).fill(12));
  });

  test("all pairs are listed", () => {
    const pairs: Pair[] = Array.from({ length: 1000 }, (_, i) => [i * 7919, 16_000_000 - i, i]);
    const listed = [...makeMerges(pairs).listPairs()].sort(([a], [b]) => a - b);
    expect(listed).toEqual(pairs.map(([left, right]) => [left, right]));
  });
});
