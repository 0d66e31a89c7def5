// The tokenizer.json of GPT-2's older files: which tokens are added with which ids; the numbers are those of transformers.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { completeTokenizer } from "../../src/checkpoint/complete-tokenizer.ts";
import { readGpt2Json, readTokenizerJson } from "../../src/checkpoint/tokenizer-json.ts";
import { failureOf } from "../support/failure.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("tokenizer-json");
let count = 0;
let folder = "";
beforeEach(() => {
  folder = path(`folder${count++}`);
  mkdirSync(folder);
  put("vocab.json", { "<|endoftext|>": 0, a: 1, b: 2, ab: 3 });
  writeFileSync(join(folder, "merges.txt"), "#version: 0.2\na b\n");
});

const put = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value));

interface Written {
  added_tokens: Record<string, unknown>[];
  pre_tokenizer: unknown;
  model: unknown;
}
const written = async () => (await readTokenizerJson(folder))?.json as unknown as Written;
/** Ids by content; special tokens are marked by a star. */
const added = async () =>
  Object.fromEntries(
    (await written()).added_tokens.map(({ content, special, id }) => [content + (special ? "*" : ""), id]),
  );

describe("tokens beside vocab.json and merges.txt", () => {
  it("the vocabulary's own end of a text is special without any other file", async () => {
    expect(await added()).toEqual({ "<|endoftext|>*": 0 });
    expect((await written()).model).toMatchObject({ type: "BPE", vocab: { ab: 3 }, merges: ["a b"] });
  });

  it("added_tokens.json gives ids, special_tokens_map.json says which are special", async () => {
    put("added_tokens.json", { "<|x|>": 4, "<|pad|>": 5 });
    put("special_tokens_map.json", { pad_token: "<|pad|>", bos_token: { content: "<|endoftext|>", lstrip: true } });
    expect(await added()).toEqual({ "<|endoftext|>*": 0, "<|x|>": 4, "<|pad|>*": 5 });
    const [end, x, pad] = (await written()).added_tokens;
    expect(end).toMatchObject({ lstrip: false, rstrip: false, normalized: false, single_word: false });
    expect(x).toMatchObject({ normalized: true });
    expect(pad).toMatchObject({ normalized: false });
  });

  it("added_tokens_decoder counts alone, with what it says of each token", async () => {
    put("tokenizer_config.json", {
      pad_token: "<|pad|>",
      added_tokens_decoder: { 4: { content: "<|x|>", lstrip: true, special: false }, 5: { content: "<|pad|>" } },
    });
    put("added_tokens.json", { "<|ignored|>": 6 });
    put("special_tokens_map.json", { sep_token: "<|ignored too|>" });
    expect(await added()).toEqual({ "<|endoftext|>*": 0, "<|x|>": 4, "<|pad|>*": 5 });
    expect((await written()).added_tokens[1]).toMatchObject({ content: "<|x|>", lstrip: true });
  });

  it("special tokens that no vocabulary has come last, the named ones first", async () => {
    put("tokenizer_config.json", { additional_special_tokens: ["<|i|>"], image_token: "<|img|>", add_bos_token: true });
    put("special_tokens_map.json", { mask_token: { content: "<mask>", lstrip: true }, unk_token: "a" });
    put("added_tokens.json", { "<|x|>": 4 });
    expect(await added()).toEqual({
      "<|endoftext|>*": 0,
      "a*": 1,
      "<|x|>": 4,
      "<mask>*": 5,
      "<|img|>*": 6,
      "<|i|>*": 7,
    });
  });

  it.each([true, false])("add_prefix_space %s of tokenizer_config.json is kept", async (add_prefix_space) => {
    put("tokenizer_config.json", { add_prefix_space });
    expect((await written()).pre_tokenizer).toMatchObject({ type: "ByteLevel", add_prefix_space });
  });

  it.each([
    ["vocab.json", { a: "0" }, 'the id of token "a" is "0"'],
    ["vocab.json", { a: 2 ** 31 }, 'the id of token "a" is 2147483648'],
    ["vocab.json", { a: null }, 'the id of token "a" is null'],
    ["added_tokens.json", { "<|x|>": 1.5 }, 'the id of token "<|x|>" is 1.5'],
    ["added_tokens.json", ["x"], 'is ["x"], not a JSON object'],
    ["tokenizer_config.json", { added_tokens_decoder: { x: { content: "y" } } }, 'the id of token "y" is "x"'],
    ["tokenizer_config.json", { added_tokens_decoder: { 4: "y" } }, 'is "y", not a JSON object'],
  ])("an id of %s that is none is refused: %j", async (name, value, fact) => {
    put(name, value);
    const error = await failureOf(() => readTokenizerJson(folder));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(`${join(folder, name)}: ${fact}`);
  });
});

describe("completing a tokenizer", () => {
  const config = { ...tinyModelConfig(), n_positions: 77 };
  const json = (content: string | Uint8Array | undefined) => JSON.parse(String(content));

  it("the settings name GPT-2's class and the special tokens, which transformers.js reads nowhere else", async () => {
    const special = { pad_token: "<|pad|>", bos_token: { content: "<|endoftext|>", lstrip: false } };
    put("special_tokens_map.json", special);
    const files = new Map([["special_tokens_map.json", JSON.stringify(special)]]);
    const complete = await completeTokenizer(files, folder, config);
    expect(json(complete.get("tokenizer_config.json"))).toEqual({
      tokenizer_class: "GPT2Tokenizer",
      model_max_length: 77,
      pad_token: "<|pad|>",
      bos_token: "<|endoftext|>",
    });
    expect(json(complete.get("tokenizer.json"))).toEqual(await written());
  });

  it("a tokenizer.json without settings gets some, and stays as it is", async () => {
    const complete = await completeTokenizer(new Map([["tokenizer.json", "{}"]]), folder, config);
    expect(complete.get("tokenizer.json")).toBe("{}");
    expect(json(complete.get("tokenizer_config.json"))).toEqual({ tokenizer_class: "PreTrainedTokenizerFast" });
  });

  it.each([50_257, 50_304])("a vocabulary of %d without files is GPT-2's", async (vocab_size) => {
    const complete = await completeTokenizer(new Map(), null, { ...config, vocab_size });
    expect(json(complete.get("tokenizer.json"))).toEqual((await readGpt2Json()).json);
    expect(json(complete.get("tokenizer_config.json"))).toMatchObject({ eos_token: "<|endoftext|>" });
    const { model, added_tokens } = json(complete.get("tokenizer.json"));
    expect(Object.keys(model.vocab)).toHaveLength(50_257);
    expect([model.vocab.Hello, model.vocab["\u0120world"], added_tokens[0].id]).toEqual([15_496, 995, 50_256]);
  });

  it.each([
    ["another vocabulary", new Map<string, string>(), 640],
    ["a tokenizer of SentencePiece", new Map([["spiece.model", "x"]]), 50_257],
    ["a vocabulary of words", new Map([["vocab.txt", "x"]]), 50_257],
  ])("nothing is made up for %s", async (_, files, vocab_size) => {
    expect(await completeTokenizer(files, null, { ...config, vocab_size })).toBe(files);
  });
});
