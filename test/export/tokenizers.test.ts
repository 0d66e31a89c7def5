// Exports of models without a tokenizer.json, and with several end tokens, run in transformers.js as the README says.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AutoTokenizer, env, pipeline } from "@huggingface/transformers";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { generate } from "../../src/inference/generate/generate-text.ts";
import { exported } from "../support/exported.ts";
import { converted, MODEL, opened } from "../support/fixture.ts";
import { tinyHfConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("tokenizers");
const TOKENIZER = JSON.parse(readFileSync(join(MODEL, "tokenizer.json"), "utf8"));
const VOCABULARY = Object.keys(TOKENIZER.model.vocab).length;

beforeAll(() => {
  mkdirSync(path("models"));
  env.allowRemoteModels = false;
  env.localModelPath = path("models/");
});

const put = (folder: string, name: string, value: unknown) =>
  writeFileSync(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));
const readJson = (...parts: string[]) => JSON.parse(readFileSync(path(...parts), "utf8"));

/** GPT-2's older files for the fixture's vocabulary. */
function putOlderFiles(folder: string): void {
  put(folder, "vocab.json", TOKENIZER.model.vocab);
  put(folder, "merges.txt", TOKENIZER.model.merges.map((pair: string[]) => pair.join(" ")).join("\n"));
}

/** Ids by transformers.js, which must also generate; and by nfc, from the export. */
async function encodeWithBoth(name: string, text: string): Promise<{ theirs: number[]; ours: number[] }> {
  const write = await pipeline("text-generation", name, { dtype: "fp32" });
  const [written] = await write("The old", { max_new_tokens: 3, do_sample: false });
  expect((written as { generated_text: string }).generated_text).toMatch(/^ ?The old/);
  await write.dispose();
  const { folder, config } = await openExportedModel(path("models", name));
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  return {
    theirs: tokenizer.encode(text, { add_special_tokens: false }),
    ours: (await loadTokenizer(folder, config)).encode(text),
  };
}

describe("the tokenizer of an export runs in transformers.js", () => {
  const settings = { tokenizer_class: "GPT2Tokenizer", add_prefix_space: true };

  it.each([true, false])("vocab.json and merges.txt with added tokens, add_prefix_space %s", async (prefix) => {
    const name = `older-${prefix}`;
    const source = await writeCheckpoint(path(name), { vocab: VOCABULARY + 2 });
    putOlderFiles(source);
    put(source, "added_tokens.json", { "<|start|>": VOCABULARY, "<|pad|>": VOCABULARY + 1 });
    put(source, "special_tokens_map.json", { bos_token: "<|start|>", pad_token: "<|pad|>" });
    if (prefix) put(source, "tokenizer_config.json", settings);
    const tied = path(`${name}-tied`);
    await converted({ output: tied }, source);
    await exported(tied, path("models", name));
    const { theirs, ours } = await encodeWithBoth(name, "the<|start|>harbour");
    expect(ours).toEqual(theirs);
    expect(theirs).toContain(VOCABULARY);
    const space = (await loadTokenizer(MODEL, { vocab_size: 384 } as never)).encode(" the");
    expect(theirs.slice(0, space.length).join() === space.join()).toBe(prefix);
    expect(readJson("models", name, "tokenizer_config.json")).toMatchObject({ pad_token: "<|pad|>" });
  });

  it("a vocabulary that was cut to what a text uses", async () => {
    const tied = path("cut-tied");
    put(path(), "cut.txt", "The old sailor watches the harbour.");
    await converted({ output: tied, vocabulary: { text: [path("cut.txt")] } });
    await exported(tied, path("models/cut"));
    const text = "The old sailor, Über 蒙古 👩‍👧 {\n\treturn 1;}<|endoftext|>";
    const { theirs, ours } = await encodeWithBoth("cut", text);
    expect(ours).toEqual(theirs);
    const tokenizer = await AutoTokenizer.from_pretrained("cut");
    expect(tokenizer.decode(theirs)).toBe(text);
    expect(readJson("models", "cut", "config.json").vocab_size).toBeLessThan(300);
  });

  it("GPT-2's vocabulary where there are no tokenizer files", async () => {
    await exported(await writeCheckpoint(path("built-in"), { vocab: 50_257 }), path("models/built-in"));
    const { theirs, ours } = await encodeWithBoth("built-in", "Hello world<|endoftext|>Hello");
    expect(theirs).toEqual([15496, 995, 50256, 15496]);
    expect(ours).toEqual(theirs);
  });

  it("a Unigram tokenizer.json without settings", async () => {
    const source = await writeCheckpoint(path("unigram"), { vocab: 30 });
    const pieces = ["\u2581the", "\u2581old", "\u2581", ..."theoldsar"];
    put(source, "tokenizer.json", {
      version: "1.0",
      added_tokens: [{ id: 0, content: "<unk>", special: true, lstrip: false, rstrip: false, normalized: false }],
      normalizer: null,
      pre_tokenizer: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true },
      post_processor: null,
      decoder: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true },
      model: { type: "Unigram", unk_id: 0, vocab: [["<unk>", 0], ...pieces.map((piece, i) => [piece, -1 - i])] },
    });
    await exported(source, path("models/unigram"));
    const tokenizer = await AutoTokenizer.from_pretrained("unigram");
    expect(tokenizer.encode("the old", { add_special_tokens: false })).toEqual([1, 2]);
  });

  it("a tokenizer that nfc does not read goes along, with a note, and nothing is made up", async () => {
    const source = await writeCheckpoint(path("foreign"), {});
    put(source, "spiece.model", "x");
    const { notes } = await exported(source, path("models/foreign"));
    expect(notes).toEqual([expect.stringMatching(/^\S+spiece\.model: copied, but/)]);
    expect(readFileSync(path("models/foreign/spiece.model"), "utf8")).toBe("x");
  });
});

