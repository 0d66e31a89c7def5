// --average: the weights that are scored and kept are the mean of those after each of the last steps.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { countAveraged } from "../../src/distill/evaluation-plan.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { failureOf } from "../support/failure.ts";
import { opened } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, signalAt, type Workshop, weightsOf, workshop } from "../support/training.ts";

const path = temporaryFolder("average");
/** Two steps of transfer, then six of which the last three are averaged. */
const SETTINGS = { steps: 8, transferSteps: 2, lr: 1e-3, warmup: 0, floor: 1, evalEvery: 99, average: 0.5 };
let shop: Workshop;
let student: string;

beforeAll(async () => {
  shop = await workshop(path);
  student = await shop.student("noise-distance");
});

const distil = (output: string, settings: Partial<TrainSettings> = {}, more: object = {}) =>
  shop.distil(student, { output: path(output), settings: { ...SETTINGS, ...settings }, ...more });

/** The weights after so many steps of the same run. */
async function weightsAt(step: number, name: string): Promise<Float32Array> {
  const output = `until-${step}`;
  await failureOf(() => distil(output, {}, { force: true, ...signalAt(step) }));
  const reader = await openSafetensors(join(`${path(output)}.run`, "checkpoint", "model.safetensors"));
  const values = await reader.readF32(`value/${name}`);
  await reader.close();
  return values;
}

describe("the mean of a store's values", () => {
  it("takes values in one by one, is seen in their place, and leaves frozen ones alone", async () => {
    const specs = ["w", "frozen"].map((name) => ({ name, shape: [5], trained: name === "w" }));
    const store = new ParameterStore(specs, { average: true, accumulate: true });
    store.value("frozen").fill(3);
    for (const [i, x] of [1, 4, 10].entries()) {
      store.value("w").fill(x);
      store.addToAverage(i + 1);
    }
    const seen = await store.withAverage(async () => [store.value("w")[4], store.value("frozen")[4]]);
    expect(seen).toEqual([5, 3]);
    await expect(store.withAverage(() => Promise.reject(new Error("stopped")))).rejects.toThrow("stopped");
    expect([...store.value("w"), ...store.slot("w").average]).toEqual([...Array(5).fill(10), ...Array(5).fill(5)]);
    expect(store.slot("w").total).not.toBe(store.slot("w").gradient);
  });

  it("is of the last share of the steps that train on the loss, and of those of an extension alone", () => {
    const plan = { steps: 100, transferSteps: 20, evalEvery: 10, extendedFrom: 0, average: 0.25 };
    expect([0, 80, 81, 100].map((step) => countAveraged(step, plan))).toEqual([0, 0, 1, 20]);
    expect(countAveraged(100, { ...plan, average: 0 })).toBe(0);
    expect([20, 21, 100].map((step) => countAveraged(step, { ...plan, average: 1 }))).toEqual([0, 1, 80]);
    expect([90, 96, 100].map((step) => countAveraged(step, { ...plan, extendedFrom: 60 }))).toEqual([0, 6, 10]);
  });
});

it("the model that a run writes is the mean of its weights over the last steps, and scores what was reported", async () => {
  const { perplexity } = await distil("averaged");
  const name = "h.1.mlp.c_fc.weight";
  const steps = [await weightsAt(6, name), await weightsAt(7, name)];
  // Without averaging the same run keeps the weights of its last step.
  await distil("last", { average: 0 });
  steps.push(await opened(path("last"), (model) => model.readF32(name)));
  const mean = steps[0]?.map((_, i) => steps.reduce((sum, values) => sum + (values[i] as number), 0) / 3);
  const written = await opened(path("averaged"), (model) => model.readF32(name));
  const worst = written.reduce((most, x, i) => Math.max(most, Math.abs(x - (mean?.[i] as number))), 0);
  const moved = written.reduce((most, x, i) => Math.max(most, Math.abs(x - (steps[2]?.[i] as number))), 0);
  expect(worst).toBeLessThan(1e-7);
  expect(moved).toBeGreaterThan(1e-4);
  expect(metricsOf(path("averaged")).at(-1)).toEqual({
    step: 8,
    eval: { perplexity: perplexity.after, averaged: 3 },
  });
  const tuned = await shop.run("finetune", path("averaged"), { output: path("again"), settings: { steps: 1 } });
  expect(tuned.perplexity.before).toBeCloseTo(perplexity.after, 4);
});

it("a run with a mean resumes after each step, and in an evaluation, as if it had not stopped", SLOW, async () => {
  const settings = { evalEvery: 3 };
  const expected = await distil("straight", settings);
  for (const step of [2, 5, 6, 7]) {
    const options = { saveEvery: 100, ...signalAt(step) };
    await failureOf(() => distil(`stopped-${step}`, settings, options));
    const result = await distil(`stopped-${step}`, settings, { resume: true });
    expect(result.perplexity).toEqual(expected.perplexity);
    expect(weightsOf(path(`stopped-${step}`)).equals(weightsOf(path("straight")))).toBe(true);
    expect(metricsOf(path(`stopped-${step}`))).toEqual(metricsOf(path("straight")));
  }
  const changed = await failureOf(async () => {
    await failureOf(() => distil("changed", settings, signalAt(7)));
    return distil("changed", { ...settings, average: 0.25 }, { resume: true });
  });
  expect(changed.message).toContain("average (0.5 → 0.25)");
  const longer = await distil("straight", { ...settings, steps: 12 }, { resume: true });
  expect(longer.settings).toMatchObject({ average: 0.5, extendedFrom: 8 });
});

it("a finished run of an earlier version, which knew no mean, is extended", async () => {
  await distil("old", { average: 0 });
  const file = join(path("old"), "nfc.json");
  const record = JSON.parse(readFileSync(file, "utf8"));
  delete record.history.at(-1).settings.average;
  writeFileSync(file, JSON.stringify(record));
  const longer = await distil("old", { steps: 10, average: undefined as never }, { resume: true });
  expect(longer.settings).toMatchObject({ average: 0, steps: 10 });
});
