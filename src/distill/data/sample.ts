// A part of a corpus in memory, to measure a run without writing a token cache.
import { TokenMeter } from "../../checkpoint/token-meter.ts";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { streamTokens } from "../../checkpoint/tokens.ts";
import { throwIfAborted } from "../../errors.ts";
import { checkIds } from "../../formats/ids/stream.ts";
import { nameCorpus } from "./corpus.ts";
import { type CorpusOptions, makeEmptyError } from "./token-cache.ts";
import type { Corpus } from "./windows.ts";

export interface CorpusSample {
  /** The first tokens, or all. */
  corpus: Corpus;
  /** Tokens of the whole corpus; `exact` unless they were estimated from its bytes. */
  tokens: number;
  exact: boolean;
  /** Seconds that the whole corpus takes to be tokenized. */
  seconds: number;
}

/**
 * Tokenizes text until there are `wanted` tokens.
 * @throws NfcError as `streamTokens`; "invalid-file" for a text without tokens
 */
export async function sampleText(
  files: readonly string[],
  tokenizer: Tokenizer,
  { field, vocabulary, signal }: CorpusOptions,
  wanted: number,
): Promise<CorpusSample> {
  const meter = await TokenMeter.open(files);
  const started = performance.now();
  const ids: number[] = [];
  let exact = true;
  for await (const piece of meter.count(streamTokens(files, tokenizer, { field, signal, onBytes: meter.onBytes }))) {
    throwIfAborted(signal);
    for (const id of piece) ids.push(id);
    exact = ids.length < wanted;
    if (!exact) break;
  }
  const name = nameCorpus(files);
  if (ids.length === 0) throw makeEmptyError(name);
  checkIds(name, ids, 0, vocabulary);
  const tokens = (exact ? null : meter.estimate()) ?? ids.length;
  return {
    corpus: {
      ...{ name, tokens: ids.length, fingerprint: "" },
      read: async (start, count) => Int32Array.from(ids.slice(start, start + count)),
    },
    tokens,
    exact,
    seconds: ((performance.now() - started) / 1000) * (tokens / ids.length),
  };
}
