// The parameter store against AdamW in float64, over several memories, with and without accumulation.
import { describe, expect, it } from "vitest";
import type { AdamWSettings } from "../../../src/distill/step/parameter-state.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";

const SETTINGS: AdamWSettings = {
  lr: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  decay: 0.1,
  step: 1,
  gradientScale: 1,
};

/** A fixed, uneven sequence in ±1 */
const wave = (i: number) => Math.fround(Math.sin(i * 12.9898 + 4.1414) * Math.cos(i * 0.37));

function single(length: number, options = {}): ParameterStore {
  return new ParameterStore([{ name: "w", shape: [length], trained: true }], options);
}

/** AdamW as torch.optim.AdamW documents it, in float64, on one number */
function reference(state: { p: number; m: number; v: number }, gradient: number, s: AdamWSettings): void {
  const g = gradient * s.gradientScale;
  state.p *= 1 - s.lr * s.decay;
  state.m = s.beta1 * state.m + (1 - s.beta1) * g;
  state.v = s.beta2 * state.v + (1 - s.beta2) * g * g;
  const [bias1, bias2] = [1 - s.beta1 ** s.step, 1 - s.beta2 ** s.step];
  state.p -= (s.lr * (state.m / bias1)) / (Math.sqrt(state.v / bias2) + s.epsilon);
}

function largestError(actual: Float32Array, expected: number[]): number {
  const scale = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs((actual[i] as number) - value))) / scale;
}

