// A finished run that is extended: schedule, weights, metrics and record, interruption, and what is refused.
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it, vi } from "vitest";
import { RunFolder } from "../../src/distill/run-folder.ts";
import { scheduleRate } from "../../src/distill/step/optimizer.ts";
import { type TrainOptions, train } from "../../src/distill/train.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { failureOf } from "../support/failure.ts";
import { digest, opened } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, signalAt, type Workshop, weightsOf, workshop, writeIds } from "../support/training.ts";

const path = temporaryFolder("extension");
const FIRST = { steps: 8, transferSteps: 2, evalEvery: 2, warmup: 1, lr: 2e-3 };
let shop: Workshop;
let student: string;

beforeAll(async () => {
  shop = await workshop(path);
  student = await shop.student("noise-distance");
  await shop.distil(student, { output: path("first"), settings: FIRST });
});

/** A copy of the finished run under a name of its own. */
function finished(name: string): string {
  cpSync(path("first"), path(name), { recursive: true });
  return path(name);
}

const extend = (output: string, settings: Partial<TrainSettings>, more: Partial<TrainOptions> = {}) =>
  opened(shop.base, (teacher) =>
    opened(student, (model) => {
      const own = { data: [shop.data], cache: path("cache"), session: { threads: 1 }, resume: true };
      return train(model, { ...own, output, teacher, settings, ...more });
    }),
  );

it("an extended run goes on from the weights that were kept, with a schedule of its own", async () => {
  const output = finished("extended");
  const result = await extend(output, { steps: 14, evalEvery: 3 });
  expect(result).toMatchObject({ resumedFrom: 8, tokens: 14 * 64 });
  const { lr, batchSize, transferSteps, extendedFrom, steps, warmup } = result.settings;
  expect({ lr, batchSize, transferSteps, extendedFrom, steps, warmup }).toEqual({
    ...{ lr: 2e-3, batchSize: 4, transferSteps: 2, extendedFrom: 8, steps: 14, warmup: 0 },
  });
  const lines = metricsOf(output).filter(({ phase }) => phase);
  expect(lines.slice(0, 8)).toEqual(metricsOf(path("first")).filter(({ phase }) => phase));
  const rates = Array.from({ length: 6 }, (_, i) => scheduleRate(i, { peak: 2e-3, steps: 6, warmup: 0, floor: 0.05 }));
  expect(lines.slice(8).map((line) => [line.step, line.phase, line.lr])).toEqual(
    rates.map((rate, i) => [9 + i, "train", rate]),
  );
  const before = JSON.parse(readFileSync(path("first", "nfc.json"), "utf8"));
  const { history } = result.record;
  expect(history.slice(0, -1)).toEqual(before.history);
  expect(history.at(-1)).toMatchObject({ step: "distill", tokens: 14 * 64, settings: { steps: 14, extendedFrom: 8 } });
  // The weights that were kept before stay where none are better.
  const old = before.history.at(-1);
  expect(result.perplexity.after).toBeLessThanOrEqual(old.best.perplexity);
  expect(result.perplexity).toMatchObject({
    before: old.held_out.perplexity.before,
    teacher: old.held_out.perplexity.teacher,
  });
  expect(existsSync(`${output}.run`)).toBe(false);
  const longer = await extend(output, { steps: 16 });
  expect([longer.resumedFrom, longer.settings.extendedFrom]).toEqual([14, 14]);
  expect(longer.record.history.length).toBe(history.length + 1);
});

it("an extension that makes nothing better keeps the weights that were there", async () => {
  const output = path("no-better");
  // At this rate the weights move far, and no later model is better.
  const { best } = await shop.distil(student, { output, settings: { ...FIRST, evalEvery: 4, lr: 3e-2 } });
  const kept = weightsOf(output);
  const result = await extend(output, { steps: 10, evalEvery: 1 });
  expect(result.tokens).toBe(10 * 64);
  expect(result.best).toEqual(best);
  expect(weightsOf(output).equals(kept)).toBe(true);
});

