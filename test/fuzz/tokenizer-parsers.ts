// The parsers of tokenizers: each kind of tokenizer.json, older files, and what lies beside them.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { collectModelFiles } from "../../src/checkpoint/collect-files.ts";
import { completeTokenizer, explainTokenizer } from "../../src/checkpoint/complete-tokenizer.ts";
import { cutPieces } from "../../src/checkpoint/encoding/cuts.ts";
import { checkDefinition } from "../../src/checkpoint/encoding/definition.ts";
import { Pipeline } from "../../src/checkpoint/encoding/pipeline.ts";
import { makePrecompiled } from "../../src/checkpoint/encoding/precompiled.ts";
import { readTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { listNamedIds, readTokenizerSize } from "../../src/checkpoint/vocabulary-size.ts";
import { parseJson } from "../../src/io/json.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";
import { encode, inMemory, ofFile } from "./make-parser.ts";
import type { Target } from "./target.ts";
import { GENERATION } from "./valid-files.ts";
import { CHARSMAP, TOKENIZERS } from "./valid-tokenizers.ts";

const FIXTURE = fileURLToPath(new URL("../../fixtures/tiny-gpt2/", import.meta.url));
const TOKENIZER = readFileSync(join(FIXTURE, "tokenizer.json"));
const { vocab, merges } = JSON.parse(TOKENIZER.toString()).model as {
  vocab: Record<string, number>;
  merges: unknown[];
};
const VOCABULARY = encode(vocab);
const MERGES = Buffer.from(merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : pair)).join("\n"));
const PAIR = { "vocab.json": VOCABULARY, "merges.txt": MERGES };
const SIZE = Object.keys(vocab).length;
const TEXT = "Once upon a time, 12 <|endoftext|> caf\u00e9 \ud83d\ude00\r\n  x mask <x> A\u0301 [MASK]. Not n't";

const TOKEN = { lstrip: false, rstrip: true, single_word: false, normalized: false, content: "<pad>" };
const SETTINGS = {
  ...{ tokenizer_class: "GPT2Tokenizer", add_prefix_space: true, model_max_length: 1e30, auto_map: { a: "b.c" } },
  ...{ eos_token: "<|endoftext|>", pad_token: TOKEN, additional_special_tokens: ["<a>", "<b>"] },
  added_tokens_decoder: { 0: { ...TOKEN, content: "<|endoftext|>" }, [SIZE]: { ...TOKEN, special: true } },
};
const SPECIAL = { bos_token: "<|endoftext|>", pad_token: TOKEN, additional_special_tokens: ["<a>"] };

async function useTokenizer(folder: string): Promise<void> {
  const size = await readTokenizerSize(folder);
  if (size !== undefined && !Number.isSafeInteger(size)) throw new Error(`size ${size}`);
  const tokenizer = await readTokenizer(folder);
  if (tokenizer && tokenizer.size !== size) throw new Error(`sizes ${tokenizer.size} and ${size}`);
  const ids = tokenizer?.encode(TEXT) ?? [];
  if (ids.some((id) => !Number.isSafeInteger(id) || id < 0 || id >= (size ?? 0)))
    throw new Error(`ids ${ids.slice(0, 8).join()}`);
  tokenizer?.decode(ids);
}

/** Reads the files that go with a model, and puts a tokenizer.json together. */
async function completeFiles(folder: string): Promise<void> {
  const { files } = await collectModelFiles(folder);
  const complete = await completeTokenizer(files, folder, tinyModelConfig({ vocab: SIZE }));
  explainTokenizer(complete, folder);
  for (const [name, content] of complete) if (name.endsWith(".json")) JSON.parse(Buffer.from(content).toString());
  await useTokenizer(folder);
}

/** A text's ids are those of its pieces. */
async function cutText(input: Uint8Array): Promise<void> {
  const pipeline = new Pipeline(checkDefinition(parseJson(input, "tokenizer.json"), "tokenizer.json"));
  const text = `${TEXT}. ${TEXT}`;
  const whole = pipeline.encode(text);
  const place = { first: true, continued: false };
  const ids: number[] = [];
  for await (const piece of cutPieces(splitText(text), pipeline, 8))
    for (const id of pipeline.encode(piece, place)) ids.push(id);
  if (ids.join() !== whole.join())
    throw new Error(`pieces have ids ${ids.slice(0, 99).join()}, the text ${whole.slice(0, 99).join()}`);
}

async function* splitText(text: string): AsyncGenerator<string> {
  for (let at = 0; at < text.length; at += 5) yield text.slice(at, at + 5);
}

export const TOKENIZER_PARSERS: readonly Target[] = [
  ofFile("tokenizer", ["tokenizer.json", "json"], [TOKENIZER], { read: (_, folder) => useTokenizer(folder) }),
  ofFile("tokenizer-kinds", ["tokenizer.json", "json"], TOKENIZERS.map(encode), {
    read: (_, folder) => useTokenizer(folder),
  }),
  inMemory("text-cuts", "json", TOKENIZERS.map(encode), cutText),
  inMemory("charsmap", "bytes", [CHARSMAP], (input) =>
    makePrecompiled(Buffer.from(input).toString("base64"), "tokenizer.json")(TEXT),
  ),
  ofFile("vocabulary", ["vocab.json", "json"], [VOCABULARY], {
    beside: PAIR,
    read: (_, folder) => useTokenizer(folder),
  }),
  ofFile("merges", ["merges.txt", "lines"], [MERGES], { beside: PAIR, read: (_, folder) => useTokenizer(folder) }),
  ofFile("vocabulary-lines", ["vocab.txt", "bytes"], [Buffer.from("[PAD]\n[UNK]\na\n##b\n\u00e9\n")], {
    beside: { "tokenizer_config.json": encode({ pad_token: "[PAD]", mask_token: "[MASK]" }) },
    read: (_, folder) => completeFiles(folder),
  }),
  ofFile("tokenizer-settings", ["tokenizer_config.json", "json"], [encode(SETTINGS)], {
    beside: PAIR,
    read: (_, folder) => completeFiles(folder),
  }),
  ofFile("special-tokens", ["special_tokens_map.json", "json"], [encode(SPECIAL)], {
    beside: PAIR,
    read: (_, folder) => completeFiles(folder),
  }),
  ofFile("added-tokens", ["added_tokens.json", "json"], [encode({ "<pad>": SIZE, "<a>": SIZE + 1 })], {
    beside: { ...PAIR, "special_tokens_map.json": encode(SPECIAL) },
    read: (_, folder) => completeFiles(folder),
  }),
  ofFile("companions", ["generation_config.json", "json"], [encode({ ...GENERATION, custom_generate: "a" })], {
    beside: { ...PAIR, "tokenizer_config.json": encode(SETTINGS) },
    read: (file, folder) => {
      listNamedIds(parseJson(readFileSync(file), "generation_config.json"));
      return collectModelFiles(folder);
    },
  }),
];
