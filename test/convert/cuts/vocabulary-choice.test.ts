// Which tokens a smaller vocabulary keeps: those that are used, what they are merged of, and the most useful ones.
import { describe, expect, it } from "vitest";
import { chooseTokens } from "../../../src/convert/cuts/vocabulary-choice.ts";

/** Characters 0 to 4; 5 = 0+1, 6 = 5+2, 7 = 3+4, 8 = 6+7. */
const use = (counts: Record<number, number>) => ({
  counts: new Map(Object.entries(counts).map(([id, count]): [number, number] => [Number(id), count])),
  parts: new Map<number, readonly [number, number]>([
    [5, [0, 1]],
    [6, [5, 2]],
    [7, [3, 4]],
    [8, [6, 7]],
  ]),
  base: [0, 1, 2, 3, 4],
  lengthOf: () => 1,
});
const BASE = new Set([0, 1, 2, 3, 4]);
const sorted = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b);

describe("choosing tokens", () => {
  it("keeps what is used and all that it is merged of, and nothing else", () => {
    expect(sorted(chooseTokens(use({ 6: 1 }), BASE, 99))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it("drops the token without which the text gets longer by the fewest tokens, and never a part of a kept one", () => {
    const counts = { 5: 1, 6: 20, 7: 30, 8: 10 };
    expect(sorted(chooseTokens(use(counts), BASE, 8))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    // Once 8 is gone, 6 and 7 occur ten times more; 5 is part of 6, and stays as long as it.
    expect(sorted(chooseTokens(use(counts), BASE, 7))).toEqual([0, 1, 2, 3, 4, 5, 7]);
    expect(sorted(chooseTokens(use(counts), BASE, 6))).toEqual([0, 1, 2, 3, 4, 7]);
    expect(sorted(chooseTokens(use(counts), BASE, 5))).toEqual([0, 1, 2, 3, 4]);
  });

  it("keeps a required token and its parts, whatever the text", () => {
    expect(sorted(chooseTokens(use({ 7: 99 }), new Set([...BASE, 6]), 7))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});
