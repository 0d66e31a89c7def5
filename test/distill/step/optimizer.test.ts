// The optimizer: clipping, the two rates, decay on matrices alone, and what a change of phase forgets.
import { describe, expect, it } from "vitest";
import { Optimizer, type OptimizerOptions, scheduleRate } from "../../../src/distill/step/optimizer.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { isNoiseParameter } from "../../../src/model/parameters.ts";

const SPECS = [
  { name: "wte.weight", shape: [3, 2] },
  { name: "h.0.ln_1.weight", shape: [2] },
  { name: "h.0.attn.c_attn.weight", shape: [2, 4] },
  { name: "h.0.attn.c_attn.bias", shape: [4] },
  { name: "h.0.attn.pair", shape: [2, 4, 4] },
  { name: "h.0.attn.noise_mean", shape: [2, 32] },
  { name: "h.0.attn.noise_log_std", shape: [2] },
];

const OPTIONS: OptimizerOptions = {
  names: SPECS.map(({ name }) => name),
  lr: 0.01,
  noiseLr: 0.1,
  steps: 10,
  warmup: 2,
  floor: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 0,
  decay: 0,
  clip: 0,
};

function store(gradient: number): ParameterStore {
  const made = new ParameterStore(SPECS.map((spec) => ({ ...spec, trained: true })));
  for (const { name } of SPECS) {
    made.value(name).fill(1);
    made.slot(name).gradient.fill(gradient);
  }
  return made;
}

/** How far each parameter's first value has moved from 1. */
const moves = (made: ParameterStore) => SPECS.map(({ name }) => 1 - (made.value(name)[0] as number));

describe("the optimizer", () => {
  it("the optimizer moves weights by one rate and noise by another, along the schedule, and returns the weights'", async () => {
    const made = store(3);
    const optimizer = new Optimizer(made, OPTIONS);
    // With the same gradient in every step, AdamW moves by the rate.
    let expected = 0;
    for (let step = 0; step < 10; step++) {
      const rate = scheduleRate(step, { peak: 0.01, steps: 10, warmup: 2, floor: 0.1 });
      expect(await optimizer.update(step, await optimizer.norm())).toBe(rate);
      expected += rate;
      for (const [i, moved] of moves(made).entries())
        expect(moved).toBeCloseTo(isNoiseParameter(SPECS[i]?.name as string) ? 10 * expected : expected, 5);
    }
  });

  it("the optimizer decays matrices alone, by lr · decay of their values", async () => {
    const made = store(0);
    const optimizer = new Optimizer(made, { ...OPTIONS, epsilon: 1e-8, decay: 0.5, warmup: 0 });
    await optimizer.update(0, 0);
    const expected = SPECS.map(({ name }) => (/wte|c_attn\.weight|pair/.test(name) ? 0.01 * 0.5 : 0));
    for (const [i, moved] of moves(made).entries()) expect(moved).toBeCloseTo(expected[i] as number, 7);
  });

  it("the optimizer has the norm of all its gradients, which is not finite when one of them is not", async () => {
    const made = store(2);
    const numbers = SPECS.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(await new Optimizer(made, OPTIONS).norm()).toBeCloseTo(2 * Math.sqrt(numbers), 4);
    expect(await new Optimizer(made, { ...OPTIONS, names: ["h.0.attn.noise_log_std"] }).norm()).toBeCloseTo(
      Math.sqrt(8),
      6,
    );
    made.slot("h.0.attn.c_attn.bias").gradient[3] = Number.NaN;
    expect(await new Optimizer(made, OPTIONS).norm()).toBe(Number.NaN);
  });

  it("the optimizer scales gradients to the allowed norm and leaves smaller ones alone", async () => {
    const first = async (clip: number, gradient: number) => {
      const made = store(gradient);
      const optimizer = new Optimizer(made, { ...OPTIONS, clip });
      const norm = await optimizer.norm();
      await optimizer.update(0, norm);
      return { norm, moment: made.slot("wte.weight").moment1[0] as number };
    };
    const { norm, moment } = await first(1, 5);
    expect(norm).toBeGreaterThan(1);
    expect(moment).toBeCloseTo((0.1 * 5) / norm, 6); // (1 − β1)·g·clip/norm
    expect((await first(0, 5)).moment).toBeCloseTo(0.5, 6);
    expect((await first(1e6, 5)).moment).toBeCloseTo(0.5, 6);
  });

  it("the optimizer moves only the parameters it is given, and forgets their moments on reset", async () => {
    const made = store(1);
    const optimizer = new Optimizer(made, { ...OPTIONS, names: ["wte.weight"] });
    await optimizer.update(0, await optimizer.norm());
    expect(moves(made).map((moved) => moved !== 0)).toEqual([true, false, false, false, false, false, false]);
    const { moment1, moment2 } = made.slot("wte.weight");
    expect(moment1[0]).not.toBe(0);
    await optimizer.reset();
    expect([...moment1, ...moment2].every((x) => x === 0)).toBe(true);
  });
});
