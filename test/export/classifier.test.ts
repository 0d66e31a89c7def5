// An exported classifier: transformers.js gives its labels as nfc does, in every precision, and a wrong file is caught.
import { mkdirSync, readFileSync } from "node:fs";
import { env, pipeline } from "@huggingface/transformers";
import { beforeAll, describe, expect, it } from "vitest";
import { finetuneTask } from "../../src/distill/finetune-task.ts";
import { exportModel } from "../../src/export/export-model.ts";
import { openExportedModel } from "../../src/inference/exported-model.ts";
import { encodeExamples } from "../../src/inference/tasks/batches.ts";
import { Classifier } from "../../src/inference/tasks/classify.ts";
import { readTaskFile } from "../../src/inference/tasks/task-file.ts";
import { taskOf } from "../../src/inference/tasks/tasks.ts";
import { PRECISIONS, transformersJsDtype } from "../../src/model/precision.ts";
import { loadTokenizer } from "../../src/model/tokenizer.ts";
import { exported } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { converted, opened } from "../support/fixture.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("classifier-export");
const task = taskOf("sst2");
const LABELS = ["negative", "positive"] as const;
let texts: string[] = [];
let probabilities: number[] = [];

beforeAll(async () => {
  const data = writeSst2(path("SST-2"));
  await converted({ output: path("tied"), variant: "noise-distance" });
  const settings = { epochs: 4, lr: 3e-3, batchSize: 16, length: 24 };
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

describe("transformers.js, text-classification", () => {
  it.each(PRECISIONS)(
    "%s gives the labels and probabilities of our own forward pass, alone and in a batch",
    async (precision) => {
      const dtype = transformersJsDtype(precision) as "fp32";
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

describe("the folder", () => {
  it("has a model card and a tokenizer that pads", () => {
    const card = readFileSync(path("models/tuned/README.md"), "utf8");
    expect(card).toContain("pipeline_tag: text-classification");
    expect(card).toContain("that classifies texts (negative, positive)");
    expect(card).toContain('pipeline("text-classification", "./tuned", { dtype: "q8" })');
    expect(card).not.toContain("nfc generate");
    expect(JSON.parse(readFileSync(path("models/tuned/tokenizer_config.json"), "utf8")).pad_token).toBe(
      "<|endoftext|>",
    );
  });

  it("is refused where text is written", async () => {
    const error = await failureOf(() => openExportedModel(path("models/tuned")));
    expect(error.message).toContain("is that of a classifier, which writes no text");
  });
});

it("a file with other weights is no output", async () => {
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
] as const)("%j with %j is refused", async (onnx, options, words) => {
  const error = await failureOf(() =>
    opened(path("tuned"), (model) =>
      exportModel(model, {
        output: path("refused"),
        onnx: { weights: "inline", noise: { kind: "mean" }, ...("texts" in onnx && { texts: onnx.texts }) },
        ...options,
      }),
    ),
  );
  expect(error.message).toBe(words);
});
