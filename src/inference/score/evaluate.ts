// Measures the perplexity of a model on text, and its KL and top-1 agreement with another model, window by window.

import { type Checkpoint, readWeights } from "../../checkpoint/checkpoint.ts";
import type { TokenIds } from "../../checkpoint/encoding/encode-pool.ts";
import { matchTokens } from "../../checkpoint/match-tokens.ts";
import { TokenMeter } from "../../checkpoint/token-meter.ts";
import { openTokenStream } from "../../checkpoint/token-stream.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import type { Value } from "../../graph/ir.ts";
import {
  type Device,
  makeInt64Tensor,
  type Operands,
  Session,
  type SessionOptions,
  type TensorArray,
  type Tensors,
} from "../../graph/session.ts";
import type { NoiseMode } from "../../model/attention.ts";
import { refuseClassifier } from "../../model/classifier.ts";
import type { LongCall } from "../../progress.ts";
import {
  batchWindows,
  refuseInfinite,
  refuseShortText,
  resolveWindow,
  type Score,
  type ScoringBatch,
  type Subject,
  Sums,
  type WindowOptions,
  type WindowValues,
} from "./scored-text.ts";
import { AGAINST, buildScoringGraph } from "./scoring-graph.ts";

export type { Score } from "./scored-text.ts";

interface ScoreOptions extends WindowOptions, LongCall {
  /** Ids of the text, in pieces. */
  tokens: AsyncIterable<TokenIds>;
  /** Tokens of the text, as far as that is known by now. */
  countTokens?: (() => number | null) | undefined;
  /** Told what each window that counts was measured to be: what errors of the means are computed from. */
  onWindow?: ((values: WindowValues<(typeof COMPARED)[number]>) => void) | undefined;
}

/** Either `text` or `tokens` says what is scored. */
export interface EvaluateOptions extends WindowOptions, LongCall {
  /** Files of text, read with the checkpoint's tokenizer, or of token ids. */
  text?: readonly string[] | undefined;
  /** Field of .jsonl lines that holds the text; "text" unless given. */
  field?: string | undefined;
  /** Ids of the text, in pieces. */
  tokens?: AsyncIterable<TokenIds> | undefined;
  /** Another model to compare with, on the same tokens. */
  against?: Checkpoint | undefined;
  noise?: NoiseMode | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
}

export interface Evaluation extends Score {
  /** Tokens scored. */
  tokens: number;
  windows: number;
  length: number;
  stride: number;
  /** Tokens through the model in a second, both models counted as one when there are two. */
  tokensPerSecond: number;
  /** Bits that a byte of the text takes, which compares models of different tokens; undefined where ids were given. */
  bitsPerByte?: number | undefined;
  against?: Score & {
    bitsPerByte?: number | undefined;
    /** Tokens among which its probabilities are, where they are not all of its own: those that the model has kept. */
    among?: number | undefined;
    /** Mean KL(against ‖ model) of a token, in nats. */
    kl: number;
    /** Share of positions where both models' most likely token is the same. */
    agreement: number;
  };
}

/**
 * Perplexity by Hugging Face's recipe for fixed-length models: windows of `length` that start every `stride`, each
 * scored on the tokens that no earlier window has scored. A window's mean is weighted by its fresh tokens less one,
 * as in that recipe; without overlap this is the plain mean over all scored tokens.
 * @throws NfcError "mismatch" for ids past the vocabulary or models of different vocabularies, "usage" for a bad window
 */
export async function evaluate(checkpoint: Checkpoint, given: EvaluateOptions): Promise<Evaluation> {
  refuseClassifier(checkpoint);
  const against = given.against && (await matchTokens(checkpoint, given.against));
  const options = { ...given, against };
  resolveWindow(checkpoint, options); // before the weights are read
  const meter = await TokenMeter.open(options.text ?? []);
  const tokens = options.tokens ?? meter.count(await streamText(checkpoint, options, meter));
  const scorer = await openScorer(checkpoint, options);
  try {
    const result = await scorer.score({ ...options, tokens, countTokens: meter.estimate });
    return {
      ...withBitsPerByte(result, meter),
      ...(result.against && { against: describeAgainst(result.against, against, meter) }),
    };
  } finally {
    await scorer.close();
  }
}

function withBitsPerByte<Scored extends Score>(score: Scored, meter: TokenMeter): Scored & { bitsPerByte?: number } {
  const bitsPerByte = meter.toBitsPerByte(score.nll);
  return bitsPerByte === undefined ? score : { ...score, bitsPerByte };
}

