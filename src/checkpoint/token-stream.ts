// Opens texts or files of token ids as streams of a model's ids; files of ids need no tokenizer.

import { streamIds } from "../formats/ids/stream.ts";
import { detectCommonKind, type ReadOptions } from "../io/data-file.ts";
import { readTextPieces, type TextOptions } from "../io/text.ts";
import type { ModelConfig } from "../model/config.ts";
import type { TokenIds } from "./encoding/encode-pool.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { streamTokens, type TokenOptions } from "./tokens.ts";

/** The model whose ids are wanted: its tokenizer's folder, and its vocabulary. */
export interface TokenModel {
  folder: string | null;
  config: ModelConfig;
}

/**
 * A function that streams the ids of the files from their beginning: of text by the model's tokenizer, of .bin, llm.c's
 * shards and .npy as they are.
 * @throws NfcError as `loadTokenizer` and `detectCommonKind`; the stream as `streamTokens`
 * and `streamIds`
 */
export async function openTokenStream(
  paths: readonly string[],
  { folder, config }: TokenModel,
  options: TokenOptions = {},
): Promise<() => AsyncGenerator<TokenIds>> {
  if ((await detectCommonKind(paths)) === "ids") return () => streamIdFiles(paths, config.vocab_size, options);
  const tokenizer = await loadTokenizer(folder, config);
  return () => streamTokens(paths, tokenizer, options);
}

/** Reads the files to their end, so that a wrong name or a broken line shows before minutes of work. @throws NfcError */
export async function readThrough(
  paths: readonly string[],
  { config }: TokenModel,
  options: TextOptions = {},
): Promise<void> {
  const ids = (await detectCommonKind(paths)) === "ids";
  for await (const _ of ids ? streamIdFiles(paths, config.vocab_size, options) : readTextPieces(paths, options)) {
    // Every piece is checked as it is read.
  }
}

async function* streamIdFiles(
  paths: readonly string[],
  vocabulary: number,
  options: ReadOptions,
): AsyncGenerator<TokenIds> {
  for (const path of paths) yield* streamIds(path, vocabulary, options);
}
