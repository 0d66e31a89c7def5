// A finished run on a task that is extended to more epochs: schedule, interruption, and what is refused.
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import type { ProgressEvent } from "../../../src/progress.ts";
import { findTask } from "../../../src/tasks/glue-tasks.ts";
import { dryRunTask } from "../../../src/tasks/train/dry-run-task.ts";
import { type FinetuneTaskOptions, finetuneTask } from "../../../src/tasks/train/finetune-task.ts";
import { failureOf } from "../../support/failure.ts";
import { digest, MODEL, opened } from "../../support/fixture.ts";
import { writeSst2 } from "../../support/task-data.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { metricsOf, weightsOf } from "../../support/training.ts";

const path = temporaryFolder("extend-task");
const data = writeSst2(path("SST-2"));
const FIRST = { epochs: 2, lr: 1e-3, batchSize: 16, length: 24, evalEvery: 5, seed: 4 };

const options = (output: string, more: Partial<FinetuneTaskOptions>): FinetuneTaskOptions => ({
  ...{ output, task: findTask("sst2"), data, session: { threads: 1 } },
  ...more,
});
const tune = (output: string, more: Partial<FinetuneTaskOptions>) =>
  opened(MODEL, (model) => finetuneTask(model, options(output, more)));

beforeAll(async () => {
  await tune(path("first"), { settings: FIRST });
});

function finished(name: string): string {
  cpSync(path("first"), path(name), { recursive: true });
  return path(name);
}

it("a run on a task is extended to more epochs, with the settings that it had", async () => {
  const output = finished("longer");
  const settings = { epochs: 4, patience: 0 };
  const said = await opened(MODEL, (model) => dryRunTask(model, options(output, { resume: true, settings }), 0.2));
  expect(said.steps).toEqual({ train: 20, done: 20 });
  const result = await tune(output, { resume: true, settings });
  expect(result).toMatchObject({ resumedFrom: 20, steps: 40 });
  expect(result.settings).toMatchObject({ ...FIRST, epochs: 4, patience: 0, extendedFrom: 20 });
  const steps = metricsOf(output).filter((line) => "lr" in line);
  expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  const rates = steps.map(({ lr }) => lr as number);
  expect(rates[20]).toBeGreaterThan(0.9e-3); // a warmup of one step
  expect(rates[39]).toBeLessThan(1e-5);
  const { history } = JSON.parse(readFileSync(join(output, "nfc.json"), "utf8"));
  expect(history.map(({ step }: { step: string }) => step)).toEqual(["finetune", "finetune"]);
});

it("an extension that is interrupted has the bytes of one that was not", async () => {
  const settings = { epochs: 3, patience: 0 };
  const straight = finished("straight");
  await tune(straight, { resume: true, settings });
  const stopped = finished("stopped");
  const controller = new AbortController();
  const onProgress = ({ done, unit }: ProgressEvent) => {
    if (unit === "steps" && done === 24) controller.abort();
  };
  const failure = await failureOf(() =>
    tune(stopped, { resume: true, settings, signal: controller.signal, onProgress }),
  );
  expect(failure.message).toContain("step 24 of 30 is saved");
  expect((await tune(stopped, { resume: true })).resumedFrom).toBe(24);
  expect(weightsOf(stopped).equals(weightsOf(straight))).toBe(true);
  expect(existsSync(`${stopped}.run`)).toBe(false);
});

it("a run that was killed before its first checkpoint goes on from step 0, over a model whose own run cannot be extended", async () => {
  const output = finished("over");
  const record = JSON.parse(readFileSync(join(output, "nfc.json"), "utf8"));
  for (const entry of record.history) entry.best = null;
  writeFileSync(join(output, "nfc.json"), JSON.stringify(record));
  const controller = new AbortController();
  const onProgress = ({ done, unit }: ProgressEvent) => unit === "steps" && done === 3 && controller.abort();
  const settings = { ...FIRST, seed: 5 };
  await failureOf(() => tune(output, { settings, force: true, signal: controller.signal, onProgress }));
  rmSync(join(`${output}.run`, "checkpoint"), { recursive: true });
  writeFileSync(join(`${output}.run`, "metrics.jsonl"), "");
  const result = await tune(output, { settings, force: true, resume: true });
  expect(result).toMatchObject({ resumedFrom: 0, steps: 20 });
});

it.each([
  ["no more epochs", {}, /its run has ended with 2 epochs, 2 are asked for$/],
  ["fewer epochs", { epochs: 1 }, /its run has ended with 2 epochs, 1 are asked for$/],
  ["another rate", { epochs: 4, lr: 1e-4 }, /its run had other settings: lr \(0.001 → 0.0001\)$/],
] as const)("an extension with %s is refused, and nothing changes", async (name, settings, message) => {
  const output = finished(name);
  const before = digest(output);
  expect((await failureOf(() => tune(output, { resume: true, settings }))).message).toMatch(message);
  expect(digest(output)).toEqual(before);
  expect(existsSync(`${output}.run`)).toBe(false);
});
