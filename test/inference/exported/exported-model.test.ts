// Opening exports: real ones of every variant and weight storage, those of other tools, and what to say to other folders.
import { existsSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join, relative } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  chooseFile,
  hasOnnxFiles,
  openExportedFile,
  openExportedModel,
} from "../../../src/inference/exported/exported-model.ts";
import { VARIANTS, type Variant } from "../../../src/model/variants.ts";
import { exported, modelOf } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened, SHARED } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { CONFIG, decoderProto, encoded, HALF, value, writeFolder } from "./exported-fixture.ts";

const path = temporaryFolder("exported-model");

describe.each(VARIANTS)("opening an export of %s", (variant: Variant) => {
  const storages = ["inline", "external", "shared"] as const;
  const model = () => (variant === "dense" ? MODEL : path(variant));
  beforeAll(async () => {
    await modelOf(variant, path(variant));
    for (const weights of storages) await exported(model(), path(`${variant}-${weights}`), { weights });
  });

  it.each(storages)(
    "an export with %s weights opens with the checkpoint's configuration and its files",
    async (weights) => {
      const folder = path(`${variant}-${weights}`);
      const found = await openExportedModel(folder);
      const config = await opened(model(), (checkpoint) => checkpoint.config);
      expect(found.config).toEqual(config);
      expect(found).toMatchObject({ source: folder, folder, record: { variant }, rawConfig: { model_type: "gpt2" } });
      const file = join(folder, "onnx/model.onnx");
      const data = weights === "inline" ? [] : [`${file}_data`];
      const bytes = [file, ...data].reduce((sum, one) => sum + statSync(one).size, 0);
      const types = { cacheDtype: "float32", logitsDtype: "float32", halfFloats: false };
      expect(chooseFile(found, "fp32")).toEqual({ precision: "fp32", path: file, data, bytes, ...types });
      expect(await hasOnnxFiles(folder)).toBe(weights !== "shared");
    },
  );
});

describe("precisions of an export", () => {
  const half = encoded(decoderProto({ cache: HALF }));
  const files = {
    "config.json": CONFIG,
    "onnx/model_q4f16.onnx": half,
    "onnx/model_quantized.onnx": encoded(decoderProto()),
    "onnx/model_fp16.onnx": encoded(decoderProto({ cache: HALF, logits: HALF })),
    "onnx/model_bnb4.onnx": "not looked at",
  };

  it("one file of an export opens without a look at the others", async () => {
    const folder = path("one file");
    writeFolder(folder, { ...files, "onnx/model_q4.onnx": "no model" });
    expect((await failureOf(() => openExportedModel(folder))).code).toBe("invalid-file");
    const { model, file } = await openExportedFile(folder, "q4f16");
    expect([file.precision, [...model.files.keys()]]).toEqual(["q4f16", ["q4f16"]]);
    expect((await openExportedFile(folder)).file.precision).toBe("fp16"); // the first there is
    const error = await failureOf(() => openExportedFile(folder, "q2"));
    expect(error.message).toBe(`${folder}: has no q2 file; it has fp16, int8, q4, q4f16`);
  });

  it("the precisions are listed in their order, with the dtypes of the graph", async () => {
    const model = await openExportedModel(writeFolder(path("precisions"), files));
    expect([...model.files.keys()]).toEqual(["fp16", "int8", "q4f16"]);
    expect(chooseFile(model, "fp16")).toMatchObject({ cacheDtype: "float16", logitsDtype: "float16" });
    expect(chooseFile(model, "int8")).toMatchObject({ cacheDtype: "float32", logitsDtype: "float32" });
    expect(chooseFile(model, "q4f16")).toMatchObject({ cacheDtype: "float16", logitsDtype: "float32" });
    expect(chooseFile(model, "q4f16").bytes).toBe(half.byteLength);
  });

  it("the chosen precision is fp32 or the first there is, unless one is asked for", async () => {
    const folder = path("precisions");
    expect(chooseFile(await openExportedModel(folder)).precision).toBe("fp16");
    writeFolder(folder, { "onnx/model.onnx": encoded(decoderProto()) });
    const model = await openExportedModel(folder);
    expect(chooseFile(model).precision).toBe("fp32");
    const error = await failureOf(() => chooseFile(model, "q4"));
    expect(error.code).toBe("not-found");
    expect(error.message).toBe(`${folder}: has no q4 file; it has fp32, fp16, int8, q4f16`);
  });

  it("an export opens by a relative path and through a link", async () => {
    writeFolder(path("named"), { "config.json": CONFIG, "onnx/model.onnx": encoded(decoderProto()) });
    const source = relative(process.cwd(), path("named"));
    const model = await openExportedModel(source);
    expect(model).toMatchObject({ source, folder: path("named"), record: null });
    expect(chooseFile(model).path).toBe(path("named/onnx/model.onnx"));
    symlinkSync(path("named"), path("link"));
    expect(chooseFile(await openExportedModel(path("link"))).path).toBe(path("link/onnx/model.onnx"));
  });
});

