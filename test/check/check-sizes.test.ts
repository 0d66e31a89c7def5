// Limits, baselines and accidents on real checkpoints and exports; what is missing, unreadable or hostile.
import { randomBytes } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";
import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type CheckOptions, checkSizes } from "../../src/check/check-sizes.ts";
import { renderCheckJson, renderCheckText } from "../../src/check/check-text.ts";
import { NfcError } from "../../src/errors.ts";
import { formatBytes } from "../../src/report/render/format.ts";
import { exported, modelOf } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL } from "../support/fixture.ts";
import { encode, encodeSafetensors, tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("check");
const repo = path("repo");
const CONFIG = `${repo}/nfc.size.json`;
const BASELINE = `${repo}/nfc.baseline.json`;

beforeAll(async () => {
  await modelOf("symmetric", path("tied"));
  await exported(path("tied"), path("onnx"), { precisions: ["fp32", "int8", "q4"] });
  await exported(path("tied"), path("external"), { weights: "external" });
});

beforeEach(() => {
  rmSync(repo, { recursive: true, force: true });
  mkdirSync(repo);
});

const configure = (...models: object[]) => writeFileSync(CONFIG, JSON.stringify({ models }));
const check = (options: Partial<CheckOptions> = {}) => checkSizes({ folder: repo, ...options });
const put = (from: string, to: string) => cpSync(from, `${repo}/${to}`, { recursive: true });

/** Gives a graph's external data another name of as many letters. */
function nameData(model: string, name: string) {
  const text = readFileSync(model, "latin1");
  writeFileSync(model, text.replaceAll("model.onnx_data", name), "latin1");
}

/** Bytes after brotli at quality 5, all at once. */
function compress(file: string): number {
  const bytes = readFileSync(file);
  const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT } = constants;
  const params = { [BROTLI_PARAM_QUALITY]: 5, [BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return brotliCompressSync(bytes, { params }).length;
}

async function only(options: Partial<CheckOptions> = {}) {
  const { models } = await check(options);
  const [model] = models;
  if (!model || models.length !== 1) throw new Error("one model is expected");
  return model;
}

describe("absolute limits of checkSizes", () => {
  beforeEach(() => put(path("tied"), "model"));

  it("the size is that of a folder, a file, a glob, or a graph with its external data", async () => {
    put(path("onnx"), "export");
    put(path("external"), "external");
    configure(
      { path: "model" },
      { path: "model/model.safetensors" },
      { path: "export/onnx/*.onnx" },
      { path: "external/onnx/model.onnx" },
    );
    const { passed, models } = await check();
    expect(passed).toBe(true);
    const bytes = (file: string) => readFileSync(`${repo}/${file}`).length;
    const files = ["model.onnx", "model_quantized.onnx", "model_q4.onnx"];
    expect(models.map(({ size }) => size)).toEqual([
      bytes("model/model.safetensors"),
      bytes("model/model.safetensors"),
      files.reduce((sum, file) => sum + bytes(`export/onnx/${file}`), 0),
      bytes("external/onnx/model.onnx") + bytes("external/onnx/model.onnx_data"),
    ]);
    expect(models[0]?.parameters).toBe(120_448);
  });

  it("external data counts under any name, also that of PyTorch's exporter", async () => {
    put(path("external"), "external");
    const model = `${repo}/external/onnx/model.onnx`;
    nameData(model, "model.onnx.data");
    renameSync(`${model}_data`, `${model}.data`);
    configure({ path: "external/onnx/model.onnx" }, { path: "external" }, { path: "external/onnx/*" });
    const { models } = await check();
    const bytes = statSync(model).size + statSync(`${model}.data`).size;
    for (const { size, failures } of models) expect({ size, failures }).toEqual({ size: bytes, failures: [] });
  });

  it("a GGUF file counts with its bytes alone, by itself and in a folder, and growth is held against it", async () => {
    const bytes = 1000;
    mkdirSync(`${repo}/gguf`);
    writeFileSync(`${repo}/gguf/model-q8_0.gguf`, Buffer.alloc(bytes));
    configure({ path: "gguf", limit: bytes, maxGrowth: "0" }, { path: "gguf/model-q8_0.gguf", limit: bytes - 1 });
    const { models } = await check();
    expect(models.map(({ size, parameters, passed }) => ({ size, parameters, passed }))).toEqual([
      { size: bytes, parameters: null, passed: true },
      { size: bytes, parameters: null, passed: false },
    ]);
    configure({ path: "gguf", maxGrowth: "0" }, { path: "gguf", name: "counted", maxParameters: 1e9 });
    expect((await check()).models[1]?.failures).toEqual([expect.stringContaining("or in a GGUF file")]);
    configure({ path: "gguf", maxGrowth: "0" });
    await check({ updateBaseline: true });
    writeFileSync(`${repo}/gguf/model-q8_0.gguf`, Buffer.alloc(bytes + 1));
    expect(await only()).toMatchObject({ grew: true, groups: [{ group: "GGUF", before: bytes, now: bytes + 1 }] });
  });

  it("weights that two formats share count once", async () => {
    await exported(path("tied"), `${repo}/shared`, { weights: "shared" });
    configure({ path: "shared" });
    const bytes = ["model.onnx", "model.onnx_data"].map((file) => statSync(`${repo}/shared/onnx/${file}`).size);
    expect(await only()).toMatchObject({ passed: true, size: bytes.reduce((a, b) => a + b, 0) });
  });

  it.each([
    ["is missing", "model.onnx.data", "no such file"],
    ["lies elsewhere", "../../../model_", "leaves the model's folder"],
  ])("a graph whose external data %s is unreadable", async (_, name, text) => {
    put(path("external"), "external");
    nameData(`${repo}/external/onnx/model.onnx`, name);
    configure({ path: "external/onnx/model.onnx" });
    const { passed, unreadable, failures } = await only();
    expect({ passed, unreadable }).toEqual({ passed: false, unreadable: true });
    expect(failures[0]).toContain(text);
  });

  it("a model of as many tensors as a file may have is weighed", async () => {
    const empty = { dtype: "F32", shape: [0], bytes: new Uint8Array(0) };
    const tensors = Array.from({ length: 20_000 }, (_, i) => ({ name: `t${i}`, ...empty }));
    writeFileSync(`${repo}/many.safetensors`, encodeSafetensors(tensors));
    configure({ path: "many.safetensors", limit: "1 GB" });
    expect(await only()).toMatchObject({ passed: true, parameters: 0, failures: [] });
  });

  it("other files that a path names are added up, and are no training state", async () => {
    configure({ path: "model/*" });
    const { size, failures, groups } = await only();
    const all = readdirSync(`${repo}/model`).map((file) => statSync(`${repo}/model/${file}`).size);
    expect({ size, failures, groups }).toEqual({ size: all.reduce((a, b) => a + b, 0), failures: [], groups: [] });
  });

  it.each([
    [{ limit: 482_000 }, "over the limit of 482.0 kB"],
    [{ limit: "0.4 MB" }, "over the limit of 400.0 kB"],
    [{ maxParameters: 120_447 }, "120,448 parameters, over the limit of 120,447"],
    [{ maxPerplexity: 3 }, "maxPerplexity: no nfc.json beside it notes one"],
    [{ maxBitsPerByte: 2 }, "maxBitsPerByte: no nfc.json beside it notes any"],
    [{ minAccuracy: 0.5 }, "minAccuracy: no nfc.json beside it notes one"],
    [{ dtype: "F16" }, "its matrices are F32, not F16"],
  ])("a model over the limits %j fails", async (limits, text) => {
    configure({ path: "model", ...limits });
    const { passed, failures } = await only();
    expect(passed).toBe(false);
    expect(failures).toHaveLength(1);
    expect(failures[0]).toContain(text);
  });

  it("a limit after brotli holds all files that are named, by what zlib makes of them", async () => {
    put(path("onnx"), "export");
    const named = "export/{onnx/model_q4.onnx,tokenizer.json}";
    const bytes = ["onnx/model_q4.onnx", "tokenizer.json"].map((file) => compress(`${repo}/export/${file}`));
    const brotliSize = bytes.reduce((a, b) => a + b, 0);
    configure({ name: "web", path: named, brotliLimit: brotliSize }, { name: "raw", path: named });
    const { passed, models } = await check();
    expect(passed).toBe(true);
    expect(models.map((model) => model.brotliSize)).toEqual([brotliSize, null]);
    expect(models[0]?.size).toBeGreaterThan(brotliSize);
    configure({ name: "web", path: named, brotliLimit: brotliSize - 1000 });
    const failed = await check();
    expect(failed.models[0]?.failures).toEqual([
      `${formatBytes(brotliSize)} after brotli is 1.0 kB over the limit of ${formatBytes(brotliSize - 1000)}`,
    ]);
    expect(renderCheckText(failed)).toContain("brotli");
    expect(renderCheckJson(failed)[0]).toMatchObject({
      brotliSize,
      brotliLimit: brotliSize - 1000,
      baselineBrotli: null,
    });
  });

  it("the baseline keeps the size after brotli, and growth is held against it too", async () => {
    put(path("onnx"), "export");
    const model = { path: "export/{onnx/model_q4.onnx,notes.txt}", maxGrowth: "20 kB", brotliLimit: "1 MB" };
    writeFileSync(`${repo}/export/notes.txt`, "x".repeat(15_000));
    configure(model);
    await check({ updateBaseline: true });
    const { brotliSize } = await only();
    expect(brotliSize).toBeGreaterThan(0);
    expect(Object.values(JSON.parse(readFileSync(BASELINE, "utf8")).models)[0]).toMatchObject({ brotli: brotliSize });
    writeFileSync(`${repo}/export/notes.txt`, randomBytes(30_000));
    const { failures, size, baselineSize, baselineBrotli } = await only();
    expect({ grown: (size ?? 0) - (baselineSize ?? 0), baselineBrotli }).toEqual({
      grown: 15_000,
      baselineBrotli: brotliSize,
    });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatch(/^grew by 30\.0 kB after brotli \(\+[\d.]+ %\), 20 kB is allowed$/);
    configure({ ...model, brotliLimit: undefined });
    expect((await only()).failures).toEqual([]);
  });

  it("a model exactly at its limits passes", async () => {
    const { length } = readFileSync(`${repo}/model/model.safetensors`);
    configure({ path: "model", limit: length, maxParameters: 120_448, dtype: "F32" });
    expect((await only()).passed).toBe(true);
  });

  it("a budget applies to every file named, and only to the file that was measured", async () => {
    const noted = (folder: string, change: object) => {
      const file = `${repo}/${folder}/nfc.json`;
      writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...change }));
    };
    const measured = { file: "a", sha256: "0".repeat(64), tokens: 900, length: 8, stride: 8, perplexity: 2.5 };
    const none = ["maxPerplexity: no nfc.json beside it notes one (nfc eval, nfc export --text)"];
    noted("model", { perplexity: [measured] });
    cpSync(path("tied"), `${repo}/other`, { recursive: true });
    configure({ path: "{model,other}/*.safetensors", maxPerplexity: 3 });
    expect((await only()).failures).toEqual(none);
    // The record of a folder says nothing of what lies deeper.
    cpSync(`${repo}/other/model.safetensors`, `${repo}/model/deeper/model.safetensors`);
    configure({ path: "model/deeper/model.safetensors", maxPerplexity: 3 });
    expect((await only()).failures).toEqual(none);
    put(path("onnx"), "export");
    const quality = { ...measured, kl: null, agreement: null, logitError: null };
    const { size } = statSync(`${repo}/export/onnx/model_q4.onnx`);
    noted("export", { exports: [{ precision: "q4", file: "onnx/model_q4.onnx", bytes: size, perplexity: quality }] });
    configure({ path: "export/onnx/model_q4.onnx", maxPerplexity: 3 });
    expect((await only()).passed).toBe(true);
    cpSync(`${repo}/export/onnx/model.onnx`, `${repo}/export/onnx/model_q4.onnx`);
    expect((await only()).failures).toEqual(none);
  });

  it("bits a byte hold a model with fewer tokens to its source's quality, in a folder and in an exported file", async () => {
    const note = (folder: string, change: object) => {
      const file = `${repo}/${folder}/nfc.json`;
      writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...change }));
    };
    const text = { file: "a", sha256: "0".repeat(64), tokens: 900, length: 8, stride: 8 };
    const scored = { ...text, perplexity: 2.5, bitsPerByte: 1.25 };
    note("model", { perplexity: [scored] });
    configure({ path: "model", maxBitsPerByte: 1.25 });
    expect((await only()).passed).toBe(true);
    configure({ path: "model", maxBitsPerByte: 1.2 });
    expect((await only()).failures).toEqual(["1.2500 bits a byte, over 1.2"]);
    put(path("onnx"), "export");
    const { size } = statSync(`${repo}/export/onnx/model_q4.onnx`);
    const perplexity = { ...scored, bitsPerByte: 1.5, kl: null, agreement: null, logitError: null };
    note("export", { exports: [{ precision: "q4", file: "onnx/model_q4.onnx", bytes: size, perplexity }] });
    configure({ path: "export/onnx/model_q4.onnx", maxBitsPerByte: 1.4 });
    expect((await only()).failures).toEqual(["1.5000 bits a byte, over 1.4"]);
  });

  it("the perplexity and accuracy in nfc.json are held against the budget", async () => {
    const file = `${repo}/model/nfc.json`;
    const record = JSON.parse(readFileSync(file, "utf8"));
    const perplexity = [{ file: "a", sha256: "0".repeat(64), tokens: 900, length: 8, stride: 8, perplexity: 2.5 }];
    const history = [{ step: "finetune", task: "sst2", dev: { metrics: { accuracy: 0.75 } } }];
    writeFileSync(file, JSON.stringify({ ...record, perplexity, history }));
    configure({ path: "model", maxPerplexity: 2.5, minAccuracy: 0.75 });
    expect((await only()).passed).toBe(true);
    configure({ path: "model", maxPerplexity: 2.4, minAccuracy: 0.8 });
    expect((await only()).failures).toEqual(["perplexity 2.500, over 2.4", "accuracy 0.7500, under 0.8"]);
  });
});

