// Text that a model draws from itself: of the asked size, the same for a seed, and with the model's own probabilities.
import { describe, expect, test } from "vitest";
import { type DrawOptions, drawWindows } from "../../../src/inference/generate/draw-windows.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";

const draw = (options: DrawOptions) =>
  opened(MODEL, (checkpoint) => drawWindows(checkpoint, { threads: 1, ...options }));

describe("drawn windows", () => {
  test("are the same for a seed, others for another, and no two alike", async () => {
    const size = { count: 10, length: 12 };
    const [first, again, other] = [
      await draw(size),
      await draw({ ...size, seed: 0 }),
      await draw({ ...size, seed: 1 }),
    ];
    expect(first.map(({ length }) => length)).toEqual(Array(10).fill(12));
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    expect(new Set(first.map(String)).size).toBe(10);
  });

  test("their surprise is the model's entropy: Σ −ln p(token) and Σ entropy differ by chance alone", async () => {
    const length = 64;
    await opened(MODEL, async (checkpoint) => {
      const vocabulary = checkpoint.config.vocab_size;
      let [surprise, entropy, variance] = [0, 0, 0];
      for (const window of await drawWindows(checkpoint, { count: 16, length, threads: 1 })) {
        const logits = await computeLogits(checkpoint, [window], { threads: 1 }); // [length, vocabulary]
        for (let at = 0; at + 1 < length; at++) {
          const row = logits.subarray(at * vocabulary, (at + 1) * vocabulary);
          const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
          const costs = Array.from(row, (logit) => Math.log(sum) - logit); // −ln p
          const mean = costs.reduce((total, cost) => total + Math.exp(-cost) * cost, 0);
          surprise += costs[window[at + 1] as number] as number;
          entropy += mean;
          variance += costs.reduce((total, cost) => total + Math.exp(-cost) * (cost - mean) ** 2, 0);
        }
      }
      // Under the model's own draws the difference has mean 0 and this variance.
      expect(Math.abs(surprise - entropy)).toBeLessThan(4 * Math.sqrt(variance));
      // Draws at another temperature would be off by more: greedy ones by all of the entropy.
      expect(entropy).toBeGreaterThan(20 * Math.sqrt(variance));
    });
  });

  test("stop when they are aborted", async () => {
    const error = await failureOf(() => draw({ count: 1, length: 8, signal: AbortSignal.abort() }));
    expect(error.code).toBe("aborted");
  });
});
