// Every form of attention trains: distilled with attention transfer, fine-tuned, extended, resumed, and on a task.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { dryRun } from "../../src/distill/dry-run.ts";
import { makeFreshModel } from "../../src/distill/fresh-model.ts";
import { type TrainOptions, train } from "../../src/distill/train.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { findTask } from "../../src/tasks/glue-tasks.ts";
import { finetuneTask } from "../../src/tasks/train/finetune-task.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL, opened, TEXT } from "../support/fixture.ts";
import { FORM_NAMES, goldenModel, goldenTeacher } from "../support/golden-models.ts";
import { slowUnless } from "../support/slow.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, settingsFor, signalAt, TINY_CONFIG, weightsOf, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("forms");
const SETTINGS = { steps: 8, transferSteps: 3, evalEvery: 4, warmup: 1, lr: 3e-3 };
let data: string;
let teacher: string;

beforeAll(async () => {
  teacher = await goldenTeacher("low-rank", path("golden"));
  data = writeIds(path("golden.bin"), 3000, await opened(teacher, ({ config }) => config.vocab_size));
  for (const name of FORM_NAMES) await goldenModel(name, path(name));
});

type Given = Omit<Partial<TrainOptions>, "settings"> & { output: string; settings?: Partial<TrainSettings> };

/** A distillation of a golden model from the one that it has learned from. */
const call = <T>(
  work: (student: Parameters<typeof train>[0], options: TrainOptions) => Promise<T>,
  name: string,
  given: Given,
) =>
  opened(teacher, (checkpoint) =>
    opened(path(name), (student) => {
      const settings = settingsFor("distill", student, { ...SETTINGS, ...given.settings });
      return work(student, { data: [data], session: { threads: 1 }, teacher: checkpoint, ...given, settings });
    }),
  );

describe.each(FORM_NAMES)("a %s model", (name) => {
  it("learns its teacher's attention and predictions, with the parameters of its form", async () => {
    const settings = { steps: 60, transferSteps: 30, evalEvery: 10, transferLr: 1e-2 };
    const { perplexity } = await call(train, name, { output: path(`${name}-taught`), settings });
    expect(perplexity.after).toBeLessThan(perplexity.before);
    const lines = metricsOf(path(`${name}-taught`));
    const losses = (key: string) => lines.flatMap(({ [key]: value }) => (typeof value === "number" ? [value] : []));
    for (const key of ["attention_kl", "kl"]) {
      const values = losses(key);
      expect(values).toHaveLength(30);
      expect(values.at(-1)).toBeLessThan(values[0] as number);
    }
    const specs = ({ config }: Parameters<typeof train>[0]) => listParameters(config);
    expect(await opened(path(`${name}-taught`), specs)).toEqual(await opened(path(name), specs));
  });

  it(
    "goes on after an interruption in either phase as if it had not stopped, and then for more steps",
    slowUnless(name === "low-rank-layers"),
    async () => {
      const straight = path(`${name}-straight`);
      await call(train, name, { output: straight });
      for (const step of [2, 5]) {
        const output = path(`${name}-${step}`);
        const stopped = await failureOf(() => call(train, name, { output, saveEvery: 100, ...signalAt(step) }));
        expect(stopped.message).toBe(`interrupted; step ${step} of 8 is saved in ${output}.run`);
        await call(train, name, { output, resume: true });
        expect(weightsOf(output).equals(weightsOf(straight))).toBe(true);
      }
      const longer = await call(train, name, { output: straight, resume: true, settings: { steps: 12 } });
      expect([longer.resumedFrom, longer.settings.extendedFrom]).toEqual([8, 8]);
    },
  );

  it("is measured by a dry run, and fine-tuned without a teacher", async () => {
    const said = await call((student, options) => dryRun(student, options, 0.2), name, { output: path("none") });
    expect(said.steps).toEqual({ transfer: 3, train: 5, done: 0 });
    const { size } = await opened(path(name), ({ reader }) => ({ size: reader.byteLength }));
    expect(said.diskBytes.output / size).toBeGreaterThan(0.9);
    const result = await opened(path(name), (student) =>
      train(student, {
        ...{ output: path(`${name}-tuned`), data: [data], session: { threads: 1 } },
        settings: settingsFor("finetune", student, { steps: 20, lr: 3e-3, evalEvery: 10 }),
      }),
    );
    expect(result.perplexity.after).toBeLessThan(result.perplexity.before);
  });
});

it.each<[string, object]>([
  ["pairwise", { nfc_variant: "pairwise" }],
  ["low-rank by layer", { nfc_variant: "low-rank", nfc_qk_rank: [2, 7], nfc_vo_rank: [9, 16], n_inner: 24 }],
  ["symmetric of narrow values", { nfc_variant: "symmetric", nfc_vo_rank: 5 }],
])("a %s model is pretrained and becomes a classifier", async (name, form) => {
  const [home, tuned, output] = [path(`${name}-config`), path(`${name}-base`), path(`${name}-classifier`)];
  mkdirSync(home);
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(MODEL, file), join(home, file));
  const { vocab_size: _, ...sizes } = TINY_CONFIG;
  const fresh = await makeFreshModel({ config: writeJson(join(home, "config.json"), { ...sizes, ...form }), seed: 0 });
  const settings = settingsFor("pretrain", fresh, { steps: 80, lr: 1e-2, evalEvery: 40 });
  const common = { data: [TEXT], cache: path("cache"), session: { threads: 1 } };
  const { perplexity } = await train(fresh, { ...common, output: tuned, settings });
  expect(perplexity.after).toBeLessThan(perplexity.before / 2);
  const { dev } = await opened(tuned, (model) =>
    finetuneTask(model, {
      ...{ output, task: findTask("sst2"), data: writeSst2(path(`${name}-SST-2`)), session: { threads: 1 } },
      settings: { epochs: 16, lr: 3e-3, batchSize: 16, length: 24, evalEvery: 10 },
    }),
  );
  expect(dev.metrics.accuracy).toBeGreaterThan(0.9);
  const { labels, ...kept } = await opened(output, ({ config }) => config);
  expect(labels).toEqual(["negative", "positive"]);
  expect(kept).toEqual(await opened(tuned, ({ config }) => config));
});