describe("paths and entries of the configuration", () => {
  it.each([
    ["a missing file", "nowhere.safetensors"],
    ["an empty folder", "empty"],
    ["a glob without a match", "models/*.onnx"],
  ])("%s fails the check", async (_, missing) => {
    mkdirSync(`${repo}/empty`);
    configure({ path: missing });
    const { passed, failures, size } = await only();
    expect({ passed, size }).toEqual({ passed: false, size: null });
    expect(failures[0]).toContain("no file matches");
  });

  it("several entries are all checked, by name, in their order", async () => {
    put(path("tied"), "model");
    configure({ name: "b", path: "model", limit: 1 }, { name: "a", path: "model" }, { path: "nothing" });
    const { passed, models } = await check();
    expect(passed).toBe(false);
    expect(models.map(({ name, passed: own }) => [name, own])).toEqual([
      ["b", false],
      ["a", true],
      ["nothing", false],
    ]);
  });

  it("the configuration may stand in package.json", async () => {
    put(path("tied"), "model");
    writeFileSync(`${repo}/package.json`, JSON.stringify({ name: "x", nfc: { models: [{ path: "model" }] } }));
    const { config, passed } = await check();
    expect({ config, passed }).toEqual({ config: `${repo}/package.json`, passed: true });
  });
});