describe("files written by other tools", () => {
  const openedWith = (change: (model: ReturnType<typeof decoderProto>) => void, config: object = CONFIG) => {
    const model = decoderProto();
    change(model);
    const folder = path("other");
    rmSync(folder, { recursive: true, force: true });
    return openExportedModel(writeFolder(folder, { "config.json": config, "onnx/model.onnx": encoded(model) }));
  };

  it.each<[string, (model: ReturnType<typeof decoderProto>) => void]>([
    ["without position_ids", ({ graph }) => graph.input.splice(2, 1)],
    ["with weights among the inputs", ({ graph }) => graph.input.push(value("wpe.weight", 1, [16, 32]))],
    [
      "with a prefix on the weights",
      ({ graph }) => Object.assign(graph.initializer[0] ?? {}, { name: "transformer.wpe.weight" }),
    ],
    [
      "with sizes of present named",
      ({ graph }) => Object.assign(graph.output[1] ?? {}, value("present.0.key", 1, ["b", "h", "t", "d"])),
    ],
    ["with further outputs", ({ graph }) => graph.output.push(value("hidden_states", 1, ["b", "t", 32]))],
    ["with ops of ONNX Runtime", ({ graph }) => graph.node.push({ opType: "MatMulNBits", domain: "com.microsoft" })],
    ["with an unused operator set", (model) => model.opsetImport.push({ domain: "ai.onnx.ml", version: 3 })],
    [
      "of the newest format",
      (model) => Object.assign(model, { irVersion: 13, opsetImport: [{ domain: "ai.onnx", version: 26 }] }),
    ],
  ])("a model file %s opens", async (_, change) => {
    expect((await openedWith(change)).config).toMatchObject({ n_layer: 2, n_head: 4 });
  });

  it("a config.json is read with GPT-2's second names of the sizes, its defaults, and only the token ids in the vocabulary", async () => {
    const { config } = await openedWith(() => {}, {
      ...{ model_type: "gpt2", num_hidden_layers: 2, num_attention_heads: 4, hidden_size: 32 },
      ...{ max_position_embeddings: 16, vocab_size: 40, bos_token_id: 40, eos_token_id: [39, 7] },
    });
    expect(config).toMatchObject({ n_inner: 128, activation: "gelu_tanh", tied_head: true, variant: "dense" });
    expect(config).toMatchObject({ n_positions: 16, eos_token_id: 39 });
    expect(config).not.toHaveProperty("bos_token_id");
  });
});

