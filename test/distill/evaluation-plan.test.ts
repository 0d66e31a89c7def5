// How often held-out text is scored, and how much of it: never more tokens than the run trains on.
import { describe, expect, it } from "vitest";
import {
  chooseEvalEvery,
  chooseEvalTokens,
  countEvaluationsAfter,
  isEvaluationStep,
} from "../../src/distill/evaluation-plan.ts";

const run = (steps: number, batchSize: number, length: number, accumulate = 1) => ({
  ...{ steps, batchSize, length, accumulate },
});

describe("the default evaluations", () => {
  it.each([
    [run(1000, 8, 512), 100, 65_536],
    [run(1000, 2, 512, 4), 100, 65_536],
    [run(60, 4, 128), 12, 4388],
    [run(20, 2, 128), 20, 1706],
    [run(200, 8, 512), 20, 65_536],
    [run(15, 8, 512), 2, 6144],
    [run(1, 1, 2), 1, 256],
  ])("%o is scored every %i steps on %i tokens", (length, every, tokens) => {
    const evalEvery = chooseEvalEvery(length, undefined);
    expect([evalEvery, chooseEvalTokens({ ...length, evalEvery })]).toEqual([every, tokens]);
  });

  it("the evaluations together score no more tokens than the run trains on, student and teacher before it included", () => {
    for (const steps of [5, 20, 60, 200, 999, 5000])
      for (const batchSize of [1, 2, 4, 16])
        for (const length of [64, 256, 1024]) {
          const size = run(steps, batchSize, length);
          const trained = steps * batchSize * length;
          if (trained < 3 * 256) continue;
          const evalEvery = chooseEvalEvery(size, undefined);
          const evaluations = 2 + countEvaluationsAfter(0, { steps, evalEvery, transferSteps: 0 });
          expect(evaluations * chooseEvalTokens({ ...size, evalEvery })).toBeLessThanOrEqual(trained);
        }
  });

  it("more tokens an evaluation are paid for with fewer evaluations, and the other way round", () => {
    const size = run(60, 4, 128); // 30,720 tokens
    expect(chooseEvalEvery(size, 65_536)).toBe(60);
    expect(chooseEvalEvery(size, 100)).toBe(6);
    expect(chooseEvalTokens({ ...size, evalEvery: 60 })).toBe(10_240);
  });
});

it("the evaluations ahead are counted as they come", () => {
  for (const steps of [1, 7, 10, 12])
    for (const transferSteps of [0, 1, 4, steps])
      for (const evalEvery of [1, 3, 4, 20]) {
        const schedule = { steps, transferSteps: Math.min(steps, transferSteps), evalEvery };
        for (let from = 0; from <= steps; from++) {
          let count = 0;
          for (let step = from + 1; step <= steps; step++) count += isEvaluationStep(step, schedule) ? 1 : 0;
          expect(countEvaluationsAfter(from, schedule), JSON.stringify({ ...schedule, from })).toBe(count);
        }
      }
});