it("an extension that is interrupted at any step ends with the bytes of one that was not", async () => {
  const straight = finished("straight");
  await extend(straight, { steps: 13 });
  const stopped = finished("stopped");
  for (let step = 9; step < 13; step++) {
    const failure = await failureOf(() => extend(stopped, { steps: 13 }, signalAt(step)));
    expect(failure.message).toBe(`interrupted; step ${step} of 13 is saved in ${stopped}.run`);
    expect(weightsOf(stopped).equals(weightsOf(path("first")))).toBe(true);
  }
  // The number of steps is known to the run by now.
  expect((await extend(stopped, {})).resumedFrom).toBe(12);
  expect(weightsOf(stopped).equals(weightsOf(straight))).toBe(true);
  expect(metricsOf(stopped)).toEqual(metricsOf(straight));
  const history = (output: string) => JSON.parse(readFileSync(join(output, "nfc.json"), "utf8")).history;
  expect(history(stopped)).toEqual(history(straight));
});

it("an extension that is killed as it begins, or when its output was in place, ends well", async () => {
  const straight = finished("unkilled");
  await extend(straight, { steps: 11 });
  const output = finished("killed");
  const fault = (method: "save" | "remove") =>
    vi.spyOn(RunFolder.prototype, method).mockRejectedValueOnce(new Error("killed"));
  const save = fault("save");
  await expect(extend(output, { steps: 11 })).rejects.toThrow("killed");
  save.mockRestore();
  renameSync(output, `${output}-moved`);
  const gone = await failureOf(() => extend(output, {}));
  expect(gone.message).toBe(`${output}.run: the finished run that this one extends is not there any more`);
  renameSync(`${output}-moved`, output);
  expect(readdirSync(`${output}.run`)).toContain("run.json");
  const remove = fault("remove");
  await expect(extend(output, { steps: 11 })).rejects.toThrow("killed");
  remove.mockRestore();
  const { record } = await extend(output, { steps: 11 });
  expect(record.history.map(({ step }) => step)).toEqual(["pretrain", "convert", "distill", "distill"]);
  expect(weightsOf(output).equals(weightsOf(straight))).toBe(true);
  expect(metricsOf(output)).toEqual(metricsOf(straight));
});

it.each<[string, Partial<TrainSettings>, boolean, RegExp]>([
  ["no more steps", {}, false, /its run has ended with 8 steps, 8 are asked for$/],
  ["as many steps", { steps: 8 }, false, /its run has ended with 8 steps, 8 are asked for$/],
  ["fewer steps", { steps: 5 }, false, /its run has ended with 8 steps, 5 are asked for$/],
  [
    "another rate and seed",
    { steps: 12, lr: 1e-4, seed: 3 },
    false,
    /its run had other settings: seed \(0 → 3\), lr \(0.002 → 0.0001\)$/,
  ],
  ["other data", { steps: 12 }, true, /its run had other settings: data \(/],
])("an extension with %s is refused, and nothing changes", async (_, settings, more, message) => {
  const output = finished("refused");
  const before = digest(output);
  const data = more ? { data: [writeIds(path("longer.bin"), 3001)] } : {};
  const failure = await failureOf(() => extend(output, settings, data));
  expect(failure.message).toMatch(message);
  expect(digest(output)).toEqual(before);
  expect(existsSync(`${output}.run`)).toBe(false);
  rmSync(output, { recursive: true });
});

it("a model that no run of this kind made cannot be extended", async () => {
  const none = await failureOf(() => extend(path("nothing"), { steps: 12 }));
  expect(none.message).toContain("there is no run to go on with");
  const converted = path("converted");
  cpSync(student, converted, { recursive: true });
  expect((await failureOf(() => extend(converted, { steps: 12 }))).code).toBe("exists");
  const old = finished("old");
  const record = JSON.parse(readFileSync(join(old, "nfc.json"), "utf8"));
  delete record.history.at(-1).inputs;
  writeFileSync(join(old, "nfc.json"), JSON.stringify(record));
  const failure = await failureOf(() => extend(old, { steps: 12 }));
  expect(failure.message).toMatch(/nfc\.json: inputs: /);
  expect(failure.hint).toMatch(/^its run cannot be extended/);
});
