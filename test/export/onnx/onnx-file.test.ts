// The exported ONNX model, read back by an independent decoder and run by ONNX Runtime: layout, names, logits, storage.
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { beforeAll, describe, expect, it } from "vitest";
import type { WeightStorage } from "../../../src/export/onnx/onnx-file.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { Session } from "../../../src/graph/session.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../../src/inference/generate/decoder-feeds.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { VARIANTS, type Variant } from "../../../src/model/variants.ts";
import { decoded, exported, KEY_RANKS, modelOf, onnxLogits, ownLogits, PROMPTS } from "../../support/exported.ts";
import { bytesOf, MODEL, opened } from "../../support/fixture.ts";
import { GOLDEN_NAMES, goldenModel, worstOf } from "../../support/golden-models.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("export-onnx");
const STORAGES: WeightStorage[] = ["inline", "external", "shared"];
const models = new Map<Variant, { folder: string; config: ModelConfig }>();
const modelFor = (variant: Variant) => models.get(variant)?.folder as string;
const configFor = (variant: Variant) => models.get(variant)?.config as ModelConfig;
const folderOf = (variant: Variant, weights: WeightStorage) => path(`${variant}-${weights}`);

beforeAll(async () => {
  for (const variant of VARIANTS) {
    const folder = await modelOf(variant, path(variant));
    models.set(variant, { folder, config: await opened(folder, ({ config }) => config) });
    for (const weights of STORAGES) await exported(modelFor(variant), folderOf(variant, weights), { weights });
  }
});

/** "float [batch_size, 4, 3]" */
function typeOf(info: Onnx.IValueInfoProto): string {
  const tensor = info.type?.tensorType;
  const dtype = { 1: "float", 7: "int64" }[tensor?.elemType as 1 | 7];
  // An absent dim_value decodes as 0, an absent dim_param as "".
  const dims = (tensor?.shape?.dim ?? []).map(({ dimParam, dimValue }) => dimParam || Number(dimValue));
  return `${dtype} [${dims.join(", ")}]`;
}

const signature = (infos: readonly Onnx.IValueInfoProto[]) =>
  Object.fromEntries(infos.map((info) => [info.name as string, typeOf(info)]));

describe.each(VARIANTS)("an exported ONNX file of %s", (variant) => {
  it.each(STORAGES)("the file with weights %s has our own logits", async (weights) => {
    const logits = await onnxLogits(folderOf(variant, weights), PROMPTS, modelFor(variant));
    expect(logits.every(Number.isFinite)).toBe(true);
    expect(worstOf(logits, await ownLogits(modelFor(variant)))).toBeLessThan(1e-4);
  });

  it("the graph has the names, dtypes and dimensions that transformers.js and optimum expect", () => {
    const { model, graph } = decoded(folderOf(variant, "inline"));
    const total = "past_sequence_length + sequence_length";
    const layers = [0, 1];
    const pairs = (prefix: string, length: string) =>
      layers.flatMap((layer) =>
        ["key", "value"].map((part) => {
          const narrow = variant === "low-rank" && part === "key";
          const width = !narrow ? 16 : prefix === "present" ? KEY_RANKS[layer] : `key_size_${layer}`;
          return [`${prefix}.${layer}.${part}`, `float [batch_size, 4, ${length}, ${width}]`];
        }),
      );
    expect(signature(graph.input)).toEqual({
      input_ids: "int64 [batch_size, sequence_length]",
      attention_mask: `int64 [batch_size, ${total}]`,
      position_ids: "int64 [batch_size, sequence_length]",
      ...Object.fromEntries(pairs("past_key_values", "past_sequence_length")),
    });
    expect(signature(graph.output)).toEqual({
      logits: "float [batch_size, sequence_length, 384]",
      ...Object.fromEntries(pairs("present", total)),
    });
    expect(graph.input.map(({ name }) => name).slice(0, 3)).toEqual(["input_ids", "attention_mask", "position_ids"]);
    expect(Number(model.irVersion)).toBe(9);
    expect(model.opsetImport.find(({ domain }) => domain === "")?.version?.toString()).toBe("20");
    expect(model.producerName).toBe("nfc");
    expect(model.metadataProps.map(({ key, value }) => [key, value])).toEqual([
      ["variant", variant],
      ["precision", "fp32"],
    ]);
  });

  it("the graph stores the tied head once, and never transposes it", () => {
    const { graph } = decoded(folderOf(variant, "inline"));
    expect(graph.initializer.filter(({ name }) => name === "wte.weight")).toHaveLength(1);
    expect(graph.initializer.filter(({ dims }) => dims?.map(Number).join() === "384,64")).toHaveLength(1);
    const users = graph.node.filter(({ input }) => input?.includes("wte.weight"));
    expect(users.map(({ opType }) => opType).sort()).toEqual(["Gather", "Gemm"]);
    const head = users.find(({ opType }) => opType === "Gemm");
    expect(Number(head?.attribute?.find(({ name }) => name === "transB")?.i)).toBe(1);
  });

  it("the graph holds each weight it needs once, and none that the softmax cannot see", () => {
    const { graph } = decoded(folderOf(variant, "inline"));
    const names = graph.initializer.map(({ name }) => name as string);
    expect(new Set(names).size).toBe(names.length);
    const noise = names.filter((name) => name.includes("noise_"));
    expect(noise).toEqual(variant === "noise-distance" ? ["h.0.attn.noise_mean", "h.1.attn.noise_mean"] : []);
    const specs = listParameters(configFor(variant)).map(({ name }) => name);
    const seen = specs.filter((name) => !name.includes("noise_") || noise.includes(name));
    expect(names.filter((name) => name.startsWith("h.") || /^(wte|wpe|ln_f|lm_head)\./.test(name)).sort()).toEqual(
      seen.sort(),
    );
  });

  it("steps of any length from the cache compute what reading the whole text does", async () => {
    const config = configFor(variant);
    const session = await Session.fromFile(join(folderOf(variant, "inline"), "onnx/model.onnx"), { threads: 1 });
    const whole = (await session.run(makePromptFeeds(PROMPTS, config))).logits?.data as Float32Array;
    let feeds = makePromptFeeds(
      PROMPTS.map((ids) => ids.slice(0, 3)),
      config,
    );
    let output = await session.run(feeds);
    for (const [from, to] of [
      [3, 4],
      [4, 7],
      [7, 8],
    ] as const) {
      feeds = makeStepFeeds(
        feeds,
        PROMPTS.map((ids) => ids.slice(from, to)),
        takeCache(output),
      );
      output = await session.run(feeds);
      const V = 384;
      const expected = [0, 1].flatMap((row) => [...whole.slice((row * 8 + from) * V, (row * 8 + to) * V)]);
      expect(worstOf(output.logits?.data as Float32Array, Float32Array.from(expected))).toBeLessThan(1e-4);
    }
    expect(output["present.1.key"]?.shape).toEqual([2, 4, 8, variant === "low-rank" ? KEY_RANKS[1] : 16]);
    await session.close();
  });
});

