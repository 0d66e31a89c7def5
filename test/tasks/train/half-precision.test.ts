// Fine-tuning on a task with products in float16, which the CPU computes by casts.
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { findTask } from "../../../src/tasks/glue-tasks.ts";
import { finetuneTask } from "../../../src/tasks/train/finetune-task.ts";
import { refused } from "../../support/cli.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened } from "../../support/fixture.ts";
import { writeSst2 } from "../../support/task-data.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { metricsOf, weightsOf } from "../../support/training.ts";

const path = temporaryFolder("half-task");
const data = writeSst2(path("glue/SST-2"));
const task = findTask("sst2");
const SETTINGS = { epochs: 1, lr: 3e-3, batchSize: 16, length: 24, evalEvery: 5, noiseKl: 0.01 };
const ON_CPU = { threads: 1, halfOnCpu: true };

const tune = (output: string, devicePrecision: "fp32" | "fp16", more: object = {}) =>
  opened(path("source"), (checkpoint) => {
    const settings = { ...SETTINGS, devicePrecision };
    return finetuneTask(checkpoint, { output, task, data, settings, session: ON_CPU, ...more });
  });

it("a classifier learns in half precision as in float32, and goes on to the same bits", async () => {
  await converted({ output: path("source"), variant: "noise-distance" });
  await tune(path("full"), "fp32");
  await tune(path("half"), "fp16");
  const losses = (folder: string) => metricsOf(folder).flatMap(({ loss }) => (typeof loss === "number" ? [loss] : []));
  const [full, half] = [losses(path("full")), losses(path("half"))];
  expect(half).toHaveLength(full.length);
  expect(half).not.toEqual(full);
  for (const [step, loss] of full.entries()) expect(Math.abs((half[step] as number) - loss)).toBeLessThan(0.01);
  expect(metricsOf(path("half")).filter((line) => line.loss_scale === 4096)).toHaveLength(10);
  const output = path("stopped");
  const controller = new AbortController();
  const onProgress = ({ unit, done }: { unit: string; done: number }) => {
    if (unit === "steps" && done === 4) controller.abort();
  };
  await failureOf(() => tune(output, "fp16", { signal: controller.signal, onProgress }));
  await tune(output, "fp16", { resume: true });
  expect(weightsOf(output).equals(weightsOf(path("half")))).toBe(true);
});

it.each([
  ["finetune --task", ["finetune", MODEL, "--task", "sst2", "--data", data]],
  ["glue", ["glue", "--models", MODEL, "--tasks", "sst2", "--data", path("glue")]],
])("nfc %s in half precision is refused on the CPU in one line", async (name, line) => {
  const output = path(`cli ${name}`);
  expect(await refused([...line, "-o", output, "--device-precision", "fp16"])).toBe(
    "half precision is for devices with 16-bit floats, and the CPU computes in 32; leave out --device-precision fp16, or give --device",
  );
  expect([existsSync(output), existsSync(`${output}.run`)]).toEqual([false, false]);
});
