// Targets on a plan made of numbers: the step that meets one, and what is said where none does.
import { describe, expect, it } from "vitest";
import { parseTarget } from "../../../src/cli/commands/plan/values.ts";
import type { Plan, PlanMeasurement } from "../../../src/convert/plan/plan-file.ts";
import { listWeakerCuts } from "../../../src/convert/plan/refine.ts";
import { chooseStep, type SizeTarget, type Target, takeStep } from "../../../src/convert/plan/target.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

function model(parameters: number, perplexity: number, q4: number | null = parameters): PlanMeasurement {
  const bytes = { fp32: 4 * parameters, int8: 2 * parameters, q4 };
  return { cuts: {}, parameters, bytes, perplexity, error: 0, kl: 0, klError: 0, seconds: 0 };
}

const text = { files: ["a.txt"], sha256: "0".repeat(64), every: 1, tokens: 1, length: 1 };
const PLAN: Plan = {
  format: "nfc-plan/1",
  tool: { name: "nfc", version: "0" },
  source: { path: "base", files: [], parameters: 1000 },
  calibration: text,
  heldOut: text,
  axes: [],
  floor: 0,
  complete: true,
  // The fourth was measured, and is no step.
  measurements: [model(1000, 50), model(900, 50.2), model(700, 51), model(650, 60), model(500, 55)],
  steps: [1, 2, 4].map((measurement) => ({ axis: "mlp", value: 1, measurement })),
};

const choose = (target: Target) => chooseStep(PLAN, target, "plan.json");

describe("chooseStep", () => {
  it.each([
    ["70%", 2],
    ["95%", 1],
    ["50%", 3],
    ["2800B", 2],
    ["1401B@int8", 2],
    ["1399B@int8", 3],
    ["500B@q4", 3],
    ["+1%", 1],
    ["+2%", 2],
    ["+100%", 3],
  ])("%s takes step %i", (target, step) => {
    expect(choose(parseTarget(target))).toMatchObject({ step });
  });

  it.each([
    ["49%", "49 % of the parameters cannot be met", "the least of plan.json is step 3, 500 parameters, 50 %"],
    ["1kB", "1.0 kB in fp32 cannot be met", "the least of plan.json is step 3, 2.0 kB in fp32"],
    ["+0.1%", "a loss of +0.1 % cannot be met", "the least of plan.json is step 1, +0.4 %"],
    ["4kB", "the source meets 4.0 kB in fp32 already", "ask for less"],
  ])("%s is refused with the least that can be had", (target, message, hint) => {
    expect(() => choose(parseTarget(target))).toThrow(expect.objectContaining({ code: "usage", message, hint }));
  });

  it("an unfinished plan says so", () => {
    const unfinished = { ...PLAN, complete: false };
    const refused = () => chooseStep(unfinished, { kind: "parameters", share: 0.1 }, "plan.json");
    expect(refused).toThrow(expect.objectContaining({ hint: expect.stringContaining("unfinished") }));
  });
});

describe("takeStep", () => {
  it("takes the model of the step, counted from 1", () => {
    expect(takeStep(PLAN, 3, "plan.json").measurement.parameters).toBe(500);
  });

  it.each([0, 4])("there is no step %i", (step) => {
    const refused = () => takeStep(PLAN, step, "plan.json");
    expect(refused).toThrow(expect.objectContaining({ code: "usage", hint: "choose one from 1 to 3" }));
  });
});

describe("parseTarget", () => {
  it.each(["", "70", "0%", "100%", "-5%", "+", "+5", "80MB@fp16", "80MB@", "x%", "+1%%"])("%j is none", (wrong) => {
    expect(() => parseTarget(wrong)).toThrow(/not a target/);
  });
});

describe("listWeakerCuts", () => {
  const config = tinyModelConfig({ heads: 1, width: 64, inner: 1024 });
  const at = (cuts: PlanMeasurement["cuts"], parameters: number) => ({ ...model(parameters, 50), cuts });
  const plan: Plan = {
    ...PLAN,
    measurements: [at({}, 1000), at({ "qk-rank": 32 }, 900), at({ "qk-rank": 32, mlp: 512 }, 500)],
    steps: [
      { axis: "qk-rank", value: 32, measurement: 1 },
      { axis: "mlp", value: 512, measurement: 2 },
    ],
  };
  const weaker = (target: string, step: number) => {
    return listWeakerCuts(plan, parseTarget(target) as SizeTarget, step, config);
  };

  it.each([
    ["from the whole axis", "95%", 1, [{ "qk-rank": 48 }, { "qk-rank": 47 }]],
    ["in blocks of hidden units", "71%", 2, [768, 736].map((mlp) => ({ "qk-rank": 32, mlp }))],
    ["by bytes", "2840B", 2, [768, 736].map((mlp) => ({ "qk-rank": 32, mlp }))],
    ["down to the step, which is known", "54%", 2, [{ "qk-rank": 32, mlp: 544 }]],
    ["where the step is the weakest", "50%", 2, []],
  ])("%s: %s", (_, target, step, expected) => {
    expect(weaker(target, step)).toEqual(expected);
  });

  it("a vocabulary is cut to all tokens that its text uses at the weakest", () => {
    const cut: Plan = {
      ...PLAN,
      axes: [{ name: "vocab", values: [300, 200] }],
      measurements: [at({}, 1000), at({ vocab: 200 }, 500)],
      steps: [{ axis: "vocab", value: 200, measurement: 1 }],
    };
    const large = { ...config, vocab_size: 400 };
    const between = (share: number) => listWeakerCuts(cut, { kind: "parameters", share }, 1, large);
    expect(between(0.95)).toEqual([{ vocab: 300 }, { vocab: 299 }]);
    expect(between(0.6)).toEqual([{ vocab: 240 }, { vocab: 239 }]);
  });

  it("a precision that does not suit a model has no sizes between", () => {
    const [source, ...others] = plan.measurements as [PlanMeasurement, ...PlanMeasurement[]];
    const odd = {
      ...plan,
      measurements: [source, ...others.map((each) => ({ ...each, bytes: { ...each.bytes, q4: null } }))],
    };
    expect(listWeakerCuts(odd, { kind: "bytes", bytes: 700, precision: "q4" }, 2, config)).toEqual([]);
  });
});
