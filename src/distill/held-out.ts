// Measures perplexity on held-out tokens while a model trains.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { SessionOptions } from "../graph/session.ts";
import { openLiveScorer, openScorer, type Scorer } from "../inference/score/evaluate.ts";
import { isUsedAtMean } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import type { TokenRange } from "./data/windows.ts";
import type { ParameterState } from "./step/parameter-state.ts";

const PIECE = 8192;

/** Reads the first `limit` tokens of a range, piece by piece. */
async function* readRange({ corpus, start, end }: TokenRange, limit: number): AsyncGenerator<number[]> {
  const stop = Math.min(end, start + limit);
  for (let at = start; at < stop; at += PIECE) yield [...(await corpus.read(at, Math.min(PIECE, stop - at)))];
}

export interface HeldOutOptions {
  range: TokenRange;
  /** Tokens to score at most, in windows of `length`. */
  tokens: number;
  length: number;
  session: SessionOptions;
  signal?: AbortSignal | undefined;
}

export async function scoreCheckpoint(
  checkpoint: Checkpoint,
  options: HeldOutOptions,
  onProgress?: LongCall["onProgress"],
): Promise<number> {
  const scorer = await openScorer(checkpoint, options.session);
  try {
    return await measurePerplexity(scorer, options, onProgress);
  } finally {
    await scorer.close();
  }
}

export interface HeldOut {
  perplexity(onProgress?: LongCall["onProgress"]): Promise<number>;
  close(): Promise<void>;
}

/** Opens a model whose weights are a store's, as they are at each call; the noise is at its mean. */
export async function openHeldOut(
  { config, source }: Pick<Checkpoint, "config" | "source">,
  store: ParameterState,
  options: HeldOutOptions,
): Promise<HeldOut> {
  const names = store.names.filter((name) => isUsedAtMean(name, config));
  const readWeights = () => Object.fromEntries(names.map((name) => [name, store.parameter(name)]));
  const scorer = await openLiveScorer({ config, source }, readWeights, options.session);
  return { perplexity: (onProgress) => measurePerplexity(scorer, options, onProgress), close: () => scorer.close() };
}

/**
 * Gives the perplexity, cut to a finite number because JSON has no infinity.
 * @throws NfcError "invalid-file" when the loss itself is not finite; "aborted"
 */
async function measurePerplexity(
  scorer: Scorer,
  { range, tokens, length, signal }: HeldOutOptions,
  onProgress: LongCall["onProgress"],
): Promise<number> {
  const total = Math.min(tokens, range.end - range.start);
  const result = await scorer.score({
    tokens: readRange(range, tokens),
    countTokens: () => total,
    length,
    signal,
    onProgress,
  });
  return Math.min(result.perplexity, Number.MAX_VALUE);
}
