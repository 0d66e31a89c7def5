// Text to token ids: the model's own tokenizer.json, vocab.json with merges.txt, or GPT-2's built-in vocabulary.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describeError, NfcError } from "../errors.ts";
import { readJsonFile } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import { FieldReader, isJsonObject } from "./fields.ts";

export const GPT2_VOCABULARY = 50_257;
/** GPT-2's vocabulary padded to a multiple of 64, as nanoGPT does. */
export const NANOGPT_VOCABULARY = 50_304;
const END_OF_TEXT = "<|endoftext|>";
/** tokenizer.json files are a few MB (a 250k vocabulary has 17 MB). */
const MAX_TOKENIZER_BYTES = 256 * 2 ** 20;

/** The files that make up a tokenizer, copied from source to output. */
export const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "vocab.json",
  "merges.txt",
  "special_tokens_map.json",
  "added_tokens.json",
] as const;

export interface Tokenizer {
  /** Where it comes from, for reports. */
  readonly name: string;
  /** sha256 of its definition: caches of token ids are keyed by it. */
  readonly fingerprint: string;
  /** One more than the largest token id. */
  readonly size: number;
  /** False when text must be encoded whole, because pieces cut at newlines might encode differently. */
  readonly piecewise: boolean;
  /** Special tokens in the text (`<|endoftext|>`) are recognised, as Hugging Face's tokenizers do. */
  encode(text: string): number[];
  decode(ids: readonly number[]): string;
}

/**
 * The tokenizer of a model folder; GPT-2's own where the folder has none and the vocabulary is GPT-2's.
 * @throws NfcError "not-found" without a tokenizer, "mismatch" when it has more ids than the model
 */
export async function loadTokenizer(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  const tokenizer = (folder === null ? null : await readTokenizer(folder)) ?? (await makeBuiltIn(folder, config));
  if (tokenizer.size > config.vocab_size)
    throw new NfcError("mismatch", `${tokenizer.name} has ${tokenizer.size} ids, the model ${config.vocab_size}`, {
      hint: "put the tokenizer files of this model beside its weights",
    });
  return tokenizer;
}

/** The tokenizer whose files lie in a folder; null when there are none. */
export async function readTokenizer(folder: string): Promise<Tokenizer | null> {
  const path = join(folder, "tokenizer.json");
  if (existsSync(path))
    return makeHuggingFace(path, (await readJsonFile(path, { maxBytes: MAX_TOKENIZER_BYTES })) as object);
  const [vocabulary, merges] = [join(folder, "vocab.json"), join(folder, "merges.txt")];
  if (!existsSync(vocabulary) || !existsSync(merges)) return null;
  const vocab = await readJsonFile(vocabulary, { maxBytes: MAX_TOKENIZER_BYTES });
  return makeHuggingFace(vocabulary, makeByteLevelBpe(vocab as Record<string, number>, await readFile(merges, "utf8")));
}

/** tokenizer.json for GPT-2's older pair of files. */
function makeByteLevelBpe(vocab: Record<string, number>, mergesText: string): object {
  const merges = mergesText.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"));
  const end = { id: vocab[END_OF_TEXT], content: END_OF_TEXT, special: true };
  const added = end.id === undefined ? [] : [end];
  return {
    version: "1.0",
    added_tokens: added.map((token) => ({
      ...token,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", dropout: null, unk_token: null, vocab, merges },
  };
}

interface TokenizerJson {
  pre_tokenizer?: { type?: string } | null;
  added_tokens?: { lstrip?: boolean; rstrip?: boolean }[];
}

async function makeHuggingFace(path: string, json: object): Promise<Tokenizer> {
  const { Tokenizer: HuggingFaceTokenizer } = await import("@huggingface/tokenizers");
  const { pre_tokenizer, added_tokens = [] } = json as TokenizerJson;
  try {
    const inner = new HuggingFaceTokenizer(json, {});
    const ids = [...inner.get_vocab(true).values()];
    return {
      name: path,
      fingerprint: createHash("sha256").update(JSON.stringify(json)).digest("hex"),
      size: ids.reduce((most, id) => Math.max(most, id + 1), 0),
      piecewise: pre_tokenizer?.type === "ByteLevel" && !added_tokens.some((token) => token.lstrip || token.rstrip),
      encode: (text) => inner.encode(text, { add_special_tokens: false }).ids,
      decode: (tokens) =>
        inner.decode([...tokens], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
    };
  } catch (cause) {
    throw new NfcError("invalid-file", `${path}: not a tokenizer that can be read: ${describeError(cause)}`, { cause });
  }
}

async function makeBuiltIn(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  if (config.vocab_size !== GPT2_VOCABULARY && config.vocab_size !== NANOGPT_VOCABULARY)
    throw new NfcError(
      "not-found",
      `${folder ?? "the checkpoint"}: no tokenizer.json, and its vocabulary of ${config.vocab_size} is not GPT-2's`,
      { hint: "put the model's tokenizer.json beside its weights" },
    );
  const r50k = await import("gpt-tokenizer/encoding/r50k_base");
  const { default: tokens } = await import("gpt-tokenizer/bpeRanks/r50k_base"); // text, or bytes where it is no UTF-8
  return {
    name: "GPT-2 (built in)",
    fingerprint: "r50k_base",
    size: GPT2_VOCABULARY,
    piecewise: true,
    encode: (text) => r50k.encode(text, { allowedSpecial: "all" }),
    // Not r50k.decode, which keeps the bytes of an unfinished character for its next call.
    decode: (ids) => Buffer.concat(ids.map((id) => Buffer.from(tokens[id] ?? END_OF_TEXT))).toString(),
  };
}

/**
 * One more than the largest token id of tokenizer.json (vocabulary and added tokens) or vocab.json; undefined when
 * `folder` has neither.
 * @throws NfcError `invalid-file` when the file does not hold a vocabulary
 */
export async function readTokenizerSize(folder: string): Promise<number | undefined> {
  const tokenizer = join(folder, "tokenizer.json");
  if (existsSync(tokenizer)) {
    const fields = new FieldReader(await readJsonFile(tokenizer, { maxBytes: MAX_TOKENIZER_BYTES }), tokenizer);
    const model = fields.value("model");
    const vocabulary = isJsonObject(model) && isJsonObject(model.vocab) ? Object.values(model.vocab) : [];
    const added = fields.value("added_tokens");
    const extra = Array.isArray(added) ? added.map((token) => (isJsonObject(token) ? token.id : undefined)) : [];
    return countIds([...vocabulary, ...extra], fields, "model");
  }
  const vocab = join(folder, "vocab.json");
  if (!existsSync(vocab)) return undefined;
  const fields = new FieldReader(await readJsonFile(vocab, { maxBytes: MAX_TOKENIZER_BYTES }), vocab);
  return countIds(Object.values(fields.raw), fields, "the vocabulary");
}

function countIds(ids: readonly unknown[], fields: FieldReader, key: string): number {
  let largest = -1;
  for (const id of ids) {
    if (typeof id === "number" && Number.isSafeInteger(id) && id > largest) largest = id;
  }
  if (largest < 0) throw fields.wrong(key, "a vocabulary with token ids");
  return largest + 1;
}