describe("the baseline of checkSizes", () => {
  beforeEach(() => put(path("tied"), "model"));

  it("the baseline is small, sorted and reproducible, and holds the hashes of files", async () => {
    configure({ name: "tied", path: "model", maxGrowth: "0" });
    expect((await check({ updateBaseline: true })).updated).toBe(true);
    const text = readFileSync(BASELINE, "utf8");
    await check({ updateBaseline: true });
    expect(readFileSync(BASELINE, "utf8")).toBe(text);
    const { models, format } = JSON.parse(text);
    expect(format).toBe("nfc-baseline/1");
    expect(models.tied).toMatchObject({ parameters: 120_448, attention: 2, dtypes: { F32: expect.any(Number) } });
    expect(models.tied.files["model/model.safetensors"].sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(models.tied.groups)).toEqual(Object.keys(models.tied.groups).sort());
    expect(models.tied.groups.MLP).toEqual({ bytes: 4 * 66_176, parameters: 66_176 });
    expect(await only()).toMatchObject({ passed: true, groups: [] });
  });

  it("a damaged baseline is refused, and written anew on demand", async () => {
    configure({ name: "tied", path: "model" });
    writeFileSync(BASELINE, '{ "format": "nfc-baseline/1" }');
    const { message, hint } = await failureOf(() => check());
    expect(`${message}; ${hint}`).toMatch(/nfc\.baseline\.json: tool: .+; .*nfc check --update-baseline$/);
    await check({ updateBaseline: true });
    expect(await only()).toMatchObject({ passed: true });
  });

  it("a model that grew over the baseline fails with the group that grew, and K back in c_attn is noticed", async () => {
    configure({ path: "model", maxGrowth: "1 %" });
    await check({ updateBaseline: true });
    cpSync(`${MODEL}/model.safetensors`, `${repo}/model/model.safetensors`);
    const { failures, groups } = await only();
    expect(failures).toEqual([
      "K is back in c_attn: 3C columns where the baseline has 2C: convert the model again",
      expect.stringMatching(
        /^grew by \S+ kB \(\+\d\.\d\d %\), 1 % is allowed; what grew: attention q, k, v \+33\.3 kB$/,
      ),
    ]);
    expect(groups[0]).toMatchObject({ group: "attention q, k, v", now: expect.any(Number) });
    await check({ updateBaseline: true });
    expect((await only()).passed).toBe(true);
  });

  it("growth is allowed up to its limit, in percent or bytes", async () => {
    configure({ path: "model", maxGrowth: "10 %" });
    await check({ updateBaseline: true });
    cpSync(`${MODEL}/model.safetensors`, `${repo}/model/model.safetensors`);
    const allow = ["k-in-c_attn"];
    for (const [maxGrowth, passed] of [
      ["10 %", true],
      ["40 kB", true],
      ["30 kB", false],
      ["6.5 %", false],
    ] as const) {
      configure({ path: "model", maxGrowth, allow });
      expect((await only()).passed, maxGrowth).toBe(passed);
    }
  });

  it("a missing baseline passes unless it is required, and a new model gets a note", async () => {
    configure({ path: "model", maxGrowth: "1 %" });
    expect((await only()).passed).toBe(true);
    expect((await only({ requireBaseline: true })).failures[0]).toContain("the baseline does not know this model");
    await check({ updateBaseline: true });
    put(path("tied"), "second");
    configure({ path: "model", maxGrowth: "1 %" }, { path: "second", maxGrowth: "1 %" });
    expect((await check()).models[1]).toMatchObject({
      passed: true,
      notes: ["no baseline knows it: maxGrowth is not checked; nfc check --update-baseline"],
    });
  });

  it("a baseline that is named must exist, below the configuration", async () => {
    configure({ path: "model", maxGrowth: "1 %" });
    const missing = await failureOf(() => check({ baseline: `${repo}/nfc.baselin.json` }));
    expect(missing).toMatchObject({ code: "not-found", message: `${repo}/nfc.baselin.json: no such file` });
    const named = (baseline: string) =>
      writeFileSync(CONFIG, JSON.stringify({ baseline, models: [{ path: "model", maxGrowth: "1 %" }] }));
    named("sizes.json");
    expect((await failureOf(check)).message).toBe(`${repo}/sizes.json: no such file`);
    await check({ updateBaseline: true });
    expect(existsSync(`${repo}/sizes.json`)).toBe(true);
    named(`${repo}/sizes.json`);
    expect(await check()).toMatchObject({ passed: true, baseline: `${repo}/sizes.json` });
    named("../sizes.json");
    expect((await failureOf(() => check({ updateBaseline: true }))).message).toContain("lies outside");
  });

  it("models may have the names of object properties, but not __proto__", async () => {
    configure({ name: "constructor", path: "model", maxGrowth: "0" }, { name: "toString", path: "model" });
    expect((await check()).passed).toBe(true);
    await check({ updateBaseline: true });
    expect((await check()).models.map(({ baselineSize, size }) => baselineSize === size)).toEqual([true, true]);
    configure({ name: "__proto__", path: "model" });
    expect((await failureOf(check)).message).toContain("__proto__ is no name for a model");
  });

  it("the baseline is not written while a model is over its own limit, missing or unreadable", async () => {
    configure({ path: "model", limit: 1 });
    expect((await check({ updateBaseline: true })).updated).toBe(false);
    configure({ path: "missing" });
    expect((await check({ updateBaseline: true })).updated).toBe(false);
    writeFileSync(`${repo}/model/model.safetensors`, "junk");
    configure({ path: "model" });
    expect(await check({ updateBaseline: true })).toMatchObject({ updated: false, unreadable: true });
    expect(existsSync(BASELINE)).toBe(false);
  });
});

