// Turns text into token ids by the model's own tokenizer.json, vocab.json with merges.txt, or GPT-2's built-in vocabulary.
import { createHash } from "node:crypto";
import { NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import type { TokenIds } from "./encoding/encode-pool.ts";
import type { Pipeline } from "./encoding/pipeline.ts";
import { quote } from "./fields.ts";
import { readGpt2Json, readTokenizerJson, type TokenizerJson } from "./tokenizer-json.ts";

export const GPT2_VOCABULARY = 50_257;
/** GPT-2's vocabulary padded to a multiple of 64, as nanoGPT does. */
export const NANOGPT_VOCABULARY = 50_304;
/** Stands for the way in which text is encoded: caches of ids that were made in another way are made again. */
const ENCODING = "2";

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
  /**
   * The ids of a text that comes in pieces: those of the whole text, in memory that does not grow with it.
   * @param threads workers that encode a long text ahead of the reader; 1, the default, is the calling thread
   */
  stream(texts: AsyncIterable<string>, threads?: number): AsyncGenerator<TokenIds>;
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

/**
 * A model's tokens by their ids, added ones among them.
 * @throws NfcError as `loadTokenizer`
 */
export async function listModelTokens({ folder, config }: TokenizedModel): Promise<ReadonlyMap<number, string>> {
  const own = folder === null ? null : await readTokenizerJson(folder);
  if (own === null) await loadTokenizer(folder, config); // says that there is none
  const { vocab, added } = (own ?? (await readGpt2Json())).definition;
  return new Map([
    ...[...vocab].map(([token, id]) => [id, token] as const),
    ...added.map(({ id, content }) => [id, content] as const),
  ]);
}

interface TokenizedModel {
  folder: string | null;
  config: ModelConfig;
}

/** @param vocabulary tokens of the model; null where none is at hand */
async function makeTokenizer({ json, definition }: TokenizerJson, vocabulary: number | null): Promise<Tokenizer> {
  const { Pipeline } = await import("./encoding/pipeline.ts");
  const { cutPieces } = await import("./encoding/cuts.ts");
  const { encodePieces } = await import("./encoding/encode-pool.ts");
  const pipeline = new Pipeline(definition);
  const { size } = pipeline;
  const check = <Ids extends TokenIds>(ids: Ids): Ids =>
    vocabulary === null || size <= vocabulary ? ids : checkIds(ids, pipeline, vocabulary);
  const source = { json: JSON.stringify(json), file: definition.file };
  return {
    name: definition.file,
    fingerprint: createHash("sha256").update(ENCODING).update(source.json).digest("hex"),
    size,
    encode: (text) => check(pipeline.encode(text)),
    decode: (ids) => pipeline.decode(ids),
    async *stream(texts, threads = 1) {
      for await (const ids of encodePieces(cutPieces(texts, pipeline), pipeline, { ...source, threads }))
        yield check(ids);
    },
  };
}

/**
 * A tokenizer may have tokens that its model lacks, such as one for padding; a text that has one cannot be read.
 * @throws NfcError "mismatch"
 */
export function checkIds<Ids extends TokenIds>(ids: Ids, pipeline: Pipeline, vocabulary: number): Ids {
  const wrong = findFrom(ids, vocabulary);
  if (wrong === undefined) return ids;
  const token = quote(pipeline.findToken(wrong) ?? "");
  const fact = `the text has the token ${token} with id ${wrong}, and the model has only ${vocabulary} tokens`;
  throw new NfcError("mismatch", `${pipeline.file}: ${fact}`, {
    hint: "take the token out of the text, or give the model a row for it (resize_token_embeddings in transformers)",
  });
}

/** The first id that is not under `limit`. */
function findFrom(ids: TokenIds, limit: number): number | undefined {
  for (let i = 0; i < ids.length; i++) if ((ids[i] as number) >= limit) return ids[i];
  return undefined;
}

async function makeBuiltIn(folder: string | null, config: ModelConfig): Promise<Tokenizer> {
  if (config.vocab_size !== GPT2_VOCABULARY && config.vocab_size !== NANOGPT_VOCABULARY)
    throw new NfcError(
      "not-found",
      `${folder ?? "the checkpoint"}: no tokenizer.json, and its vocabulary of ${config.vocab_size} is not GPT-2's`,
      { hint: "put the model's tokenizer.json beside its weights" },
    );
  const tokenizer = await makeTokenizer(await readGpt2Json(), config.vocab_size);
  const last = GPT2_VOCABULARY - 1; // ids of padding rows are shown as the end of a text
  const decode = (ids: readonly number[]) => tokenizer.decode(ids.map((id) => Math.min(id, last)));
  return { ...tokenizer, name: "GPT-2 (built in)", decode };
}
