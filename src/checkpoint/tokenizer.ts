// Turns text into token ids by the model's own tokenizer.json, vocab.json with merges.txt, or GPT-2's built-in vocabulary.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import { BYTE_ALPHABET } from "./encoding/bytes.ts";
import { checkDefinition } from "./encoding/definition.ts";
import type { Pipeline } from "./encoding/pipeline.ts";
import { FieldReader, isJsonObject, quote } from "./fields.ts";
import { END_OF_TEXT, listMerges, makeByteLevelBpe, readTokenizerJson, type TokenizerJson } from "./tokenizer-files.ts";

export const GPT2_VOCABULARY = 50_257;
/** GPT-2's vocabulary padded to a multiple of 64, as nanoGPT does. */
export const NANOGPT_VOCABULARY = 50_304;
/** Stands for the way in which text is encoded: caches of ids that were made in another way are made again. */
const ENCODING = "2";
/** GPT-2's own merges, from which its whole vocabulary follows. */
const MERGES = fileURLToPath(new URL("../../assets/gpt2-merges.txt", import.meta.url));
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
  /** The name of its source, for reports. */
  readonly name: string;
  /** sha256 of its definition: caches of token ids are keyed by it. */
  readonly fingerprint: string;
  /** One more than the largest token id. */
  readonly size: number;
  /**
   * Special tokens in the text (`<|endoftext|>`) are recognized, as Hugging Face's tokenizers do.
   * @throws NfcError "mismatch" for a token that the model lacks, or a word that the tokenizer does not know
   */
  encode(text: string): number[];
  /** The ids of a text that comes in pieces: those of the whole text, in memory that does not grow with it. */
  stream(texts: AsyncIterable<string>): AsyncGenerator<number[]>;
  decode(ids: readonly number[]): string;
}

/**
 * The tokenizer of a model folder; GPT-2's own where the folder has none and the vocabulary is GPT-2's.
 * @throws NfcError "not-found" without a tokenizer, "invalid-file", "unsupported"
 */
export async function loadTokenizer(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  const own = folder === null ? null : await readTokenizer(folder, config.vocab_size);
  return own ?? (await makeBuiltIn(folder, config));
}

/** The tokenizer whose files lie in a folder; null when there are none. @throws NfcError "invalid-file", "unsupported" */
export async function readTokenizer(folder: string, vocabulary: number | null = null): Promise<Tokenizer | null> {
  const found = await readTokenizerJson(folder);
  return found && makeTokenizer(found, vocabulary);
}

/** @param vocabulary tokens of the model; null where none is at hand */
async function makeTokenizer({ file, json }: TokenizerJson, vocabulary: number | null): Promise<Tokenizer> {
  const { Pipeline } = await import("./encoding/pipeline.ts");
  const { cutPieces } = await import("./encoding/cuts.ts");
  const pipeline = new Pipeline(checkDefinition(json, file));
  const { size } = pipeline;
  const check = (ids: number[]) =>
    vocabulary === null || size <= vocabulary ? ids : checkIds(ids, pipeline, vocabulary);
  return {
    name: file,
    fingerprint: createHash("sha256").update(ENCODING).update(JSON.stringify(json)).digest("hex"),
    size,
    encode: (text) => check(pipeline.encode(text)),
    decode: (ids) => pipeline.decode(ids),
    async *stream(texts) {
      const place = { first: true, continued: false };
      for await (const piece of cutPieces(texts, pipeline)) yield check(pipeline.encode(piece, place));
    },
  };
}

/** A tokenizer may have tokens that its model lacks, such as one for padding; a text that has one cannot be read. */
function checkIds(ids: number[], pipeline: Pipeline, vocabulary: number): number[] {
  const wrong = ids.find((id) => id >= vocabulary);
  if (wrong === undefined) return ids;
  const token = quote(pipeline.token(wrong) ?? "");
  const fact = `the text has the token ${token} with id ${wrong}, and the model has only ${vocabulary} tokens`;
  throw new NfcError("mismatch", `${pipeline.file}: ${fact}`, {
    hint: "take the token out of the text, or give the model a row for it (resize_token_embeddings in transformers)",
  });
}

/**
 * GPT-2's tokens by their ids, in the alphabet of its merges.txt: a character for each byte, what each merge makes, and
 * the end of a text.
 */
function listGpt2Tokens(mergesText: string): string[] {
  const made = listMerges(mergesText).map((pair) => pair.replace(" ", ""));
  return [...BYTE_ALPHABET, ...made, END_OF_TEXT];
}

/** The content of GPT-2's own tokenizer.json. */
async function makeGpt2Json(): Promise<TokenizerJson> {
  const merges = await withIoErrors(MERGES, () => readFile(MERGES, "utf8"));
  const vocab = Object.fromEntries(listGpt2Tokens(merges).map((token, id) => [token, id]));
  const end = { id: GPT2_VOCABULARY - 1, content: END_OF_TEXT, single_word: false, lstrip: false, rstrip: false };
  const added_tokens = [{ ...end, normalized: false, special: true }];
  return { file: MERGES, json: { ...makeByteLevelBpe(vocab, merges), added_tokens } };
}

async function makeBuiltIn(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  if (config.vocab_size !== GPT2_VOCABULARY && config.vocab_size !== NANOGPT_VOCABULARY)
    throw new NfcError(
      "not-found",
      `${folder ?? "the checkpoint"}: no tokenizer.json, and its vocabulary of ${config.vocab_size} is not GPT-2's`,
      { hint: "put the model's tokenizer.json beside its weights" },
    );
  const tokenizer = await makeTokenizer(await makeGpt2Json(), config.vocab_size);
  const last = GPT2_VOCABULARY - 1; // ids of padding rows are shown as the end of a text
  const decode = (ids: readonly number[]) => tokenizer.decode(ids.map((id) => Math.min(id, last)));
  return { ...tokenizer, name: "GPT-2 (built in)", decode };
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
