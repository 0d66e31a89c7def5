// The public API: what each entry point exports, that docs/reference/api.txt is current, and the verbs with few options.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import * as check from "../src/check/index.ts";
import * as main from "../src/index.ts";
import * as report from "../src/report/index.ts";
import * as schemas from "../src/schemas.ts";
import * as tasks from "../src/tasks/index.ts";
import { failureOf } from "./support/failure.ts";
import { temporaryFolder } from "./support/temp-folder.ts";

const MODEL = "fixtures/tiny-gpt2";
const TEXT = "fixtures/text.txt";
const path = temporaryFolder("api");

async function withModel<T>(use: (model: main.Checkpoint) => Promise<T>): Promise<T> {
  const model = await main.openCheckpoint(MODEL);
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

async function collect(events: AsyncIterable<main.GenerateEvent>): Promise<string> {
  let whole = "";
  for await (const { text } of events) whole += text;
  return whole;
}

it("the entry points export these values and no others", () => {
  const names = Object.fromEntries(
    Object.entries({ main, check, report, schemas, tasks }).map(([name, entry]) => [name, Object.keys(entry).sort()]),
  );
  expect(names).toEqual({
    check: ["checkSizes", "renderAnnotations", "renderCheckJson", "renderCheckMarkdown", "renderCheckText"],
    main: [
      "NfcError",
      "checkSizes",
      "convert",
      "createReport",
      "evaluate",
      "exportModel",
      "finetuneTask",
      "generate",
      "inspect",
      "makeDistillFiles",
      "openCheckpoint",
      "openExportedModel",
      "planModel",
      "pretrain",
      "train",
    ],
    report: [
      "compareModels",
      "createReport",
      "formatReport",
      "inspect",
      "parseReport",
      "readAttentionPairs",
      "readLearnedNoise",
      "readTrainingCurves",
      "recordPerplexity",
      "renderComparisonMarkdown",
      "renderComparisonPage",
      "renderComparisonText",
      "renderInspection",
      "renderReportMarkdown",
      "renderReportPage",
      "renderReportText",
    ],
    schemas: [
      "baselineSchema",
      "comparisonSchema",
      "makeSchemaFiles",
      "nfcRecordSchema",
      "planSchema",
      "reportSchema",
      "sizeConfigSchema",
    ],
    tasks: [
      "Classifier",
      "TASKS",
      "computeMetric",
      "encodeExamples",
      "findTask",
      "finetuneTask",
      "loadTokenizer",
      "makeGlueTable",
      "readGlueScores",
      "readTaskFile",
      "scoreAnswers",
    ],
  });
});

it("docs/reference/api.txt is what the build exports", () => {
  execFileSync(process.execPath, ["scripts/api-report.mjs", "--check"], { stdio: "pipe" });
});

it("no published type has the command line of a record", () => {
  expect(readFileSync("docs/reference/api.txt", "utf8")).not.toMatch(/\bcommand\?/);
});

it("evaluate scores text files as it scores their tokens", async () => {
  const events: main.ProgressEvent[] = [];
  const onProgress = (event: main.ProgressEvent) => events.push(event);
  await withModel(async (model) => {
    const tokenizer = await tasks.loadTokenizer(model.folder, model.config);
    async function* tokens() {
      yield tokenizer.encode(readFileSync(TEXT, "utf8"));
    }
    const byText = await main.evaluate(model, { text: [TEXT], threads: 1, onProgress });
    const byTokens = await main.evaluate(model, { tokens: tokens(), threads: 1 });
    expect(byText.perplexity).toBe(byTokens.perplexity);
    const total = tokenizer.encode(readFileSync(TEXT, "utf8")).length; // one a window more than are scored
    expect(events.at(-1)).toEqual({ phase: "scoring", done: byText.tokens, total, unit: "tokens" });
    expect(await failureOf(() => main.evaluate(model, {}))).toMatchObject({
      code: "usage",
      message: "nothing to score",
    });
  });
});

it("generate writes the same text for a checkpoint and for its export", async () => {
  const output = path("onnx");
  const options = { prompts: ["Anna keeps her old lantern"], maxNewTokens: 8, threads: 1 };
  const own = await withModel(async (model) => {
    await main.exportModel(model, { output, onnx: { weights: "inline", noise: { kind: "mean" } } });
    const misplaced = main.generate(model, { ...options, precision: "q4" });
    expect(await failureOf(() => collect(misplaced))).toMatchObject({ code: "usage" });
    return collect(main.generate(model, options));
  });
  expect(own.length).toBeGreaterThan(8);
  expect(await collect(main.generate(await main.openExportedModel(output), options))).toBe(own);
});

it("exportModel takes the older spelling of quantization", async () => {
  const onnx = { weights: "inline", noise: { kind: "mean" }, precisions: ["q4"] } as const;
  const blocks = await withModel(async (model) => {
    const now = await main.exportModel(model, { output: path("now"), onnx: { ...onnx, quantization: { block: 16 } } });
    const old = await main.exportModel(model, { output: path("old"), onnx: { ...onnx, quantisation: { block: 16 } } });
    return [now, old].map(({ exports }) => exports[0]?.block);
  });
  expect(blocks).toEqual([16, 16]);
});

it("train and pretrain need no settings but the steps", async () => {
  const settings = { steps: 2, length: 16, batchSize: 2, evalTokens: 64 };
  const shared = { data: [TEXT], cache: path("cache"), settings };
  const tuned = await withModel((model) => main.train(model, { ...shared, output: path("tuned"), teacher: null }));
  expect(tuned.settings).toMatchObject({ ...settings, task: "finetune", kd: 0, transferSteps: 0 });
  const scratch = await main.pretrain({ ...shared, config: `${MODEL}/config.json`, output: path("scratch") });
  expect(scratch.settings).toMatchObject({ ...settings, task: "pretrain", seed: 0 });
  expect(scratch.folder).toBe(path("scratch"));
});

it("train distills where there is a teacher, and transfers attention where it can", async () => {
  const settings = { steps: 10, length: 16, batchSize: 2, evalTokens: 64 };
  await withModel(async (teacher) => {
    await main.convert(teacher, { output: path("tied"), variant: "symmetric", strategy: "spectral" });
    const student = await main.openCheckpoint(path("tied"));
    const options = { data: [TEXT], cache: path("cache"), output: path("distilled"), teacher, settings };
    const { settings: used } = await main.train(student, options);
    await student.close();
    expect(used).toMatchObject({ task: "distill", kd: 0.5, transferSteps: 3 });
  });
});
