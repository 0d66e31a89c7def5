// Perplexity of a model on text, and its KL and top-1 agreement with another model, window by window.
import { NfcError, throwIfAborted } from "../errors.ts";
import type { Value } from "../graph/ir.ts";
import {
  int64Tensor,
  Session,
  type SessionOptions,
  type Tensor,
  type TensorArray,
  type Tensors,
} from "../graph/session.ts";
import type { NoiseMode } from "../model/attention.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { type Window, windows } from "../model/tokens.ts";
import { AGAINST, scoringGraph } from "./scoring-graph.ts";

/** Logits of one batch (rows · V float32) stay below this; a single window may exceed it. */
const LOGITS_PER_BATCH = 16 * 2 ** 20;

export interface ScoreOptions {
  /** Ids of the text, in pieces. */
  tokens: AsyncIterable<readonly number[]>;
  /** Window length; the smaller n_positions unless given. */
  length?: number;
  /** Distance of the windows' starts; `length` unless given: windows that do not overlap. */
  stride?: number;
  onProgress?: (tokens: number) => void;
  signal?: AbortSignal;
}

export interface EvaluateOptions extends ScoreOptions {
  /** Another model to compare with, on the same tokens. */
  against?: Checkpoint;
  noise?: NoiseMode;
  threads?: number;
}

export interface Score {
  /** exp(nll) */
  perplexity: number;
  /** Mean negative log-likelihood of a token, in nats. */
  nll: number;
}