describe("folders that are not exports", () => {
  const onnx = encoded(decoderProto());
  const checkpoint = { "config.json": CONFIG, "model.safetensors": "" };
  it.each<[string, Record<string, string | object>, string, RegExp, RegExp]>([
    [
      "a checkpoint",
      checkpoint,
      "not-found",
      /: holds no folder onnx/,
      /^export the checkpoint: nfc export \S+ --onnx/,
    ],
    ["an empty folder", { "config.json": CONFIG }, "not-found", /: holds no folder onnx/, /check the path/],
    ["no config.json", { "onnx/model.onnx": onnx }, "not-found", /config\.json: no such file/, /copy the config\.json/],
    [
      "no model file",
      { "config.json": CONFIG, "onnx/a.txt": "" },
      "not-found",
      /onnx: holds none of model\.onnx, /,
      /export/,
    ],
    [
      "other model files",
      { "config.json": CONFIG, "onnx/decoder_model_merged.onnx": "" },
      "not-found",
      /onnx: holds decoder_model_merged\.onnx, but none of model\.onnx, model_fp16\.onnx, model_quantized/,
      /rename/,
    ],
    [
      "a config.json that is no JSON",
      { "config.json": "{", "onnx/model.onnx": onnx },
      "invalid-file",
      /not valid JSON/,
      /^$/,
    ],
    [
      "a size missing",
      { "config.json": { ...CONFIG, n_head: null }, "onnx/model.onnx": onnx },
      "invalid-file",
      /config\.json: n_head is missing/,
      /add the n_head/,
    ],
    [
      "another model",
      { "config.json": { ...CONFIG, model_type: "llama" }, "onnx/model.onnx": onnx },
      "unsupported",
      /model_type "llama"/,
      /GPT-2/,
    ],
    [
      "heads that do not divide",
      { "config.json": { ...CONFIG, n_head: 5 }, "onnx/model.onnx": onnx },
      "invalid-file",
      /n_embd 32 is not divisible by n_head 5/,
      /correct/,
    ],
    [
      "an LFS pointer",
      { "config.json": CONFIG, "onnx/model.onnx": "version https://git-lfs.github.com/spec/v1\n" },
      "unsupported",
      /model\.onnx: is a Git LFS pointer/,
      /git lfs pull/,
    ],
  ])("a folder that is not an export is refused: %s", async (name, files, code, message, hint) => {
    const error = await failureOf(() => openExportedModel(writeFolder(path(`no-${name}`.replaceAll(" ", "-")), files)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.hint ?? "").toMatch(hint);
  });

  it("a file, a reference to the Hub, and a path that does not exist are refused", async () => {
    const file = join(writeFolder(path("file"), { "model.onnx": onnx }), "model.onnx");
    expect(await failureOf(() => openExportedModel(file))).toMatchObject({
      code: "usage",
      message: `${file}: is a file`,
    });
    expect(await failureOf(() => openExportedModel("hf://a/b"))).toMatchObject({ code: "usage" });
    expect(await failureOf(() => openExportedModel(path("nowhere")))).toMatchObject({ code: "not-found" });
  });
});

describe("hasOnnxFiles", () => {
  it("hasOnnxFiles is true for exports and false for checkpoints, also for a folder with both", async () => {
    const onnx = { "onnx/model.onnx": "" };
    expect(await hasOnnxFiles(writeFolder(path("h1"), onnx))).toBe(true);
    expect(await hasOnnxFiles(writeFolder(path("h2"), { "onnx/other.onnx": "" }))).toBe(true);
    expect(await hasOnnxFiles(writeFolder(path("h3"), { ...onnx, "model.safetensors": "" }))).toBe(false);
    expect(await hasOnnxFiles(writeFolder(path("h4"), { ...onnx, "model.safetensors.index.json": "" }))).toBe(false);
    expect(await hasOnnxFiles(writeFolder(path("h5"), { "model.safetensors": "" }))).toBe(false);
    expect(await hasOnnxFiles(path("h1/onnx/model.onnx"))).toBe(true);
    expect(await hasOnnxFiles(path("nowhere"))).toBe(false);
  });
});

describe.skipIf(!existsSync(join(SHARED, "models/base")))("the shared base model", () => {
  it("the shared base model is a checkpoint and is refused as an export", async () => {
    expect(await hasOnnxFiles(join(SHARED, "models/base"))).toBe(false);
    expect((await failureOf(() => openExportedModel(join(SHARED, "models/base")))).hint).toMatch(/nfc export/);
  });
});
