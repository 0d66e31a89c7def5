// The lines of a run: a step's, an evaluation's, and the time left, which counts both.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { StepClock } from "../../src/distill/step-clock.ts";
import { estimateCosts, TimeLeft } from "../../src/distill/time-left.ts";
import { resolveTrainSettings, type TrainSettings } from "../../src/distill/train-settings.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import type { ProgressEvent } from "../../src/progress.ts";
import { formatDuration } from "../../src/report/render/format.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const STUDENT = tinyModelConfig({ variant: "symmetric" });
const TEACHER = tinyModelConfig();
/** 4 steps of transfer, 6 of training, evaluations after steps 6, 9 and 10. */
const GIVEN: Partial<TrainSettings> = { steps: 10, transferSteps: 4, evalEvery: 3, batchSize: 2, evalTokens: 512 };

function makeClock(given: Partial<TrainSettings> = {}, costs = { transfer: 1, train: 2, evaluation: 5 }) {
  const settings = resolveTrainSettings("distill", STUDENT, { ...GIVEN, ...given }, TEACHER);
  const shown: ProgressEvent[] = [];
  const clock = new StepClock(settings, new TimeLeft(settings, costs), (event) => shown.push(event));
  const takeStep = (step: number, seconds: number) => {
    clock.start();
    vi.advanceTimersByTime(1000 * seconds);
    return clock.stop(step, { loss: 4.5678, nll: 4, kl: 0.25 }, 0.00052, 4096);
  };
  const evaluate = (step: number | null, seconds: number) =>
    clock.evaluate(step, step === null ? "the model" : `step ${step}`, async (show) => {
      show?.({ phase: "scoring", done: 128, total: 512, unit: "tokens" });
      vi.advanceTimersByTime(1000 * seconds);
      return 61.234;
    });
  const left = () => /[\d:]+ left/.exec(shown.at(-1)?.detail ?? "")?.[0];
  return { clock, shown, takeStep, evaluate, left };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("the live line of training", () => {
  it("the line of a step has the loss and its parts, rate, speed, the last score and the time left", async () => {
    const { shown, takeStep, evaluate } = makeClock({ transferSteps: 0, evalEvery: 10 });
    expect(takeStep(1, 2)).toEqual({ seconds: 2, tokens_per_second: 2048 });
    expect(shown[0]).toEqual({
      phase: "distilling",
      done: 1,
      total: 10,
      unit: "steps",
      detail: "loss 4.568  (nll 4.000, kl 0.250)  lr 0.00052  2048 tokens/s  0:23 left", // 9 · 2 s, 5 s at the end
    });
    await evaluate(2, 1);
    takeStep(2, 3); // 2.5 s a step now, and 1 s for the evaluation at the end
    expect(shown.at(-1)?.detail).toBe(
      "loss 4.568  (nll 4.000, kl 0.250)  lr 0.00052  1638 tokens/s  held-out 61.23  0:21 left",
    );
  });

  it("the time left counts steps of both phases and the evaluations between them", async () => {
    const { takeStep, evaluate, left } = makeClock();
    await evaluate(null, 10);
    takeStep(1, 1); // 3 · 1 s of transfer, 6 of training, each twice as much, and 3 evaluations
    expect(left()).toBe("0:45 left");
    for (const step of [2, 3, 4]) takeStep(step, 1);
    takeStep(5, 4); // a step of training was measured: 5 · 4 s, 3 evaluations
    expect(left()).toBe("0:50 left");
    takeStep(6, 4);
    expect(left()).toBe("0:46 left");
    await evaluate(6, 10); // its line: three quarters of this one, 4 steps, 2 more evaluations
    expect(left()).toBe("0:44 left");
    for (const step of [7, 8, 9, 10]) takeStep(step, 4);
    expect(left()).toBe("0:10 left");
  });

  it("the line of an evaluation says how much of the text is scored", async () => {
    const { shown, evaluate } = makeClock();
    expect(await evaluate(null, 1)).toBe(61.234);
    await evaluate(6, 1);
    const [loading, scoring] = [
      { done: 0, total: null, brief: true },
      { done: 128, total: 512 },
    ];
    expect(shown).toEqual([
      { phase: "evaluating", ...loading, unit: "tokens", detail: "the model:" },
      { phase: "evaluating", ...scoring, unit: "tokens", detail: "the model:" },
      { phase: "evaluating", ...loading, unit: "tokens", detail: "step 6, 0:05 left:" },
      { phase: "evaluating", ...scoring, unit: "tokens", detail: "step 6, 0:04 left:" },
    ]);
  });

  it("the live line is optional", () => {
    const settings = resolveTrainSettings("finetune", tinyModelConfig());
    const costs = estimateCosts(settings, { student: TEACHER, teacher: null, evalTokens: 10 });
    const clock = new StepClock(settings, new TimeLeft(settings, costs), undefined);
    clock.start();
    expect(clock.stop(1, { loss: 1 }, 1, 1).seconds).toBeGreaterThanOrEqual(0);
  });

  it.each([
    [0, "0:00"],
    [-3, "0:00"],
    [59.4, "0:59"],
    [59.6, "1:00"],
    [3599, "59:59"],
    [3600, "1:00:00"],
    [90061, "25:01:01"],
  ])("the time left of %f seconds is shown as %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});

it("a step costs about four times its tokens' way forward with a teacher, three times without one", () => {
  const settings = resolveTrainSettings("distill", STUDENT, GIVEN, TEACHER);
  const evalTokens = settings.batchSize * settings.length;
  const taught = estimateCosts(settings, { student: TEACHER, teacher: TEACHER, evalTokens });
  const alone = estimateCosts(settings, { student: TEACHER, teacher: null, evalTokens });
  expect(taught.train / taught.evaluation).toBeCloseTo(4, 5);
  expect(alone.train / alone.evaluation).toBeCloseTo(3, 5);
  expect(taught.transfer).toBeLessThan(taught.train);
});

it("narrow heads and a narrow MLP cost less, and a form of every head a little more", () => {
  const settings = resolveTrainSettings("distill", STUDENT, GIVEN, TEACHER);
  const cost = (config: Partial<ModelConfig>) =>
    estimateCosts(settings, { student: { ...TEACHER, ...config }, teacher: TEACHER, evalTokens: 512 });
  const dense = cost({});
  const narrow = cost({ variant: "low-rank", qk_ranks: [1, 1] });
  expect(narrow.transfer).toBeLessThan(dense.transfer);
  expect(narrow.train).toBeLessThan(dense.train);
  expect(cost({ vo_ranks: [1, 1], variant: "low-rank" }).evaluation).toBeLessThan(dense.evaluation);
  expect(cost({ n_inner: 4 }).train).toBeLessThan(dense.train);
  expect(cost({ variant: "pairwise" }).train).toBeGreaterThan(cost({ variant: "symmetric" }).train);
});