describe("several end tokens", () => {
  const PROMPT = "The old sailor watches";
  let second = 0;
  /** The fixture's tokens after the prompt, up to the first that was not there before. */
  let expected: number[] = [];

  const copyWith = (name: string, config: object, generation: object | null): string => {
    cpSync(MODEL, path(name), { recursive: true });
    put(path(name), "config.json", { ...JSON.parse(readFileSync(join(MODEL, "config.json"), "utf8")), ...config });
    rmSync(path(name, "generation_config.json"));
    if (generation) put(path(name), "generation_config.json", generation);
    return path(name);
  };

  beforeAll(async () => {
    const ids: number[] = [];
    await opened(MODEL, async (model) => {
      for await (const { id } of generate(model, { prompts: [PROMPT], maxNewTokens: 8, end: [], temperature: 0 }))
        if (id !== null) ids.push(id);
    });
    const at = ids.findIndex((id, i) => i > 1 && ids.indexOf(id) === i);
    second = ids[at] as number;
    expected = ids.slice(0, at + 1);
  });

  it.each(["config.json", "generation_config.json"])("all of %s survive, and each ends a text", async (file) => {
    const ends = { eos_token_id: [0, second] };
    const name = `ends-${file}`;
    const source = file === "config.json" ? copyWith(name, ends, null) : copyWith(name, { eos_token_id: 0 }, ends);
    await exported(source, path("models", name));
    expect(readJson("models", name, file)).toMatchObject(ends);
    expect(readJson("models", name, "genai_config.json").model).toMatchObject({ ...ends, pad_token_id: 0 });
    const write = await pipeline("text-generation", name, { dtype: "fp32" });
    const [written] = await write(PROMPT, { max_new_tokens: 20, do_sample: false });
    await write.dispose();
    const ids: number[] = [];
    const model = await openExportedModel(path("models", name));
    for await (const { id } of generate(model, { prompts: [PROMPT], maxNewTokens: 20, temperature: 0 }))
      if (id !== null) ids.push(id);
    expect(ids).toEqual(expected);
    const tokenizer = await loadTokenizer(model.folder, model.config);
    const text = (written as { generated_text: string }).generated_text;
    expect(tokenizer.encode(text)).toHaveLength(tokenizer.encode(PROMPT).length + expected.length);
    const tied = path(`tied-${name}`);
    await converted({ output: tied }, source);
    expect(readJson(`tied-${name}`, file)).toMatchObject(ends);
  });

  it("GPT-2's default end token is written where config.json is silent", async () => {
    const { eos_token_id: _, bos_token_id: __, ...config } = tinyHfConfig({ vocab: 50_257 });
    const source = await writeCheckpoint(path("silent"), { vocab: 50_257, config });
    await exported(source, path("models/silent"));
    expect(readJson("models/silent/config.json")).toMatchObject({ eos_token_id: 50_256, bos_token_id: 50_256 });
    expect(readJson("models/silent/genai_config.json").model).toMatchObject({ eos_token_id: 50_256 });
  });
});