describe("accidents that checkSizes finds", () => {
  const write = (folder: string, options: Parameters<typeof writeCheckpoint>[1]) =>
    writeCheckpoint(`${repo}/${folder}`, options);
  const failures = async (allow: string[] = []) => {
    configure({ path: "model", allow });
    return (await only()).failures;
  };

  /** Models with an accident each, by its kind. */
  const ACCIDENTS = {
    "head-twice": () => write("model", { head: "copy" }),
    "mask-buffers": () => write("model", { masks: true, base: "transformer." }),
    "optimiser-state": async () => {
      const bytes = encode(new Float32Array(2), "F32");
      const state = { name: "optimizer.exp_avg.wte.weight", dtype: "F32", shape: [2], bytes };
      await write("model", { tensors: [...tinyTensors(), state] });
      writeFileSync(`${repo}/model/optimizer.pt`, "state");
    },
    dtype: async () => {
      await write("model", { dtype: "F16" });
      configure({ path: "model" });
      await check({ updateBaseline: true });
      await write("model", { dtype: "F32" });
    },
  };
  type Kind = keyof typeof ACCIDENTS;

  it.each<[string, Kind, string[]]>([
    ["a head stored twice", "head-twice", ["lm_head.weight"]],
    ["stored mask buffers", "mask-buffers", ["4 attention mask buffers"]],
    ["optimizer state inside a file and beside it", "optimiser-state", ["optimizer.exp_avg", "model/optimizer.pt"]],
    ["another dtype than the baseline's", "dtype", ["F32, not F16"]],
  ])("%s fails the check, unless the configuration allows %s", async (_, kind, facts) => {
    await ACCIDENTS[kind]();
    expect(await failures()).toEqual(facts.map((fact) => expect.stringContaining(fact)));
    expect(await failures([kind])).toEqual([]);
  });

  it.each<[Kind, string[]]>([
    [
      "head-twice",
      ["model.safetensors: the head is stored twice, as wte.weight and lm_head.weight: tie it (logits = h · wteᵀ)"],
    ],
    ["mask-buffers", ["model.safetensors: 4 attention mask buffers are stored: save the parameters only"]],
    [
      "optimiser-state",
      [
        "model.safetensors: 1 tensors are optimiser state, such as optimizer.exp_avg.wte.weight",
        "model/optimizer.pt is training state: leave it out of the model",
      ],
    ],
    ["dtype", ["its matrices are F32, not F16: was it saved in another format?"]],
  ])("the accident %s is told in exact sentences", async (kind, sentences) => {
    await ACCIDENTS[kind]();
    expect(await failures()).toEqual(sentences);
  });

  it("an MLP of the embedding's shape is no accident", async () => {
    const matrix = (name: string, shape: number[]) => ({
      name,
      dtype: "F32" as const,
      shape,
      bytes: encode(new Float32Array(32), "F32"),
    });
    const others = tinyTensors().filter(({ name }) => !/^(wte|h\.0\.mlp\.c_proj)\.weight$/.test(name));
    const tensors = [...others, matrix("wte.weight", [16, 2]), matrix("h.0.mlp.c_proj.weight", [16, 2])];
    await write("model", { tensors });
    expect(await failures()).toEqual([]);
  });

  it("our own exports have no accidents", async () => {
    put(path("onnx"), "model");
    expect(await failures()).toEqual([]);
  });
});

