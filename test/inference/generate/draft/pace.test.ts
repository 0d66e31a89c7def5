// The number of tokens that are drafted at a time: what it follows from, and what is told in the end.
import { describe, expect, it } from "vitest";
import { Pace } from "../../../../src/inference/generate/draft/pace.ts";

interface Costs {
  /** A pass of the draft, and one of the model over `count` tokens, in ms. */
  draft: number;
  model: (count: number) => number;
  /** The choice of a token. */
  choice?: number;
  /** Whether the draft's n-th proposal is kept. */
  keeps: (n: number) => boolean;
}

/** Runs rounds under these costs. Gives the numbers that were drafted. */
function run(pace: Pace, rounds: number, { draft, model, choice = 0, keeps }: Costs): number[] {
  let asked = 0;
  return Array.from({ length: rounds }, (_, round) => {
    const count = pace.next();
    for (let i = 0; i < count; i++) pace.drafted(draft);
    pace.ran(count + 1, round === 0 ? 1000 : model(count + 1));
    let accepted = 0;
    while (accepted < count && keeps(asked++)) accepted += 1;
    pace.finished(count, { ids: Array(accepted + 1).fill(7), accepted, ms: choice * (accepted + 1) });
    return count;
  });
}

describe("tokens drafted at a time", () => {
  it("a good draft is asked for many tokens where a pass over several costs hardly more than over one", () => {
    const costs: Costs = { draft: 0.5, model: (count) => 20 + 0.1 * count, keeps: () => true };
    expect(run(new Pace({ greedy: true }), 31, costs).slice(-10)).toEqual(Array(10).fill(8));
  });

  it("a draft that is never right is put aside, and tried again now and then", () => {
    const counts = run(new Pace({ greedy: true }), 129, { draft: 2, model: () => 10, keeps: () => false });
    expect(counts.slice(0, 8)).toEqual([0, 0, 0, 0, 4, 2, 4, 1]);
    expect(counts.flatMap((count, round) => (round > 16 && count > 0 ? [round] : []))).toEqual([32, 64, 96, 128]);
  });

  it("a good draft is put aside where a pass costs as much for each of its tokens as for one", () => {
    const costs: Costs = { draft: 5, model: (count) => 10 * count, keeps: (n) => n % 10 !== 0 };
    expect(run(new Pace({ greedy: true }), 60, costs).slice(40)).toEqual(Array(20).fill(0));
  });

  it("a draft that is right half the time is asked for few tokens", () => {
    const costs: Costs = { draft: 2, model: (count) => 10 + count, keeps: (n) => n % 2 === 0 };
    const counts = run(new Pace({ greedy: true }), 31, costs).slice(-10);
    for (const count of counts) expect([1, 2]).toContain(count);
  });

  it("a number that was given is kept to, but for the rounds that time the model alone", () => {
    const costs: Costs = { draft: 99, model: () => 1, keeps: () => false };
    const counts = run(new Pace({ fixed: 3, greedy: true }), 66, costs);
    expect(counts.flatMap((count, round) => (count === 0 ? [round] : []))).toEqual([0, 1, 2, 3, 32, 64]);
    expect(new Set(counts)).toEqual(new Set([0, 3]));
  });
});

describe("the summary", () => {
  it("the summary counts the rounds with a draft, and times a token without one, the first pass left out", () => {
    const pace = new Pace({ fixed: 2, greedy: true });
    expect(pace.summary.plainMs).toBeNull();
    run(pace, 7, { draft: 1, model: (count) => (count === 1 ? 8 : 9), choice: 0.5, keeps: (n) => n !== 1 });
    const { plainMs, ...counts } = pace.summary;
    expect(counts).toEqual({ steps: 3, tokens: 8, proposed: 6, accepted: 5 });
    expect(plainMs).toBeCloseTo(8.5, 12);
  });
});