describe("updating a parameter", () => {
  it.each([1, 2, 3, 4, 7, 64, 1003])("update is AdamW on %i floats over ten steps", (length) => {
    const store = single(length);
    const { value, gradient, moment1, moment2 } = store.slot("w");
    for (let i = 0; i < length; i++) value[i] = wave(i);
    const states = Array.from(value, (p) => ({ p, m: 0, v: 0 }));
    for (let step = 1; step <= 10; step++) {
      const settings = { ...SETTINGS, step, gradientScale: 0.5 + step / 8, lr: 1e-2 / step };
      for (let i = 0; i < length; i++) gradient[i] = wave(i + 1000 * step) * 10 ** ((i % 7) - 4);
      states.forEach((state, i) => {
        reference(state, gradient[i] as number, settings);
      });
      store.update("w", settings);
    }
    const errors = [
      largestError(
        value,
        states.map((state) => state.p),
      ),
      largestError(
        moment1,
        states.map((state) => state.m),
      ),
      largestError(
        moment2,
        states.map((state) => state.v),
      ),
    ];
    expect(Math.max(...errors)).toBeLessThan(5e-7);
    const moved = Math.max(...states.map((state, i) => Math.abs(state.p - wave(i))));
    expect(moved).toBeGreaterThan(1e-2);
  });

  it("update leaves the bits of a value alone without gradient and decay", () => {
    const store = single(1000);
    const { value, moment1, moment2 } = store.slot("w");
    for (let i = 0; i < 1000; i++) value[i] = wave(i) * 10 ** ((i % 70) - 40);
    const before = value.slice();
    for (let step = 1; step <= 3; step++) store.update("w", { ...SETTINGS, decay: 0, step });
    expect(new Uint32Array(value.slice().buffer)).toEqual(new Uint32Array(before.buffer));
    expect([...moment1, ...moment2].every((moment) => moment === 0)).toBe(true);
  });

  it("update keeps a decay of lr · decay = 1e-6, which 1 − 1e-6 in float32 misses by 1.3 %", () => {
    const store = single(20_000);
    const { value } = store.slot("w");
    for (let i = 0; i < value.length; i++) value[i] = 0.25 * 16 ** (i / value.length);
    const before = value.slice();
    store.update("w", { ...SETTINGS, lr: 1e-4, decay: 1e-2 });
    const shrink = before.reduce((sum, p, i) => sum + (1 - (value[i] as number) / p), 0) / value.length;
    expect(Math.abs(shrink / 1e-6 - 1)).toBeLessThan(3e-3);
  });

  it("update shows a NaN gradient and sets subnormal moments to zero", () => {
    const store = single(4);
    const { value, gradient, moment1, moment2 } = store.slot("w");
    value.fill(1);
    gradient.set([Number.NaN, 0, 0, 0]);
    moment1.set([0, 1e-40, 1e-37, 0]);
    moment2.set([0, 1e-40, 1e-37, 0]);
    store.update("w", { ...SETTINGS, decay: 0 });
    expect([value[0], moment1[0], moment2[0]]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    expect([moment1[1], moment2[1]]).toEqual([0, 0]);
    expect((moment1[2] as number) / 0.9e-37).toBeCloseTo(1, 5);
    expect((moment2[2] as number) / 0.95e-37).toBeCloseTo(1, 5);
  });

  it("update gives the same bits every time, whatever memory the parameter lies in", () => {
    const run = (bankBytes?: number) => {
      const specs = ["a", "b", "c"].map((name) => ({ name, shape: [37, 11], trained: true }));
      const store = new ParameterStore(specs, bankBytes === undefined ? {} : { bankBytes });
      for (let step = 1; step <= 4; step++) {
        for (const [k, name] of store.trained.entries()) {
          store.slot(name).gradient.forEach((_, i, gradient) => {
            gradient[i] = wave(i + step * 500 + k);
          });
        }
        const gradientScale = 1 / store.gradientNorm(store.trained);
        for (const name of store.trained) store.update(name, { ...SETTINGS, step, gradientScale });
      }
      return store.names.map((name) => store.value(name).slice());
    };
    expect(run()).toEqual(run());
    expect(run(8192)).toEqual(run());
  });

  it("update refuses a frozen and an unknown parameter", () => {
    const store = new ParameterStore([{ name: "w", shape: [2], trained: false }]);
    expect(() => store.update("w", SETTINGS)).toThrow("w is frozen");
    expect(() => store.slot("x")).toThrow("no parameter x");
  });
});

describe("the parameter store", () => {
  const specs = [
    { name: "wte.weight", shape: [5, 3], trained: true },
    { name: "ln_f.weight", shape: [3], trained: false },
    { name: "h.0.mlp.c_fc.weight", shape: [70, 30], trained: true },
  ];

  it("the store holds zeros in the shapes, only a value for frozen parameters, and every parameter in one memory", () => {
    const store = new ParameterStore(specs, { bankBytes: 34_000 });
    expect(store.names).toEqual(specs.map((spec) => spec.name));
    expect(store.trained).toEqual(["wte.weight", "h.0.mlp.c_fc.weight"]);
    for (const { name, shape, trained } of specs) {
      const slot = store.slot(name);
      const size = shape.reduce((a, b) => a * b, 1);
      expect([slot.name, slot.shape]).toEqual([name, shape]);
      expect(slot.value).toEqual(new Float32Array(size));
      for (const array of [slot.gradient, slot.moment1, slot.moment2]) {
        expect(array).toEqual(new Float32Array(trained ? size : 0));
        expect(array.buffer).toBe(slot.value.buffer);
      }
      expect(slot.total).toBe(slot.gradient);
      expect(store.value(name)).toBe(slot.value);
    }
    expect(store.value("wte.weight").buffer).toBe(store.value("ln_f.weight").buffer);
    expect(store.value("h.0.mlp.c_fc.weight").buffer).not.toBe(store.value("ln_f.weight").buffer);
    store.value("ln_f.weight").fill(2);
    expect(store.slot("wte.weight").moment2).toEqual(new Float32Array(15));
  });

  it("the store takes the norm over several memories", () => {
    const store = new ParameterStore(specs, { bankBytes: 34_000 });
    store.slot("wte.weight").gradient.fill(2);
    store.slot("h.0.mlp.c_fc.weight").gradient.fill(-0.5);
    expect(store.gradientNorm(store.trained)).toBeCloseTo(Math.sqrt(15 * 4 + 2100 / 4), 12);
    expect(store.gradientNorm(["wte.weight"])).toBe(Math.sqrt(60));
    expect(store.gradientNorm(["ln_f.weight"])).toBe(0);
    expect(store.gradientNorm([])).toBe(0);
  });

  it("the store refuses a parameter that no memory holds", () => {
    expect(() => new ParameterStore(specs, { bankBytes: 33_000 })).toThrow(
      expect.objectContaining({ code: "unsupported", message: expect.stringContaining("h.0.mlp.c_fc.weight") }),
    );
  });

  it("the store adds rows in order, repeated ones too", () => {
    const store = new ParameterStore(specs);
    const { gradient } = store.slot("wte.weight");
    gradient.fill(1);
    store.addRows("wte.weight", Float32Array.of(1, 2, 3, 10, 20, 30, 100, 200, 300), Int32Array.of(4, 0, 4));
    expect([...gradient]).toEqual([11, 21, 31, 1, 1, 1, 1, 1, 1, 1, 1, 1, 102, 203, 304]);
  });
});

describe("accumulating gradients", () => {
  it("accumulation sums gradients into totals, which norm and update take", () => {
    const store = single(5, { accumulate: true });
    const plain = single(5);
    const { gradient, total } = store.slot("w");
    expect(total.buffer).toBe(gradient.buffer);
    total.fill(9);
    store.clearTotals();
    for (const factor of [1, 2, 4]) {
      gradient.set([1, -1, 2, 0.5, 3].map((x) => x * factor));
      store.accumulate(["w"]);
    }
    expect([...total]).toEqual([7, -7, 14, 3.5, 21]);
    plain.slot("w").gradient.set(total);
    expect(store.gradientNorm(["w"])).toBe(plain.gradientNorm(["w"]));
    for (const each of [store, plain]) each.update("w", { ...SETTINGS, gradientScale: 1 / 3 });
    expect(store.value("w")).toEqual(plain.value("w"));
    expect(store.value("w")[0]).toBeLessThan(0);
  });

  it("accumulation has nothing to do where the gradient is the total", () => {
    const store = single(3);
    store.slot("w").gradient.fill(2);
    store.accumulate(["w"]);
    store.clearTotals();
    expect([...store.slot("w").total]).toEqual([2, 2, 2]);
  });
});