describe("weights in external data", () => {
  const folder = () => folderOf("noise-distance", "external");

  it("external weights lie in model.onnx_data, beside a small graph", () => {
    expect(readdirSync(join(folder(), "onnx")).sort()).toEqual(["model.onnx", "model.onnx_data"]);
    expect(statSync(join(folder(), "onnx/model.onnx")).size).toBeLessThan(64 * 1024);
    expect(existsSync(join(folder(), "model.safetensors"))).toBe(false);
  });

  it("external weights are addressed without gaps or overlaps, by the name of their file", () => {
    const { graph } = decoded(folder());
    const places = graph.initializer
      .filter(({ externalData }) => (externalData?.length ?? 0) > 0)
      .map(({ externalData }) => Object.fromEntries((externalData ?? []).map(({ key, value }) => [key, value])));
    expect(new Set(places.map(({ location }) => location))).toEqual(new Set(["model.onnx_data"]));
    const spans = places.map(({ offset, length }) => [Number(offset), Number(length)] as const);
    spans.sort(([a], [b]) => a - b);
    let end = 0;
    for (const [offset, length] of spans) {
      expect(offset).toBe(end);
      end = offset + length;
    }
    expect(statSync(join(folder(), "onnx/model.onnx_data")).size).toBe(end);
  });

  it("an external weight starts at a page where a tensor is larger than 1 MiB", async () => {
    const model = await writeCheckpoint(path("large"), { vocab: 5000, width: 64, positions: 21, layers: 1 });
    await exported(model, path("large-external"), { weights: "external" });
    const wte = decoded(path("large-external")).graph.initializer.find(({ name }) => name === "wte.weight");
    const offset = wte?.externalData?.find(({ key }) => key === "offset")?.value;
    expect(Number(offset) % 4096).toBe(0);
    expect(
      worstOf(await onnxLogits(path("large-external"), [[1, 2, 3]], model), await ownLogits(model, [[1, 2, 3]])),
    ).toBeLessThan(1e-4);
  });
});

