// What a dry run says of fine-tuning on a task: its counts are those of the run, and nothing is written.
import { expect, it } from "vitest";
import { findTask } from "../../../src/tasks/glue-tasks.ts";
import { dryRunTask } from "../../../src/tasks/train/dry-run-task.ts";
import { type FinetuneTaskOptions, finetuneTask } from "../../../src/tasks/train/finetune-task.ts";
import { failureOf } from "../../support/failure.ts";
import { digest, MODEL, opened } from "../../support/fixture.ts";
import { writeSst2 } from "../../support/task-data.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("dry-run-task");
const data = writeSst2(path("SST-2"));
const settings = { epochs: 3, batchSize: 16, length: 24, evalEvery: 10, patience: 0 };

const options = (output: string, more: Partial<FinetuneTaskOptions> = {}): FinetuneTaskOptions => ({
  ...{ output, task: findTask("sst2"), data, settings, session: { threads: 1 } },
  ...more,
});

it("a dry run of a task counts what the run does, writes nothing, and goes on from a saved step", async () => {
  const output = path("out");
  const before = digest(path(""));
  const said = await opened(MODEL, (model) => dryRunTask(model, options(output), 0.2));
  expect(digest(path(""))).toEqual(before);
  expect(said).toMatchObject({
    output,
    steps: { train: 30, done: 0 },
    examples: 160,
    evaluations: { count: 4, examples: 40 },
    settings: { task: "sst2", epochs: 3 },
  });
  const { step, evaluation, prepare, total } = said.seconds;
  expect(total).toBeCloseTo(prepare + 30 * step + 4 * evaluation, 6);
  const controller = new AbortController();
  const onProgress = ({ done, unit }: { done: number; unit: string }) => {
    if (unit === "steps" && done === 12) controller.abort();
  };
  await failureOf(() =>
    opened(MODEL, (model) => finetuneTask(model, options(output, { signal: controller.signal, onProgress }))),
  );
  const left = await opened(MODEL, (model) => dryRunTask(model, options(output, { resume: true }), 0.2));
  expect(left.steps).toEqual({ train: 18, done: 12 });
  const refused = await failureOf(() => opened(MODEL, (model) => dryRunTask(model, options(output), 0.2)));
  expect(refused.message).toContain("an unfinished run is there");
});
