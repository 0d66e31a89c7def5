// Turns text into token ids by the model's own tokenizer.json, vocab.json with merges.txt, or GPT-2's built-in vocabulary.
import { createHash } from "node:crypto";
import { join } from "node:path";
import { describeError, NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { readCompanionJson } from "./companion-files.ts";
import { END_OF_TEXT, GPT2_MERGES, readByteLevelBpe, readGpt2Definition } from "./tokenizer-json.ts";

export const GPT2_VOCABULARY = 50_257;
/** GPT-2's vocabulary padded to a multiple of 64, as nanoGPT does. */
export const NANOGPT_VOCABULARY = 50_304;

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
  const json = await readCompanionJson(folder, "tokenizer.json");
  if (json !== undefined) return makeHuggingFace(join(folder, "tokenizer.json"), json as object);
  const older = await readByteLevelBpe(folder);
  return older === null ? null : makeHuggingFace(join(folder, "vocab.json"), older);
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

async function makeBuiltIn(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  if (config.vocab_size !== GPT2_VOCABULARY && config.vocab_size !== NANOGPT_VOCABULARY)
    throw new NfcError(
      "not-found",
      `${folder ?? "the checkpoint"}: no tokenizer.json, and its vocabulary of ${config.vocab_size} is not GPT-2's`,
      { hint: "put the model's tokenizer.json beside its weights" },
    );
  const tokenizer = await makeHuggingFace(GPT2_MERGES, await readGpt2Definition());
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