describe("shared weights", () => {
  const folder = () => folderOf("noise-per-head", "shared");

  it("shared weights are one safetensors file, to which model.safetensors is a link", async () => {
    expect(readdirSync(join(folder(), "onnx")).sort()).toEqual(["model.onnx", "model.onnx_data"]);
    expect(lstatSync(join(folder(), "model.safetensors")).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(folder(), "model.safetensors"))).toBe("onnx/model.onnx_data");
    const reader = await openSafetensors(join(folder(), "onnx/model.onnx_data"));
    expect(new Set(reader.tensors.keys())).toEqual(
      new Set(listParameters(configFor("noise-per-head")).map(({ name }) => name)),
    );
    await reader.close();
  });

  it("shared weights open as the model they came from, noise included", async () => {
    await opened(folder(), (shared) =>
      opened(modelFor("noise-per-head"), async (model) => {
        expect(shared.config).toEqual(model.config);
        for (const name of model.tensors.keys())
          expect((await bytesOf(shared, name)).equals(await bytesOf(model, name)), name).toBe(true);
      }),
    );
  });

  it("shared weights are float32 whatever the source's dtype, and config.json says so", async () => {
    const model = await writeCheckpoint(path("half"), { dtype: "F16" });
    await exported(model, path("half-shared"), { weights: "shared" });
    expect(JSON.parse(readFileSync(path("half-shared", "config.json"), "utf8"))).toMatchObject({ dtype: "float32" });
    const tensors = await opened(path("half-shared"), (checkpoint) => [...checkpoint.tensors.values()]);
    expect(new Set(tensors.map(({ dtype }) => dtype))).toEqual(new Set(["F32"]));
    expect(worstOf(await ownLogits(path("half-shared"), [[1, 2, 3]]), await ownLogits(model, [[1, 2, 3]]))).toBe(0);
  });
});

describe("the config.json of an export", () => {
  const configJson = (folder: string) => JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));

  it.each(["external", "shared"] as const)("config.json tells browsers of the data file of %s weights", (weights) => {
    expect(configJson(folderOf("symmetric", weights))).toMatchObject({
      model_type: "gpt2",
      "transformers.js_config": { use_external_data_format: { "model.onnx": 1 } },
    });
  });

  it("config.json names no data files when there are none, even if the source's does", async () => {
    const said = ["transformers.js_config", { dtype: "fp32" }] as const; // it would ask for q8 in a browser
    expect(configJson(folderOf("symmetric", "inline"))).toHaveProperty(...said);
    await exported(folderOf("symmetric", "shared"), path("again"));
    expect(configJson(path("again"))).toHaveProperty(...said);
  });
});

describe("exported files of other models", () => {
  it.each([
    ["an untied head", { head: "own" }],
    ["no biases", { bias: false }],
    ["half floats", { dtype: "F16" }],
    ["brain floats in Linear orientation", { dtype: "BF16", layout: "linear" }],
    ["double floats", { dtype: "F64" }],
    ["an MLP of odd width", { inner: 37 }],
    ["one head", { heads: 1 }],
  ] as const)("models with %s have our own logits in every storage", async (name, options) => {
    const model = await writeCheckpoint(path(`from ${name}`), options);
    for (const weights of STORAGES) {
      const folder = path(`${name} ${weights}`);
      const { onnx } = await exported(model, folder, { weights });
      expect(onnx[0]?.verification?.worst).toBeLessThan(1e-4);
      const prompts = [[1, 2, 3, 10]];
      expect(worstOf(await onnxLogits(folder, prompts, model), await ownLogits(model, prompts))).toBeLessThan(1e-4);
    }
  });

  it("an untied head has its own matrix, without a transposition", async () => {
    const { graph } = decoded(path("an untied head inline"));
    expect(graph.initializer.map(({ name }) => name)).toEqual(expect.arrayContaining(["wte.weight", "lm_head.weight"]));
    expect(
      graph.node.filter(({ opType, input }) => opType === "Transpose" && input?.includes("lm_head.weight")),
    ).toEqual([]);
  });
});

describe("exported files of the reference implementation's models", () => {
  it.each(GOLDEN_NAMES)("the exported file of %s has PyTorch's logits", async (variant) => {
    const { folder, ids, logits } = await goldenModel(variant, path(`golden-${variant}`));
    await exported(folder, path(`golden-${variant}-onnx`));
    const prompts = ids.map((row) => [...row]);
    expect(worstOf(await onnxLogits(path(`golden-${variant}-onnx`), prompts, folder), logits)).toBeLessThan(1e-5);
  });
});

it("the result of an export has its files, the storage of the weights, and the accuracy of the check", async () => {
  const { files, onnx } = await exported(MODEL, path("result"), { weights: "external" });
  expect(files).toEqual(["onnx/model.onnx", "onnx/model.onnx_data"]);
  expect(onnx).toMatchObject([{ precision: "fp32", weights: "external", files }]);
  expect(onnx[0]?.verification?.worst).toBeLessThanOrEqual(onnx[0]?.verification?.tolerance as number);
  // Two thirds of two prompts of 24, beside their first thirds padded to that; then eight positions of all four by the cache.
  expect(onnx[0]?.verification?.positions).toBe(2 * 16 + 2 * 8 + 4 * 8);
});
