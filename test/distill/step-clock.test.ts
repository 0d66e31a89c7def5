// The live line of a run.
import { describe, expect, it, vi } from "vitest";
import { formatDuration, StepClock } from "../../src/distill/step-clock.ts";
import { resolveTrainSettings } from "../../src/distill/train-settings.ts";
import type { ProgressEvent } from "../../src/progress.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

describe("the live line of training", () => {
  it("the live line has the loss and its parts, rate, speed, the last score and the time left, from a running mean", () => {
    const now = vi.spyOn(performance, "now");
    const shown: ProgressEvent[] = [];
    const settings = resolveTrainSettings("distill", tinyModelConfig(), { steps: 100 });
    const clock = new StepClock(settings, (event) => shown.push(event));
    const step = (index: number, milliseconds: number) => {
      now.mockReturnValueOnce(0).mockReturnValueOnce(milliseconds);
      clock.start();
      return clock.stop(index, { loss: 4.5678, nll: 4, kl: 0.25 }, 0.00052, 4096);
    };
    expect(step(1, 2000)).toEqual({ seconds: 2, tokens_per_second: 2048 });
    expect(shown[0]).toEqual({
      phase: "distilling",
      done: 1,
      total: 100,
      unit: "steps",
      detail: "loss 4.568  (nll 4.000, kl 0.250)  lr 0.00052  2048 tokens/s  3:18 left",
    });
    clock.evaluated(61.234);
    step(2, 3000); // 0.9 · 2 s + 0.1 · 3 s = 2.1 s a step
    expect(shown[1]?.detail).toBe(
      "loss 4.568  (nll 4.000, kl 0.250)  lr 0.00052  1950 tokens/s  held-out 61.23  3:26 left",
    );
    now.mockRestore();
  });

  it("the live line is optional", () => {
    const clock = new StepClock(resolveTrainSettings("finetune", tinyModelConfig()), undefined);
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