export interface Evaluation extends Score {
  /** Tokens scored. */
  tokens: number;
  windows: number;
  length: number;
  stride: number;
  /** Tokens through the model in a second, both models counted as one when there are two. */
  tokensPerSecond: number;
  against?: Score & {
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
export async function evaluate(checkpoint: Checkpoint, options: EvaluateOptions): Promise<Evaluation> {
  windowSize(checkpoint, options); // before the weights are read
  const scorer = await Scorer.open(checkpoint, options);
  try {
    return await scorer.score(options);
  } finally {
    await scorer.close();
  }
}

/** What is scored: a model, and the name that messages give it. */
type Subject = Pick<Checkpoint, "config" | "source">;

/** A model, or two, ready to score texts. */
export class Scorer {
  private readonly subject: Subject;
  private readonly against: Subject | undefined;
  private readonly session: Session;
  private readonly weights: Tensors;

  private constructor(subject: Subject, against: Subject | undefined, session: Session, weights: Tensors) {
    this.subject = subject;
    this.against = against;
    this.session = session;
    this.weights = weights;
  }

  /** Of stored models, whose weights the session owns. */
  static async open(
    checkpoint: Checkpoint,
    { against, noise = { kind: "mean" }, threads }: Pick<EvaluateOptions, "against" | "noise" | "threads">,
  ): Promise<Scorer> {
    const graph = scoringGraph(checkpoint.config, against?.config, noise);
    const weights = new Map<string, TensorArray>(await load(checkpoint, ""));
    if (against) for (const [name, data] of await load(against, AGAINST)) weights.set(name, data);
    const weightOf = ({ name }: Value) => weights.get(name) as TensorArray;
    const session = await Session.withWeights(graph, weightOf, { ...(threads !== undefined && { threads }) });
    return new Scorer(checkpoint, against, session, {});
  }

  /** Of a model in training: the weights are read where they lie, at each call. */
  static async live(subject: Subject, weights: Tensors, options: SessionOptions): Promise<Scorer> {
    const graph = scoringGraph(subject.config, undefined, { kind: "mean" });
    return new Scorer(subject, undefined, await Session.withInputs(graph, options), weights);
  }

  async score(options: ScoreOptions): Promise<Evaluation> {
    const { signal, onProgress } = options;
    const { against, subject } = this;
    const { length, stride } = windowSize(subject, { ...options, ...(against && { against }) });
    const vocabulary = subject.config.vocab_size;
    const total = { tokens: 0, windows: 0, seconds: 0 };
    const sums = new Sums(against !== undefined);
    const batchSize = Math.max(1, Math.floor(LOGITS_PER_BATCH / (length * vocabulary)));
    for await (const batch of batches(windows(options.tokens, { length, stride }), batchSize)) {
      throwIfAborted(signal);
      checkIds(batch, vocabulary, subject.source);
      const started = performance.now();
      total.tokens += await scoreBatch(this.session, batch, sums, this.weights);
      total.seconds += (performance.now() - started) / 1000;
      total.windows += batch.length;
      onProgress?.(total.tokens);
    }
    if (total.tokens === 0)
      throw new NfcError("invalid-file", "the text has under two tokens: nothing to score", {
        hint: "give a longer text",
      });
    for (const [i, model] of [subject, ...(against ? [against] : [])].entries())
      if (!Number.isFinite(sums.mean(i)))
        throw new NfcError("invalid-file", `${model.source}: its loss is not finite`, {
          hint: "the checkpoint is damaged",
        });
    return {
      ...sums.score(0),
      tokens: total.tokens,
      windows: total.windows,
      length,
      stride,
      tokensPerSecond: total.tokens / total.seconds,
      ...(against && { against: { ...sums.score(1), kl: sums.mean(2), agreement: sums.mean(3) } }),
    };
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

function windowSize(
  checkpoint: Subject,
  { against, length, stride }: Pick<ScoreOptions, "length" | "stride"> & { against?: Subject },
) {
  const limit = Math.min(checkpoint.config.n_positions, against?.config.n_positions ?? Number.POSITIVE_INFINITY);
  const size = length ?? limit;
  const step = stride ?? size;
  if (!(Number.isInteger(size) && size >= 2 && size <= limit))
    throw new NfcError("usage", `the window length ${size} is not between 2 and n_positions, ${limit}`);
  if (!(Number.isInteger(step) && step >= 1 && step <= size))
    throw new NfcError("usage", `the stride ${step} is not between 1 and the window length, ${size}`);
  if (against && against.config.vocab_size !== checkpoint.config.vocab_size)
    throw new NfcError(
      "mismatch",
      `${checkpoint.source} has ${checkpoint.config.vocab_size} tokens, ${against.source} ${against.config.vocab_size}`,
      { hint: "compare models of one vocabulary" },
    );
  return { length: size, stride: step };
}

async function load(checkpoint: Checkpoint, prefix: string): Promise<[string, Float32Array][]> {
  const entries: [string, Float32Array][] = [];
  for (const name of checkpoint.tensors.keys()) entries.push([prefix + name, await checkpoint.readF32(name)]);
  return entries;
}

/** Groups windows of one length. */
async function* batches(source: AsyncIterable<Window>, size: number): AsyncGenerator<Window[]> {
  let batch: Window[] = [];
  for await (const window of source) {
    if (batch.length > 0 && (batch.length === size || batch[0]?.ids.length !== window.ids.length)) {
      yield batch;
      batch = [];
    }
    batch.push(window);
  }
  if (batch.length > 0) yield batch;
}

function checkIds(batch: readonly Window[], vocabulary: number, source: string): void {
  for (const { ids } of batch)
    for (const id of ids)
      if (id < 0 || id >= vocabulary)
        throw new NfcError("mismatch", `${source}: the text has token ${id}, the model ${vocabulary} tokens`, {
          hint: "use the model's own tokenizer",
        });
}

/** Runs a batch and adds its windows to the sums; gives the tokens scored. */
async function scoreBatch(session: Session, batch: readonly Window[], sums: Sums, weights: Tensors): Promise<number> {
  const length = batch[0]?.ids.length as number;
  const shape = [batch.length, length];
  const ids = batch.flatMap((window) => [...window.ids]);
  // Position t predicts the id at t + 1; a window's first id has no prediction.
  const firsts = batch.map(({ fresh }) => Math.max(1, length - fresh));
  const rows = firsts.flatMap((first, b) =>
    Array.from({ length: length - first }, (_, i) => b * length + first + i - 1),
  );
  const output = await session.run({
    ...weights,
    input_ids: int64Tensor(ids, shape),
    position_ids: int64Tensor(
      ids.map((_, i) => i % length),
      shape,
    ),
    rows: int64Tensor(rows, [rows.length]),
    labels: int64Tensor(
      rows.map((row) => ids[row + 1] as number),
      [rows.length],
    ),
  });
  let offset = 0;
  for (const [b, { fresh }] of batch.entries()) {
    const count = length - (firsts[b] as number);
    sums.add(output, offset, count, fresh - 1);
    offset += count;
  }
  return rows.length;
}

const QUANTITIES = ["nll", "nll_against", "kl", "agreement"] as const;

/** Weighted sums of per-window means, in float64. */
class Sums {
  private readonly names: readonly string[];
  private readonly sums = new Float64Array(QUANTITIES.length);
  private weight = 0;

  constructor(compared: boolean) {
    this.names = compared ? QUANTITIES : QUANTITIES.slice(0, 1);
  }

  add(output: Record<string, Tensor>, offset: number, count: number, weight: number): void {
    if (count === 0 || weight === 0) return;
    this.weight += weight;
    for (const [i, name] of this.names.entries()) {
      const values = (output[name] as Tensor).data as Float32Array;
      let sum = 0;
      for (let k = offset; k < offset + count; k++) sum += values[k] as number;
      this.sums[i] = (this.sums[i] as number) + (weight * sum) / count;
    }
  }

  mean(quantity: number): number {
    return (this.sums[quantity] as number) / this.weight;
  }

  score(quantity: number): Score {
    const nll = this.mean(quantity);
    return { nll, perplexity: Math.exp(nll) };
  }
}
