// Warmup and cosine at their ends and in between; which GPT-2 parameters decay.
import { describe, expect, it } from "vitest";
import { scheduleRate } from "../../../src/distill/step/optimizer.ts";
import { isDecayed } from "../../../src/distill/step/parameter-state.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

describe("learningRate", () => {
  const schedule = { peak: 2e-3, steps: 101, warmup: 20, floor: 0.05 };

  it("the learning rate rises linearly, then follows half a cosine to the floor at the last step", () => {
    expect(scheduleRate(0, schedule)).toBeCloseTo(1e-4, 15);
    expect(scheduleRate(9, schedule)).toBeCloseTo(1e-3, 15);
    expect(scheduleRate(19, schedule)).toBe(2e-3);
    expect(scheduleRate(20, schedule)).toBe(2e-3);
    expect(scheduleRate(40, schedule)).toBeCloseTo(2e-3 * (0.05 + (0.95 * (1 + Math.SQRT1_2)) / 2), 15);
    expect(scheduleRate(60, schedule)).toBeCloseTo(2e-3 * 0.525, 15);
    expect(scheduleRate(100, schedule)).toBeCloseTo(1e-4, 15);
    expect(scheduleRate(500, schedule)).toBeCloseTo(1e-4, 15);
  });

  it("the learning rate begins at the peak without warmup and is finite in the shortest runs", () => {
    expect(scheduleRate(0, { ...schedule, warmup: 0 })).toBe(2e-3);
    expect(scheduleRate(0, { peak: 1, steps: 1, warmup: 0, floor: 0.05 })).toBe(1);
    expect(scheduleRate(1, { peak: 1, steps: 2, warmup: 2, floor: 0.05 })).toBe(1);
    expect([0, 1].map((step) => scheduleRate(step, { peak: 1, steps: 2, warmup: 4, floor: 0.05 }))).toEqual([
      0.25, 0.5,
    ]);
  });
});

describe("weight decay", () => {
  it.each(["dense", "noise-shared", "noise-distance"] as const)(
    "weight decay applies to the matrices of %s and to nothing else",
    (variant) => {
      const specs = listParameters(tinyModelConfig({ variant }));
      const names = specs.filter(({ name, shape }) => isDecayed(name, shape)).map(({ name }) => name);
      const layers = [...new Set(specs.flatMap(({ layer }) => (layer === null ? [] : [layer])))];
      const matrices = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];
      expect(names).toEqual([
        "wte.weight",
        "wpe.weight",
        ...layers.flatMap((layer) => matrices.map((matrix) => `h.${layer}.${matrix}.weight`)),
      ]);
    },
  );
});
