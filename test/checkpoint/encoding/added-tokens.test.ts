// The tokens that files beside vocab.json and merges.txt add, with the ids that transformers 5 gives them.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { MODEL } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("added-tokens");

/** What the files are about, the files, a text and its ids by transformers 5.18. */
const CASES: [string, Record<string, unknown>, string, number[]][] = [
  [
    "added_tokens.json",
    {
      "added_tokens.json": { "<|start|>": 384, "<|pad|>": 385 },
      "tokenizer_config.json": { tokenizer_class: "GPT2Tokenizer" },
    },
    "<|start|>The king<|pad|>  x",
    [384, 339, 33, 108, 297, 104, 385, 33, 33, 121],
  ],
  [
    "special_tokens_map.json",
    {
      "special_tokens_map.json": {
        bos_token: "<|start|>",
        pad_token: { lstrip: true, rstrip: false, single_word: false, normalized: false, content: "<|pad|>" },
      },
      "tokenizer_config.json": { tokenizer_class: "GPT2Tokenizer" },
    },
    "<|start|>The  <|pad|>",
    [384, 339, 385],
  ],
  [
    "both",
    {
      "added_tokens.json": { "<|pad|>": 385, "<|start|>": 384 },
      "special_tokens_map.json": { bos_token: "<|start|>", additional_special_tokens: ["<|pad|>", "<|more|>"] },
      "tokenizer_config.json": { tokenizer_class: "GPT2Tokenizer" },
    },
    "<|more|><|start|>a<|pad|>",
    [386, 384, 98, 385],
  ],
  [
    "added_tokens_decoder",
    {
      "tokenizer_config.json": {
        added_tokens_decoder: {
          "0": {
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
            content: "<|endoftext|>",
            special: true,
          },
          "384": { lstrip: true, rstrip: true, single_word: false, normalized: false, content: "[M]", special: true },
          "385": { lstrip: false, rstrip: false, single_word: true, normalized: false, content: "sea", special: false },
        },
        tokenizer_class: "GPT2Tokenizer",
      },
    },
    "a [M] b sea seas sea. [M]<|endoftext|> x",
    [98, 384, 99, 33, 385, 269, 102, 264, 33, 385, 47, 384, 0, 33, 121],
  ],
  [
    "added_tokens_decoder before the older files",
    {
      "tokenizer_config.json": {
        pad_token: "<|p|>",
        added_tokens_decoder: {
          "384": { lstrip: false, rstrip: false, single_word: false, normalized: false, content: "[M]", special: true },
        },
        tokenizer_class: "GPT2Tokenizer",
      },
      "special_tokens_map.json": { bos_token: "<|start|>" },
      "added_tokens.json": { "[N]": 384 },
    },
    "[N][M]<|start|><|p|>",
    [92, 79, 94, 384, 61, 125, 116, 117, 261, 117, 125, 63, 385],
  ],
  [
    "special tokens named by tokenizer_config.json",
    {
      "tokenizer_config.json": {
        pad_token: {
          __type: "AddedToken",
          lstrip: false,
          rstrip: true,
          single_word: false,
          normalized: false,
          content: "<|pad|>",
        },
        eos_token: "</s>",
        extra_special_tokens: ["<|x|>"],
        tokenizer_class: "GPT2Tokenizer",
      },
    },
    "a</s><|pad|>  b<|x|><|endoftext|>",
    [98, 384, 385, 99, 386, 0],
  ],
  [
    "add_prefix_space",
    { "tokenizer_config.json": { add_prefix_space: true, tokenizer_class: "GPT2Tokenizer" } },
    "The king<|endoftext|>The",
    [340, 33, 108, 297, 104, 0, 340],
  ],
  [
    "none",
    { "tokenizer_config.json": { tokenizer_class: "GPT2Tokenizer" } },
    "The king<|endoftext|>The",
    [339, 33, 108, 297, 104, 0, 339],
  ],
];

test.each(CASES)("%s", async (name, files, text, ids) => {
  const folder = at(name.replaceAll(" ", "-"));
  await mkdir(folder);
  const { model } = JSON.parse(await readFile(join(MODEL, "tokenizer.json"), "utf8"));
  await writeFile(join(folder, "vocab.json"), JSON.stringify(model.vocab));
  const merges = model.merges.map((pair: string[]) => pair.join(" "));
  await writeFile(join(folder, "merges.txt"), ["#version: 0.2", ...merges, ""].join("\n"));
  for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), JSON.stringify(content));
  const tokenizer = await readTokenizer(folder);
  expect(tokenizer?.encode(text)).toEqual(ids);
});
