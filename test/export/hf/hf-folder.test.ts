// The folder for Hugging Face transformers: names, classes and code in it, and nfc reading it back.
// scripts/check-hf.py runs it in transformers.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writeModelFiles } from "../../../src/checkpoint/model-folder.ts";
import {
  HF_CODE_FILE,
  type HfFolderOptions,
  makeHfConfigKeys,
  writeHfWeights,
} from "../../../src/export/hf/hf-folder.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { DISTANCE_BUCKETS, VARIANTS } from "../../../src/model/variants.ts";
import { ownLogits } from "../../support/exported.ts";
import { bytesOf, opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("hf-folder");
const PROMPT = [[5, 1, 0, 10, 7, 7, 2]];
const TIED = VARIANTS.filter((variant) => variant !== "dense");

async function hfFolder(source: string, folder: string, options: HfFolderOptions = {}): Promise<string> {
  mkdirSync(folder);
  await opened(source, async (checkpoint) => {
    await writeHfWeights(folder, checkpoint, options);
    const dtype = options.dtype && { dtype: options.dtype };
    await writeModelFiles(folder, checkpoint, checkpoint.config, {
      ...dtype,
      extra: makeHfConfigKeys(checkpoint.config),
    });
  });
  return folder;
}

const configIn = (folder: string) => JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
const CODE = readFileSync(new URL(`../../../assets/${HF_CODE_FILE}`, import.meta.url), "utf8");

describe.each(TIED)("the Hugging Face folder of a %s model", (variant) => {
  it("the config names a class of the module beside it, and the folder reads back as the same model", async () => {
    const source = await writeCheckpoint(path(variant), { variant });
    const folder = await hfFolder(source, path(`${variant}-hf`));
    const config = configIn(folder);
    expect(config).toMatchObject({ model_type: "gpt2", nfc_variant: variant });
    expect(readFileSync(join(folder, HF_CODE_FILE), "utf8")).toBe(CODE);
    expect(Object.keys(config.auto_map)).toContain("AutoModelForCausalLM");
    for (const reference of Object.values(config.auto_map) as string[]) {
      const [module, name] = reference.split(".");
      expect(`${module}.py`).toBe(HF_CODE_FILE);
      expect(CODE).toMatch(new RegExp(`^class ${name}\\(`, "m"));
    }
    expect(await ownLogits(folder, PROMPT)).toEqual(await ownLogits(source, PROMPT));
  });

  it("the module has the variant by name", () => {
    expect(CODE).toContain(`\n${variant} `);
  });
});

it("a dense model is written as transformers' own GPT-2", async () => {
  const source = await writeCheckpoint(path("dense"), {});
  const folder = await hfFolder(source, path("dense-hf"));
  expect(existsSync(join(folder, HF_CODE_FILE))).toBe(false);
  expect(configIn(folder)).not.toHaveProperty("auto_map");
  expect(configIn(folder).architectures).toEqual(["GPT2LMHeadModel"]);
});

it("tensors have the names that transformers saves, with the untied head outside the transformer", async () => {
  const source = await writeCheckpoint(path("own-head"), { variant: "noise-distance", head: "own" });
  const folder = await hfFolder(source, path("own-head-hf"));
  const reader = await openSafetensors(join(folder, "model.safetensors"));
  const names = [...reader.tensors.keys()];
  await reader.close();
  const expected = await opened(source, ({ config }) => listParameters(config).map(({ name }) => name));
  expect(names.sort()).toEqual(
    expected.map((name) => (name === "lm_head.weight" ? name : `transformer.${name}`)).sort(),
  );
});

it("a model without biases gets zeros in the dtype of its weights, which compute the same", async () => {
  const source = await writeCheckpoint(path("no-bias"), { variant: "symmetric", bias: false, dtype: "BF16" });
  const folder = await hfFolder(source, path("no-bias-hf"));
  await opened(folder, async (checkpoint) => {
    expect(checkpoint.config.bias).toBe(true);
    expect(checkpoint.tensors.get("h.0.attn.c_attn.bias")?.dtype).toBe("BF16");
    expect((await bytesOf(checkpoint, "ln_f.bias")).every((byte) => byte === 0)).toBe(true);
  });
  expect(await ownLogits(folder, PROMPT)).toEqual(await ownLogits(source, PROMPT));
});

it("a Hugging Face folder is converted and split into shards on request", async () => {
  const source = await writeCheckpoint(path("shards"), { variant: "noise-per-head" });
  const folder = await hfFolder(source, path("shards-hf"), { dtype: "F16", maxShardSize: 2000 });
  expect(configIn(folder).dtype).toBe("float16");
  await opened(folder, (checkpoint) => {
    expect(checkpoint.reader.files.length).toBeGreaterThan(1);
    expect(checkpoint.tensors.get("wte.weight")?.dtype).toBe("F16");
  });
});

it("auto_map is dropped where the module is not copied", async () => {
  const folder = await hfFolder(await writeCheckpoint(path("next"), { variant: "symmetric" }), path("next-hf"));
  mkdirSync(path("next-plain"));
  await opened(folder, (checkpoint) => writeModelFiles(path("next-plain"), checkpoint, checkpoint.config));
  expect(configIn(folder)).toHaveProperty("auto_map");
  expect(configIn(path("next-plain"))).not.toHaveProperty("auto_map");
});

describe("the Python module of a Hugging Face folder", () => {
  it("the module has as many distance buckets as nfc", () => {
    expect(CODE).toContain(`\nBUCKETS = ${DISTANCE_BUCKETS}\n`);
  });

  const python = spawnSync("python3", ["--version"]).status === 0;
  it.skipIf(!python)("the module compiles in Python", () => {
    const script = "import ast, sys; ast.parse(sys.stdin.read(), feature_version=(3, 9))";
    const { status, stderr } = spawnSync("python3", ["-c", script], { input: CODE, encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });
});
