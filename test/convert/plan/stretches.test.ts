// Losses summed over the windows of the source, where a model has other tokens and other windows.
import { describe, expect, it } from "vitest";
import { StretchSums } from "../../../src/convert/plan/stretches.ts";

const window = (nll: number[], against = nll.map(() => 0), kl = against) => ({
  nll: Float32Array.from(nll),
  nll_against: Float32Array.from(against),
  kl: Float32Array.from(kl),
});

describe("StretchSums", () => {
  it("has the means of the windows where all tokens are the source's", () => {
    const sums = new StretchSums({ ids: [], places: [0, 1, 2, 3, 4, 5, 6] }, { count: 7, length: 3 });
    sums.add(window([1, 3], [2, 2], [0.5, 0.25]));
    sums.add(window([5, 6]));
    expect(sums.list()).toEqual([
      { weight: 2, nll: 2, against: 2, kl: 0.375 },
      { weight: 2, nll: 5.5, against: 0, kl: 0 },
    ]); // a last window of one token has no prediction
  });

  it("gives each token to the stretch of its bytes, and counts its nats for a token of the source", () => {
    // Six tokens of the source in windows of three; the second is two of the model, the fifth three.
    const places = [0, 1, 1, 2, 3, 4, 4, 4, 5];
    const sums = new StretchSums({ ids: [], places }, { count: 6, length: 3 });
    sums.add(window([1, 2])); // tokens 1, 2
    sums.add(window([4, 8])); // tokens 4, 5: token 3 is a window's first
    sums.add(window([16, 32])); // tokens 7, 8
    const [first, second] = sums.list();
    expect(first?.nll).toBeCloseTo(((1 + 2) / 2) * (4 / 3), 12);
    expect(second?.nll).toBeCloseTo(((4 + 8 + 16 + 32) / 4) * (5 / 3), 12);
    expect([first?.weight, second?.weight]).toEqual([2, 2]);
  });
});
