// Turns files into streams of ids without holding the text, and ids into overlapping windows for scoring.
import { NfcError } from "../errors.ts";
import { readTextPieces, type TextOptions } from "../io/text.ts";
import { timeStream } from "../io/timings.ts";
import type { TokenIds } from "./encoding/encode-pool.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface TokenOptions extends TextOptions {
  /** Called with the bytes in UTF-8 of each piece of text. */
  onText?: ((bytes: number) => void) | undefined;
  /** Workers that encode ahead of the reader; 1 unless given, the calling thread. */
  threads?: number | undefined;
}

/** Gives the ids of the files' text, piece by piece. @throws NfcError as `readTextPieces` and `Tokenizer.encode` */
export async function* streamTokens(
  paths: readonly string[],
  tokenizer: Tokenizer,
  options: TokenOptions = {},
): AsyncGenerator<TokenIds> {
  const pieces = readTextPieces(paths, options);
  const texts = options.onText ? countBytes(pieces, options.onText) : pieces;
  yield* timeStream("reading the text", tokenizer.stream(texts, options.threads));
}

async function* countBytes(texts: AsyncIterable<string>, onText: (bytes: number) => void): AsyncGenerator<string> {
  for await (const text of texts) {
    onText(Buffer.byteLength(text));
    yield text;
  }
}

/** A stretch of text to score: `ids`, of which the last `fresh` were in no window before. */
export interface Window {
  ids: Int32Array;
  fresh: number;
}

/**
 * Windows of `length` ids that start every `stride`, as in Hugging Face's perplexity recipe; the last one may be
 * shorter.
 */
export async function* cutWindows(
  tokens: AsyncIterable<TokenIds>,
  { length, stride }: { length: number; stride: number },
): AsyncGenerator<Window> {
  let buffer: number[] = [];
  let scored = 0; // ids at the buffer's start that an earlier window has scored
  let first = true;
  for await (const ids of tokens) {
    for (const id of ids) buffer.push(id);
    let start = 0;
    // A window with an id after it is not the last one.
    while (buffer.length - start > length) {
      yield { ids: Int32Array.from(buffer.slice(start, start + length)), fresh: first ? length : length - scored };
      first = false;
      scored = length - stride;
      start += stride;
    }
    if (start > 0) buffer = buffer.slice(start);
  }
  const fresh = buffer.length - (first ? 0 : scored);
  if (fresh > 0) yield { ids: Int32Array.from(buffer), fresh };
}

/** The first `count` ids as windows of `length`; a shorter text gives fewer. @throws NfcError when there are under two ids */
export async function takeWindows(
  tokens: AsyncIterable<TokenIds>,
  { length, count, name }: { length: number; count: number; name: string },
): Promise<Int32Array[]> {
  const result: Int32Array[] = [];
  for await (const { ids } of cutWindows(tokens, { length, stride: length })) {
    if (ids.length === length || result.length === 0) result.push(ids);
    if (result.length * length >= count) break;
  }
  if ((result[0]?.length ?? 0) < 2)
    throw new NfcError("invalid-file", `${name}: the text has under two tokens`, { hint: "give a longer text" });
  return result;
}
