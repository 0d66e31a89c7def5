// Turns text into token ids by the model's own tokenizer.json, vocab.json with merges.txt, or GPT-2's built-in vocabulary.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeError, NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import { FieldReader, isJsonObject } from "./fields.ts";

export const GPT2_VOCABULARY = 50_257;
/** GPT-2's vocabulary padded to a multiple of 64, as nanoGPT does. */
export const NANOGPT_VOCABULARY = 50_304;
const END_OF_TEXT = "<|endoftext|>";
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
  /** False when text must be encoded whole, because pieces cut at newlines might encode differently. */
  readonly piecewise: boolean;
  /** Special tokens in the text (`<|endoftext|>`) are recognized, as Hugging Face's tokenizers do. */
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
  if (fileExists(path))
    return makeHuggingFace(path, (await readJsonFile(path, { maxBytes: MAX_TOKENIZER_BYTES })) as object);
  const [vocabulary, merges] = [join(folder, "vocab.json"), join(folder, "merges.txt")];
  if (!fileExists(vocabulary) || !fileExists(merges)) return null;
  const vocab = await readJsonFile(vocabulary, { maxBytes: MAX_TOKENIZER_BYTES });
  return makeHuggingFace(vocabulary, makeByteLevelBpe(vocab as Record<string, number>, await readFile(merges, "utf8")));
}

/** The pairs of a merges.txt, the first to merge first. */
function listMerges(mergesText: string): string[] {
  return mergesText.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"));
}

/** Makes the content of a tokenizer.json from GPT-2's older pair of files. */
function makeByteLevelBpe(vocab: Record<string, number>, mergesText: string): object {
  const merges = listMerges(mergesText);
  const id = vocab[END_OF_TEXT];
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return {
    version: "1.0",
    added_tokens: id === undefined ? [] : [{ id, content: END_OF_TEXT, special: true, ...plain }],
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
        tokens.length === 0 // the library refuses an empty list
          ? ""
          : inner.decode([...tokens], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
    };
  } catch (cause) {
    throw new NfcError("invalid-file", `${path}: not a tokenizer that can be read: ${describeError(cause)}`, { cause });
  }
}

/**
 * GPT-2's tokens by their ids, in the alphabet of its merges.txt: a character for each byte (the printable bytes
 * themselves, then U+0100 on for the others), what each merge makes, and the end of a text.
 */
function listGpt2Tokens(mergesText: string): string[] {
  const codes = [...range(33, 127), ...range(161, 173), ...range(174, 256), ...range(256, 324)];
  const made = listMerges(mergesText).map((pair) => pair.replace(" ", ""));
  return [...codes.map((code) => String.fromCodePoint(code)), ...made, END_OF_TEXT];
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

async function makeBuiltIn(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  if (config.vocab_size !== GPT2_VOCABULARY && config.vocab_size !== NANOGPT_VOCABULARY)
    throw new NfcError(
      "not-found",
      `${folder ?? "the checkpoint"}: no tokenizer.json, and its vocabulary of ${config.vocab_size} is not GPT-2's`,
      { hint: "put the model's tokenizer.json beside its weights" },
    );
  const merges = await withIoErrors(MERGES, () => readFile(MERGES, "utf8"));
  const vocab = Object.fromEntries(listGpt2Tokens(merges).map((token, id) => [token, id]));
  const tokenizer = await makeHuggingFace(MERGES, makeByteLevelBpe(vocab, merges));
  const last = GPT2_VOCABULARY - 1; // ids of padding rows are shown as the end of a text
  const decode = (ids: readonly number[]) => tokenizer.decode(ids.map((id) => Math.min(id, last)));
  return { ...tokenizer, name: "GPT-2 (built in)", encode: makeWordEncoder(tokenizer), decode };
}

/** GPT-2's words: no merge reaches from one into the next. */
const WORD = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
/** How many words' ids are kept; 16 MB of prose have some 100,000 words. */
const MAX_WORDS = 2 ** 18;

/** `encode` with a memory for words, which makes it ten times as fast. */
function makeWordEncoder({ encode }: Tokenizer): Tokenizer["encode"] {
  const known = new Map<string, readonly number[]>();
  const encodeWord = (word: string) => {
    const ids = known.get(word) ?? encode(word);
    if (known.size < MAX_WORDS) known.set(word, ids);
    return ids;
  };
  return (text) => {
    const ids: number[] = [];
    for (const [i, part] of text.split(END_OF_TEXT).entries()) {
      if (i > 0) ids.push(GPT2_VOCABULARY - 1);
      for (const [word] of part.matchAll(WORD)) for (const id of encodeWord(word)) ids.push(id);
    }
    return ids;
  };
}

/**
 * One more than the largest token id of tokenizer.json (vocabulary and added tokens) or vocab.json; undefined when
 * `folder` has neither.
 * @throws NfcError `invalid-file` when the file does not hold a vocabulary
 */
export async function readTokenizerSize(folder: string): Promise<number | undefined> {
  const tokenizer = join(folder, "tokenizer.json");
  if (fileExists(tokenizer)) {
    const fields = new FieldReader(await readJsonFile(tokenizer, { maxBytes: MAX_TOKENIZER_BYTES }), tokenizer);
    const model = fields.value("model");
    const vocabulary = isJsonObject(model) && isJsonObject(model.vocab) ? Object.values(model.vocab) : [];
    const added = fields.value("added_tokens");
    const extra = Array.isArray(added) ? added.map((token) => (isJsonObject(token) ? token.id : undefined)) : [];
    return countIds([...vocabulary, ...extra], fields, "model");
  }
  const vocab = join(folder, "vocab.json");
  if (!fileExists(vocab)) return undefined;
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
