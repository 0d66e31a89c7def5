// A part of a corpus in memory, to measure a run without writing a token cache.
import { stat } from "node:fs/promises";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { streamTokens } from "../../checkpoint/tokens.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { nameCorpus } from "./corpus.ts";
import type { CorpusOptions } from "./token-cache.ts";
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
  let total = 0;
  for (const path of files) total += (await withIoErrors(path, () => stat(path))).size;
  let bytes = 0;
  const onBytes = (more: number) => {
    bytes += more;
  };
  const started = performance.now();
  const ids: number[] = [];
  let exact = true;
  for await (const piece of streamTokens(files, tokenizer, { field, signal, onBytes })) {
    throwIfAborted(signal);
    for (const id of piece) ids.push(id);
    exact = ids.length < wanted;
    if (!exact) break;
  }
  const name = nameCorpus(files);
  if (ids.length === 0) throw new NfcError("invalid-file", `${name}: no tokens in it`, { hint: "give a longer text" });
  const wrong = ids.find((id) => id >= vocabulary);
  if (wrong !== undefined)
    throw new NfcError("mismatch", `${name}: token ${wrong}, the model has ${vocabulary} tokens`, {
      hint: "use the model's own tokenizer",
    });
  const share = exact ? 1 : Math.min(1, bytes / total);
  return {
    corpus: {
      ...{ name, tokens: ids.length, fingerprint: "" },
      read: async (start, count) => Int32Array.from(ids.slice(start, start + count)),
    },
    tokens: Math.round(ids.length / share),
    exact,
    seconds: (performance.now() - started) / 1000 / share,
  };
}
