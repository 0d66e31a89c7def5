// The noise prior against its formula, and its gradient against finite differences.
import { describe, expect, it } from "vitest";
import { NoisePrior } from "../../../src/distill/step/noise-prior.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";

function store(trained = true): ParameterStore {
  const layers = [0, 1].flatMap((n) => [
    { name: `h.${n}.attn.noise_mean`, shape: [2, 3], trained },
    { name: `h.${n}.attn.noise_log_std`, shape: [2], trained },
  ]);
  const made = new ParameterStore([{ name: "wte.weight", shape: [4], trained: true }, ...layers]);
  for (const { name } of layers) made.value(name).set(made.value(name).map((_, i) => Math.sin(i + name.length * 7)));
  return made;
}

/** ½(mean μ² + mean(σ² − 1 − ln σ²)) */
function formula(made: ParameterStore): number {
  const all = (end: string) => made.names.filter((name) => name.endsWith(end)).flatMap((name) => [...made.value(name)]);
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const spread = all("log_std").map((s) => Math.exp(s) ** 2 - 1 - Math.log(Math.exp(s) ** 2));
  return (mean(all("mean").map((mu) => mu * mu)) + mean(spread)) / 2;
}

describe("the noise prior", () => {
  it("the noise prior is KL(N(μ, σ²) ‖ N(0, 1)), with means and deviations averaged apart", () => {
    const made = store();
    expect(new NoisePrior(made).value()).toBeCloseTo(formula(made), 6);
    for (const name of made.names) made.value(name).fill(0);
    expect(new NoisePrior(made).value()).toBe(0);
  });

  it("the noise prior adds its gradient to what is there", () => {
    const made = store();
    const prior = new NoisePrior(made);
    for (const name of made.names) made.slot(name).total.fill(10);
    prior.addGradient(0.5);
    for (const name of made.names.slice(1))
      made.slot(name).total.forEach((total, i) => {
        const values = made.value(name);
        const value = values[i] as number;
        const [up, down] = [2 ** -8, -(2 ** -8)].map((move) => {
          values[i] = value + move;
          return formula(made);
        }) as [number, number];
        values[i] = value;
        expect(total - 10).toBeCloseTo((0.5 * (up - down)) / 2 ** -7, 4);
      });
    expect([...made.slot("wte.weight").total]).toEqual([10, 10, 10, 10]);
  });

  it("the noise prior at a weight of 0 leaves every bit of the gradients alone", () => {
    const made = store();
    for (const name of made.names) made.slot(name).total.fill(-0);
    new NoisePrior(made).addGradient(0);
    for (const name of made.names) for (const total of made.slot(name).total) expect(Object.is(total, -0)).toBe(true);
  });

  it("the noise prior has a value and no gradient for frozen noise, and is 0 for a model without noise", () => {
    const frozen = store(false);
    const prior = new NoisePrior(frozen);
    prior.addGradient(1);
    expect(prior.value()).toBeCloseTo(formula(frozen), 6);
    const plain = new NoisePrior(new ParameterStore([{ name: "wte.weight", shape: [4], trained: true }]));
    plain.addGradient(1);
    expect(plain.value()).toBe(0);
  });
});