function describeAgainst(
  score: NonNullable<Evaluation["against"]>,
  against: Checkpoint | undefined,
  meter: TokenMeter,
): NonNullable<Evaluation["against"]> {
  const among = against?.selection === undefined ? {} : { among: against.config.vocab_size };
  return { ...withBitsPerByte(score, meter), ...among };
}

async function streamText(
  { folder, config }: Checkpoint,
  { text, field, signal }: EvaluateOptions,
  { onBytes, onText }: TokenMeter,
): Promise<AsyncIterable<TokenIds>> {
  if (!text) throw new NfcError("usage", "nothing to score", { hint: "give text, the files, or tokens, their ids" });
  return (await openTokenStream(text, { folder, config }, { field, signal, onBytes, onText }))();
}

const COMPARED = ["nll", "nll_against", "kl", "agreement"] as const;

/** A model, or two, ready to score texts. */
export interface Scorer {
  score(options: ScoreOptions): Promise<Evaluation>;
  close(): Promise<void>;
}

/** Opens stored models, whose weights the session owns. */
export async function openScorer(
  checkpoint: Checkpoint,
  {
    against,
    noise = { kind: "mean" },
    device,
    threads,
  }: Pick<EvaluateOptions, "against" | "noise" | "device" | "threads">,
): Promise<Scorer> {
  const graph = buildScoringGraph(checkpoint.config, against?.config, noise);
  const weights = new Map<string, TensorArray>(await readWeights(checkpoint));
  if (against) for (const [name, data] of await readWeights(against, AGAINST)) weights.set(name, data);
  const weightOf = ({ name }: Value) => weights.get(name) as TensorArray;
  return makeScorer(checkpoint, against, await Session.withWeights(graph, weightOf, { device, threads }), () => ({}));
}

/** Opens a model in training. @param readWeights gives its weights where they lie, at each call */
export async function openLiveScorer(
  subject: Subject,
  readWeights: () => Operands,
  options: SessionOptions,
): Promise<Scorer> {
  const graph = buildScoringGraph(subject.config, undefined, { kind: "mean" });
  return makeScorer(subject, undefined, await Session.withInputs(graph, options), readWeights);
}

function makeScorer(
  subject: Subject,
  against: Subject | undefined,
  session: Session,
  readLiveWeights: () => Operands,
): Scorer {
  const score = async (options: ScoreOptions): Promise<Evaluation> => {
    const { tokens, countTokens, onWindow, signal, onProgress, ...window } = options;
    const size = resolveWindow(subject, { ...window, against });
    const total = { tokens: 0, windows: 0, seconds: 0 };
    const sums = new Sums(against ? COMPARED : COMPARED.slice(0, 1));
    for await (const batch of batchWindows(tokens, subject, size)) {
      throwIfAborted(signal);
      const started = performance.now();
      sums.add(batch, await session.run({ ...readLiveWeights(), ...makeBatchFeeds(batch) }), onWindow);
      total.seconds += (performance.now() - started) / 1000;
      total.tokens += batch.rows.length;
      total.windows += batch.windows.length;
      // The first token of a text is read, not scored.
      const all = countTokens?.() ?? null;
      onProgress?.({ phase: "scoring", done: total.tokens, total: all && Math.max(all, total.tokens), unit: "tokens" });
    }
    refuseShortText(total.tokens);
    refuseInfinite(subject, [sums.mean("nll")]);
    if (against) refuseInfinite(against, [sums.mean("nll_against")]);
    return {
      ...sums.score("nll"),
      tokens: total.tokens,
      windows: total.windows,
      ...size,
      tokensPerSecond: total.tokens / total.seconds,
      ...(against && {
        against: { ...sums.score("nll_against"), kl: sums.mean("kl"), agreement: sums.mean("agreement") },
      }),
    };
  };
  return { score, close: () => session.close() };
}

function makeBatchFeeds(batch: ScoringBatch): Tensors {
  const { length, windows } = batch;
  const ids = windows.flatMap((window) => [...window.ids]);
  const shape = [windows.length, length];
  const positions = ids.map((_, i) => i % length);
  return {
    input_ids: makeInt64Tensor(ids, shape),
    position_ids: makeInt64Tensor(positions, shape),
    ...batch.scored(),
  };
}