describe("hostile and damaged files in checkSizes", () => {
  it("a file of 50 GB is judged by its header", async () => {
    put(path("external"), "model");
    truncateSync(`${repo}/model/onnx/model.onnx_data`, 50e9);
    configure({ path: "model/onnx/model.onnx", limit: "1 GB" });
    const { size, failures } = await only();
    expect(size).toBeGreaterThan(50e9);
    expect(failures[0]).toContain("over the limit of 1,000.0 MB");
  });

  it("paths and links that lead out of the folder are not followed", async () => {
    configure({ path: "../tied" });
    expect(await failureOf(check)).toMatchObject({ code: "usage", message: expect.stringContaining("lies outside") });
    mkdirSync(`${repo}/models`);
    symlinkSync(path("tied"), `${repo}/models/link`);
    configure({ path: "models/**/*.safetensors" });
    expect((await only()).failures[0]).toContain("no file matches");
    for (const out of ["models/link", "models/link/*.safetensors", "models/link/model.safetensors"]) {
      configure({ path: out });
      const { unreadable, failures } = await only();
      expect({ unreadable, failures }).toEqual({
        unreadable: true,
        failures: [expect.stringContaining("is a link that leads out of")],
      });
    }
    configure({ path: "{../tied,x}/*.safetensors" });
    expect((await only()).failures[0]).toContain("no file matches");
  });

  it("links inside the folder count as files, as in Hugging Face's cache, and dangling ones are unreadable", async () => {
    put(path("tied"), "blobs");
    mkdirSync(`${repo}/snapshots/a`, { recursive: true });
    symlinkSync("../../blobs/model.safetensors", `${repo}/snapshots/a/model.safetensors`);
    symlinkSync("model.safetensors", `${repo}/snapshots/a/latest.safetensors`);
    configure({ path: "snapshots/a" }, { path: "snapshots/*/model.safetensors" }, { path: `${repo}/snapshots/a` });
    const { size } = statSync(`${repo}/blobs/model.safetensors`);
    expect((await check()).models.map((model) => model.size)).toEqual([size, size, size]);
    symlinkSync("nowhere.safetensors", `${repo}/snapshots/a/broken.safetensors`);
    expect((await check()).models[0]).toMatchObject({ passed: false, unreadable: true });
  });

  it("names of models cannot control the terminal", async () => {
    configure({ name: "a\u001b[31m\nb", path: "nothing" });
    const text = renderCheckText(await check());
    for (const raw of ["\u001b", "\nb"]) expect(text).not.toContain(raw);
  });

  it("a malformed package.json is refused", async () => {
    writeFileSync(`${repo}/package.json`, "null");
    expect((await failureOf(check)).message).toContain("package.json: content: ");
  });

  it.each([
    ["no JSON", "{"],
    ["an unknown key", '{"models":[{"path":"x","limits":"1 MB"}]}'],
    ["a limit that is none", '{"models":[{"path":"x","limit":"1 apple"}]}'],
    ["no models", '{"models":[]}'],
    ["two of one name", '{"models":[{"path":"x"},{"path":"x"}]}'],
    ["a list", "[]"],
  ])("a configuration with %s is refused with an example", async (_, text) => {
    writeFileSync(CONFIG, text);
    const error = await failureOf(check);
    expect(["invalid-file", "usage"]).toContain(error.code);
    expect(error.message).toContain("nfc.size.json");
    expect(error.hint).toBeTruthy();
  });

  it("any damage to a configuration, baseline or model ends in a result or a one-line error", async () => {
    put(path("tied"), "model");
    put(path("onnx"), "export");
    configure({ path: "model", maxGrowth: "1 %" }, { path: "export/onnx/*.onnx" });
    await check({ updateBaseline: true });
    const files = [CONFIG, BASELINE, `${repo}/model/model.safetensors`, `${repo}/export/onnx/model_q4.onnx`];
    const spoilt = fc.record({
      file: fc.nat(files.length - 1),
      at: fc.nat(2000),
      byte: fc.nat(255),
      cut: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(spoilt, async ({ file, at, byte, cut }) => {
        const name = files[file] as string;
        renameSync(name, `${name}.whole`);
        const bytes = readFileSync(`${name}.whole`);
        if (cut) writeFileSync(name, bytes.subarray(0, at));
        else {
          bytes[at % bytes.length] = byte;
          writeFileSync(name, bytes);
        }
        try {
          const { models } = await check();
          expect(models.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(NfcError);
          expect((error as NfcError).message).not.toContain("\n");
        } finally {
          renameSync(`${name}.whole`, name);
        }
      }),
      { numRuns: 150 },
    );
  });
});
