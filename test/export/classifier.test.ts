// An exported classifier: transformers.js gives its labels as nfc does, in every precision, and a wrong file is caught.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { env, pipeline } from "@huggingface/transformers";
import { beforeAll, describe, expect, it } from "vitest";
import { checkSizes } from "../../src/check/check-sizes.ts";
import type { NfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { exportModel } from "../../src/export/export-model.ts";
import { openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { toTransformersJsDtype } from "../../src/model/precision.ts";
import { compareModels } from "../../src/report/comparison/compare-models.ts";
import { findBrowserRuntime } from "../../src/serve/browser-runtime.ts";
import { Classifier } from "../../src/tasks/classify.ts";
import { encodeExamples } from "../../src/tasks/examples.ts";
import { findTask } from "../../src/tasks/glue-tasks.ts";
import { readTaskFile } from "../../src/tasks/task-file.ts";
import { finetuneTask } from "../../src/tasks/train/finetune-task.ts";
import { browserForTests, NO_CHROMIUM, WHY } from "../support/browser.ts";
import { nfc } from "../support/cli.ts";
import { exported, TEXTLESS as PRECISIONS } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { converted, opened } from "../support/fixture.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("classifier-export");
const task = findTask("sst2");
const LABELS = ["negative", "positive"] as const;
let texts: string[] = [];
let probabilities: number[] = [];

beforeAll(async () => {
  const data = writeSst2(path("SST-2"));
  await converted({ output: path("tied"), variant: "noise-distance" });
  const settings = { epochs: 12, lr: 3e-3, batchSize: 16, length: 24 };
  await opened(path("tied"), (model) =>
    finetuneTask(model, { output: path("tuned"), task, data, settings, session: { threads: 1 } }),
  );
  mkdirSync(path("models"));
  await exported(path("tuned"), path("models/tuned"), { precisions: PRECISIONS });
  env.allowRemoteModels = false;
  env.localModelPath = path("models/");
  const { examples } = await readTaskFile(data, "dev.tsv", task);
  texts = examples.slice(0, 12).map(({ texts: [text] }) => text as string);
  await opened(path("tuned"), async (model) => {
    const classifier = await Classifier.ofCheckpoint(model, { threads: 1 });
    const encoded = encodeExamples(examples.slice(0, 12), await loadTokenizer(model.folder, model.config), 24);
    const logits = await classifier.logits(encoded, { length: 24 });
    probabilities = texts.map((_, row) => {
      const [negative, positive] = logits.subarray(2 * row, 2 * row + 2) as unknown as [number, number];
      return 1 / (1 + Math.exp(negative - positive));
    });
    await classifier.close();
  });
});

describe("transformers.js for text classification", () => {
  it.each(PRECISIONS)(
    "the %s file gives the labels and probabilities of our own forward pass, alone and in a batch",
    async (precision) => {
      const dtype = toTransformersJsDtype(precision) as "fp32";
      const classify = await pipeline("text-classification", "tuned", { dtype });
      const tolerance = precision === "fp32" ? 1e-5 : 0.1;
      const check = (found: unknown, row: number) => {
        const { label, score } = found as { label: string; score: number };
        const positive = probabilities[row] as number;
        expect(label).toBe(LABELS[positive > 0.5 ? 1 : 0]);
        expect(Math.abs(score - Math.max(positive, 1 - positive))).toBeLessThan(tolerance);
      };
      for (const [row, found] of ((await classify(texts)) as unknown[]).entries()) check(found, row);
      const [alone] = (await classify(texts[3] as string)) as unknown[];
      check(alone, 3);
      expect(new Set(probabilities.map((positive) => positive > 0.5)).size).toBe(2);
      await classify.dispose();
    },
  );
});

/** As text: the test runner would rewrite its imports. */
const IN_THE_PAGE = `
  import { env, pipeline } from "/library.js";
  const local = { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/models/" };
  Object.assign(env, local, { useBrowserCache: false, useWasmCache: false });
  env.backends.onnx.wasm.wasmPaths = { mjs: location.origin + "/ort.mjs", wasm: location.origin + "/ort.wasm" };
  env.backends.onnx.wasm.numThreads = 1;
  globalThis.classify = async (dtype, texts) =>
    (await pipeline("text-classification", "tuned", { dtype, device: "wasm" }))(texts);`;

describe.skipIf(NO_CHROMIUM)(`transformers.js for text classification in Chromium${WHY}`, { timeout: 60_000 }, () => {
  const visit = browserForTests();

  it("the browser classifies as our own forward pass does, in every precision", async () => {
    const { page, errors } = await visit();
    const { files } = findBrowserRuntime([process.cwd()]);
    if (!files) throw new Error("transformers.js is a development dependency");
    const { library, builds } = files;
    const { mjs, wasm } = builds.wasm;
    const served: Record<string, string> = { "library.js": library, "ort.mjs": mjs, "ort.wasm": wasm };
    await page.route("http://localhost:9/**", (route) => {
      const name = new URL(route.request().url()).pathname.slice(1);
      if (name === "") return route.fulfill({ contentType: "text/html", body: "<!doctype html>" });
      const file = served[name] ?? path(name);
      return existsSync(file) ? route.fulfill({ path: file }) : route.fulfill({ status: 404 });
    });
    await page.goto("http://localhost:9/");
    await page.addScriptTag({ type: "module", content: IN_THE_PAGE });
    await page.waitForFunction("globalThis.classify");
    for (const precision of PRECISIONS) {
      const call = `classify(${JSON.stringify(toTransformersJsDtype(precision))}, ${JSON.stringify(texts)})`;
      const found = (await page.evaluate(call)) as { label: string; score: number }[];
      for (const [row, { label, score }] of found.entries()) {
        const positive = probabilities[row] as number;
        expect(label, precision).toBe(LABELS[positive > 0.5 ? 1 : 0]);
        expect(Math.abs(score - Math.max(positive, 1 - positive)), precision).toBeLessThan(
          precision === "fp32" ? 1e-5 : 0.1,
        );
      }
      expect(found).toHaveLength(texts.length);
    }
    expect(errors).toEqual([]);
  });
});

describe("nfc eval --task of exported files", () => {
  const args = () => ["eval", path("models/tuned"), "--task", "sst2", "--data", path("SST-2"), "--length", "24"];

  it("every precision is scored on every example, and float32 scores as the checkpoint", async () => {
    const run = async (model: string) =>
      JSON.parse((await nfc(["eval", model, ...args().slice(2), "--json", "--threads", "1"])).stdout).files;
    const [dense] = await run(path("tuned"));
    const files = await run(path("models/tuned"));
    expect(files.map(({ precision }: { precision: string }) => precision)).toEqual([...PRECISIONS]);
    const { precision, loss, ...rest } = files[0];
    expect(rest).toEqual({ ...rest, metrics: dense.metrics, confusion: dense.confusion, interval: dense.interval });
    expect(loss).toBeCloseTo(dense.loss, 5);
    for (const file of files) expect(Math.abs(file.loss - dense.loss)).toBeLessThan(0.1);
  });

  it("the table has a row per file, and a single file gets its confusion matrix", async () => {
    const all = (await nfc([...args(), "--threads", "1"])).stdout;
    expect(all).toMatch(/^model +metric +score[\s\S]+^fp32 +accuracy[\s\S]+^q4f16 +accuracy/m);
    expect(all).not.toContain("predicted");
    expect((await nfc([...args(), "--precision", "q4"])).stdout).toMatch(/^q4 +accuracy[\s\S]+actual \\ predicted/m);
  });

  it("the scores of files are noted in nfc.json, where report and check find them", async () => {
    const record = () => JSON.parse(readFileSync(path("models/tuned/nfc.json"), "utf8")) as NfcRecord;
    const flags = [...args().slice(2), "--threads", "1"];
    const { stderr } = await nfc(["eval", path("models/tuned"), ...flags]);
    expect(stderr).toContain(`scores noted in ${path("models/tuned/nfc.json")} (--no-record leaves them out)`);
    const before = record();
    expect(before.exports?.map(({ precision }) => precision)).toEqual([...PRECISIONS]);
    for (const { tasks } of before.exports ?? []) {
      expect(tasks).toHaveLength(1);
      expect(tasks?.[0]).toMatchObject({ task: "sst2", file: "dev.tsv", examples: 40, length: 24 });
    }
    // Half of the labels turned: the q4 file alone is scored on them, and its entry replaced.
    const [dev, turned] = [`${path("SST-2")}/dev.tsv`, path("turned")];
    mkdirSync(turned);
    const lines = readFileSync(dev, "utf8").trimEnd().split("\n");
    const flip = (line: string, i: number) =>
      i % 2 ? line.replace(/[01]$/, (label) => String(1 - Number(label))) : line;
    writeFileSync(`${turned}/dev.tsv`, `${lines.map(flip).join("\n")}\n`);
    const q4 = [
      "eval",
      path("models/tuned"),
      "--task",
      "sst2",
      "--data",
      turned,
      "--length",
      "24",
      "--precision",
      "q4",
    ];
    await nfc([...q4, "--no-record"]);
    expect(record()).toEqual(before);
    await nfc(q4);
    const after = record();
    const accuracy = (one: NfcRecord, precision: string) =>
      one.exports?.find((entry) => entry.precision === precision)?.tasks?.[0]?.metrics.accuracy;
    expect(accuracy(after, "q4")).toBeLessThan(0.7);
    expect(accuracy(after, "int8")).toBe(accuracy(before, "int8"));
    expect(after.exports?.map(({ tasks }) => tasks?.length)).toEqual(PRECISIONS.map(() => 1));
    const { models } = await compareModels([path("models/tuned")]);
    expect(models.map(({ quality }) => quality)).toEqual(
      PRECISIONS.map((one) => [{ measure: "accuracy", on: "sst2", examples: 40, value: accuracy(after, one) }]),
    );
    const entry = (name: string) => ({ name, path: `models/tuned/onnx/${name}.onnx`, minAccuracy: 0.9 });
    writeFileSync(path("nfc.size.json"), JSON.stringify({ models: ["model_quantized", "model_q4"].map(entry) }));
    const { models: checked } = await checkSizes({ folder: path("") });
    expect(checked.map(({ failures }) => failures)).toEqual([
      [],
      [expect.stringMatching(/^accuracy 0\.\d+, under 0\.9$/)],
    ]);
  });

  it("a precision that does not exist, and models of other kinds, are refused", async () => {
    await exported(path("tied"), path("language"));
    const language = await nfc(["eval", path("language"), ...args().slice(2)]);
    expect(language).toMatchObject({ code: 2, stdout: "" });
    expect(language.stderr).toContain("config.json: is not that of a classifier; score a language model with --text");
    await exported(path("tuned"), path("fp32"));
    const other = await nfc(["eval", path("fp32"), ...args().slice(2), "--precision", "q4"]);
    expect(other.stderr).toContain("has no q4 file; it has fp32");
    const config = JSON.parse(readFileSync(path("fp32/config.json"), "utf8"));
    const labels = { id2label: { 0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2" }, label2id: {} };
    writeFileSync(path("fp32/config.json"), JSON.stringify({ ...config, ...labels }));
    const mixed = await nfc(["eval", path("fp32"), ...args().slice(2)]);
    expect(mixed.stderr).toContain("has 2 logits of a text, but config.json names 3 classes");
  });
});

describe("exports with other weights", () => {
  const scores = async (folder: string) =>
    (await compareModels([path(folder)])).models.map(({ quality }) => quality.map(({ measure }) => measure));

  it("exports with other weights do not keep the score", async () => {
    expect(await scores("tuned")).toEqual([["accuracy"]]);
    for (const [folder, safetensors, more] of [
      ["same", {}, {}],
      ["half", { dtype: "F16" }, {}],
      ["plain", {}, { gpt2: true, dropNoise: true }],
    ] as const)
      await opened(path("tuned"), (model) => exportModel(model, { output: path(folder), safetensors, ...more }));
    expect([await scores("same"), await scores("half"), await scores("plain")]).toEqual([[["accuracy"]], [[]], [[]]]);
  });

  it("shared weights of a classifier, which would need two config.json files, are refused", async () => {
    const error = await failureOf(() => exported(path("tuned"), path("shared"), { weights: "shared" }));
    expect(error.code).toBe("usage");
    expect(error.message).toContain("config.json");
    expect(existsSync(path("shared"))).toBe(false);
  });
});

describe("the folder of an exported classifier", () => {
  it("every file of a classifier has the same number of parameters, by its header", async () => {
    const { models } = await compareModels([path("models/tuned")]);
    expect(models).toHaveLength(PRECISIONS.length);
    expect(new Set(models.map(({ parameters }) => parameters))).toEqual(new Set([models[0]?.parameters]));
    expect(models[0]?.groups.find(({ group }) => group === "head")?.parameters).toBe(2 * 64);
  });

  it("the folder of a classifier has a model card and a tokenizer that pads", () => {
    const card = readFileSync(path("models/tuned/README.md"), "utf8");
    expect(card).toContain("pipeline_tag: text-classification");
    expect(card).toContain("that classifies texts (negative, positive)");
    expect(card).toContain('pipeline("text-classification", "./tuned", { dtype: "q8" })');
    expect(card).not.toContain("nfc generate");
    expect(JSON.parse(readFileSync(path("models/tuned/tokenizer_config.json"), "utf8")).pad_token).toBe(
      "<|endoftext|>",
    );
  });

  it("a classifier is refused where text is written", async () => {
    const error = await failureOf(() => openExportedModel(path("models/tuned")));
    expect(error.message).toContain("is that of a classifier, which writes no text");
  });
});

it("a classifier's file with other weights is no output", async () => {
  await opened(path("tuned"), async (model) => {
    async function* chunks(name: string) {
      for await (const chunk of model.chunks(name)) {
        const copy = Buffer.from(chunk);
        if (name === "h.1.mlp.c_fc.weight") copy.writeFloatLE(copy.readFloatLE(0) + 1, 0);
        yield copy;
      }
    }
    const options = {
      output: path("wrong"),
      threads: 1,
      onnx: { weights: "inline", noise: { kind: "mean" } },
    } as const;
    expect((await failureOf(() => exportModel({ ...model, chunks }, options))).code).toBe("mismatch");
  });
});

it.each([
  [{ texts: ["a.txt"] }, {}, "--text is for language models, this is a classifier"],
  [{}, { hf: true, safetensors: {} }, "--hf is for language models, this is a classifier"],
  [{}, { safetensors: {} }, "ONNX and safetensors of a classifier have different config.json files"],
] as const)("an export of a classifier as %j with %j is refused", async (onnx, options, words) => {
  const error = await failureOf(() =>
    opened(path("tuned"), (model) =>
      exportModel(model, {
        output: path("refused"),
        onnx: { weights: "inline", noise: { kind: "mean" }, ...("texts" in onnx && { texts: onnx.texts }) },
        ...options,
      }),
    ),
  );
  expect(error).toMatchObject({ code: "usage", message: words });
});
