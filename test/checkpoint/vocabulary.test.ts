// The number of tokens of the tokenizer beside a checkpoint.
import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { listNamedIds, readTokenizerSize } from "../../src/checkpoint/vocabulary-size.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("vocabulary");

async function folderWith(name: string, files: Record<string, unknown>): Promise<string> {
  await mkdir(path(name));
  for (const [file, content] of Object.entries(files))
    await writeFile(path(name, file), typeof content === "string" ? content : JSON.stringify(content));
  return path(name);
}

describe("the size of a tokenizer", () => {
  it("the size is one more than the largest id of tokenizer.json, added tokens included", async () => {
    const tokenizer = { model: { vocab: { a: 0, b: 1 } }, added_tokens: [{ id: 2, content: "<|end|>" }] };
    expect(
      await readTokenizerSize(await folderWith("json", { "tokenizer.json": tokenizer, "vocab.json": { a: 99 } })),
    ).toBe(3);
  });

  it("the size is known without added tokens", async () => {
    expect(
      await readTokenizerSize(await folderWith("plain", { "tokenizer.json": { model: { vocab: { a: 2 } } } })),
    ).toBe(3);
  });

  it("vocab.json gives the size where there is no tokenizer.json", async () => {
    expect(await readTokenizerSize(await folderWith("vocab", { "vocab.json": { a: 0, b: 1 } }))).toBe(2);
  });

  it("the size is unknown without tokenizer.json and vocab.json", async () => {
    expect(await readTokenizerSize(await folderWith("none", {}))).toBeUndefined();
  });

  it("a Unigram vocabulary is counted, though it has no ids", async () => {
    const vocab = [["<unk>", 0], ["<s>", 0], ["</s>", 0], ...Array.from({ length: 597 }, (_, i) => [`t${i}`, -i])];
    const added_tokens = ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content }));
    const tokenizer = { model: { type: "Unigram", unk_id: 0, vocab }, added_tokens };
    const settings = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" };
    const folder = await folderWith("unigram", { "tokenizer.json": tokenizer, "tokenizer_config.json": settings });
    expect(await readTokenizerSize(folder)).toBe(600);
  });

  it.each(["WordPiece", "WordLevel", "BPE"])("a %s vocabulary is counted by its ids", async (type) => {
    const tokenizer = { model: { type, vocab: { "[UNK]": 0, a: 1, b: 7 } } };
    expect(await readTokenizerSize(await folderWith(`of-${type}`, { "tokenizer.json": tokenizer }))).toBe(8);
  });

  it.each([
    ["added_tokens.json", { "added_tokens.json": { "<|x|>": 2, "<|y|>": 3 } }, 4],
    ["added_tokens_decoder", { "tokenizer_config.json": { added_tokens_decoder: { 2: { content: "<|x|>" } } } }, 3],
    ["special_tokens_map.json", { "special_tokens_map.json": { pad_token: "<pad>", bos_token: "a" } }, 3],
    ["additional_special_tokens", { "tokenizer_config.json": { additional_special_tokens: ["<i>", "<j>"] } }, 4],
    ["settings of tokens that the vocabulary has", { "tokenizer_config.json": { pad_token: "b" } }, 2],
  ])("tokens of %s count, beside tokenizer.json and beside vocab.json", async (name, files, size) => {
    const vocab = { a: 0, b: 1 };
    const whole = await folderWith(`whole-${name}`, { "tokenizer.json": { model: { vocab } }, ...files });
    const older = await folderWith(`older-${name}`, { "vocab.json": vocab, ...files });
    expect(await readTokenizerSize(whole)).toBe(size);
    expect(await readTokenizerSize(older)).toBe(size);
  });

  it.each([
    ["lf", "[PAD]\n[UNK]\na\n", 3],
    ["crlf", "[PAD]\r\n[UNK]\r\na", 3],
    ["blank", "[PAD]\n\na\n", 3],
  ])("vocab.txt has a token a line (%s)", async (name, text, size) => {
    expect(await readTokenizerSize(await folderWith(`lines-${name}`, { "vocab.txt": text }))).toBe(size);
  });

  it.each(["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "x.tiktoken", "bpe.codes"])(
    "a size that only %s could tell is not guessed",
    async (file) => {
      const folder = await folderWith(`foreign-${file}`, { [file]: "x", "vocab.txt": "a\nb\n" });
      const error = await failureOf(() => readTokenizerSize(folder));
      expect(error.code).toBe("unsupported");
      expect(error.message).toBe(`${folder}/${file}: nfc cannot tell how many tokens it has`);
      expect(error.hint).toContain("--trim-vocab N");
    },
  );

  it.each([
    ["a string", "1"],
    ["null", null],
    ["a fraction", 1.5],
    ["below zero", -1],
    ["beyond every vocabulary", 2 ** 31],
  ])("an id that is %s is refused", async (name, id) => {
    const folder = await folderWith(`id ${name}`, { "tokenizer.json": { model: { vocab: { a: 0, b: id } } } });
    const error = await failureOf(() => readTokenizerSize(folder));
    expect(error.message).toBe(`${folder}/tokenizer.json: the id of token "b" is ${JSON.stringify(id)}`);
  });

  it.each([
    ["vocab.json", {}],
    ["vocab.txt", ""],
  ])("an empty %s is refused", async (file, content) => {
    const folder = await folderWith(`empty-${file}`, { [file]: content });
    expect((await failureOf(() => readTokenizerSize(folder))).code).toBe("invalid-file");
  });

  it.each([
    ["no-vocab", { model: {} }],
    ["no-model", {}],
    ["no-ids", { model: { vocab: { a: "0" } }, added_tokens: ["x"] }],
  ])("a tokenizer file without ids is refused (%s)", async (name, tokenizer) => {
    const folder = await folderWith(name, { "tokenizer.json": tokenizer });
    const error = await failureOf(() => readTokenizerSize(folder));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(`${folder}/tokenizer.json`);
  });
});

it("all token ids that a configuration names are found, in lists and deeper parts too", () => {
  const config = {
    ...{ vocab_size: 99, n_positions: 77, eos_token_id: [1, 2], bos_token_id: -1, pad_token_id: null },
    ...{ decoder_start_token_id: 3, suppress_tokens: [4, 5], bad_words_ids: [[6], [7, 8]], forced_eos_token_id: 9 },
    ...{ begin_suppress_tokens: [10], forced_decoder_ids: [[0, 11]], sequence_bias: [[[12, 13], -10.5]] },
    task_specific_params: { "text-generation": { max_length: 50, eos_token_id: 14, force_words_ids: [[[15]]] } },
  };
  const ids = listNamedIds(config).map(({ id }) => id);
  expect([...new Set(ids)].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  expect(listNamedIds(config)[0]).toEqual({ key: "eos_token_id", id: 1 });
  expect(listNamedIds(null)).toEqual([]);
});
