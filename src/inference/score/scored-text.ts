// Defines the recipe of a perplexity: the windows of a text, the positions of each that are scored, and the weighted mean.
import type { TokenIds } from "../../checkpoint/encoding/encode-pool.ts";

import { cutWindows, type Window } from "../../checkpoint/tokens.ts";
import { makeNotFiniteError, NfcError } from "../../errors.ts";
import { makeInt64Tensor, type Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";

/** Logits of one batch (rows · V float32) stay below this; a single window may exceed it. */
const LOGITS_PER_BATCH = 16 * 2 ** 20;

export interface WindowOptions {
  /** Window length; the smaller n_positions unless given. */
  length?: number | undefined;
  /** Distance of the windows' starts; `length` unless given: windows that do not overlap. */
  stride?: number | undefined;
}

/** The windows that are scored. */
export interface WindowSize {
  length: number;
  stride: number;
}

export interface Score {
  /** exp(nll) */
  perplexity: number;
  /** Mean negative log-likelihood of a token, in nats. */
  nll: number;
}

/** A model that is scored, and the name that messages give it. */
export interface Subject {
  config: ModelConfig;
  source: string;
}

/** @throws NfcError "usage" for a bad window, "mismatch" for models of different vocabularies */
export function resolveWindow(
  subject: Subject,
  { against, length, stride }: WindowOptions & { against?: Subject | undefined },
): WindowSize {
  const limit = Math.min(subject.config.n_positions, against?.config.n_positions ?? Number.POSITIVE_INFINITY);
  const size = length ?? limit;
  const step = stride ?? size;
  if (!(Number.isInteger(size) && size >= 2 && size <= limit))
    throw new NfcError("usage", `the window length ${size} is not between 2 and n_positions, ${limit}`);
  if (!(Number.isInteger(step) && step >= 1 && step <= size))
    throw new NfcError("usage", `the stride ${step} is not between 1 and the window length, ${size}`);
  if (against && against.config.vocab_size !== subject.config.vocab_size)
    throw new NfcError(
      "mismatch",
      `${subject.source} has ${subject.config.vocab_size} tokens, ${against.source} ${against.config.vocab_size}`,
      { hint: "compare models of one vocabulary" },
    );
  return { length: size, stride: step };
}

/** Windows of one length [B, T], and the positions of them that are scored. */
export class ScoringBatch {
  readonly windows: readonly Window[];
  readonly length: number;
  /** Scored positions among B·T, window by window: position t predicts the id at t + 1. */
  readonly rows: readonly number[];
  /** The ids that they should predict. */
  readonly labels: readonly number[];
  /** The number of rows of each window, and its weight. */
  readonly spans: readonly { count: number; weight: number }[];

  constructor(batch: readonly Window[]) {
    const length = batch[0]?.ids.length as number;
    // A window's first id has no prediction.
    const firsts = batch.map(({ fresh }) => Math.max(1, length - fresh));
    this.windows = batch;
    this.length = length;
    this.rows = firsts.flatMap((first, b) =>
      Array.from({ length: length - first }, (_, i) => b * length + first + i - 1),
    );
    this.labels = this.rows.map((row) => batch[Math.floor(row / length)]?.ids[(row % length) + 1] as number);
    this.spans = batch.map(({ fresh }, b) => ({ count: length - (firsts[b] as number), weight: fresh - 1 }));
  }

  /** `rows` and `labels` from one scored position to another. */
  scored(from = 0, to = this.rows.length): Tensors {
    const part = (values: readonly number[]) => makeInt64Tensor(values.slice(from, to), [to - from]);
    return { rows: part(this.rows), labels: part(this.labels) };
  }
}

/** Batches of a text. @throws NfcError "mismatch" for ids past the vocabulary */
export async function* batchWindows(
  tokens: AsyncIterable<TokenIds>,
  { config, source }: Subject,
  size: WindowSize,
): AsyncGenerator<ScoringBatch> {
  const batchSize = Math.max(1, Math.floor(LOGITS_PER_BATCH / (size.length * config.vocab_size)));
  for await (const batch of groupWindows(cutWindows(tokens, size), batchSize)) {
    checkIds(batch, config.vocab_size, source);
    yield new ScoringBatch(batch);
  }
}

/** Groups windows of one length. */
async function* groupWindows(source: AsyncIterable<Window>, size: number): AsyncGenerator<Window[]> {
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

/** @throws NfcError "invalid-file" */
export function refuseShortText(scored: number): void {
  if (scored > 0) return;
  throw new NfcError("invalid-file", "the text has under two tokens: nothing to score", { hint: "give a longer text" });
}

/** @throws NfcError "invalid-file" where one of a model's losses is not finite */
export function refuseInfinite(
  { source }: { source: string },
  losses: readonly number[] | Float32Array,
  hint?: string,
): void {
  if (!losses.every((loss) => Number.isFinite(loss)))
    throw makeNotFiniteError(`${source}: its loss is not finite`, hint);
}

/** Some quantities at each scored position of a window, in their order: all but the first without overlap. */
export type WindowValues<Name extends string> = Record<Name, Float32Array>;

/** Weighted sums of per-window means of some quantities, in float64. */
export class Sums<Name extends string> {
  private readonly names: readonly Name[];
  private readonly sums: Float64Array;
  private weight = 0;

  constructor(names: readonly Name[]) {
    this.names = names;
    this.sums = new Float64Array(names.length);
  }

  /**
   * @param outputs each quantity at each scored position of the batch, in float32
   * @param onWindow called for each window that counts
   */
  add({ spans }: ScoringBatch, outputs: Tensors, onWindow?: (values: WindowValues<Name>) => void): void {
    const values = this.names.map((name) => outputs[name]?.data as Float32Array);
    let offset = 0;
    for (const { count, weight } of spans) {
      const [start, end] = [offset, offset + count];
      offset = end;
      if (count === 0 || weight <= 0) continue;
      const means = values.map((quantity) => {
        let sum = 0;
        for (let k = start; k < end; k++) sum += quantity[k] as number;
        return sum / count;
      });
      this.weight += weight;
      for (const [i, mean] of means.entries()) this.sums[i] = (this.sums[i] as number) + weight * mean;
      const named = this.names.map((name, i) => [name, values[i]?.subarray(start, end)]);
      onWindow?.(Object.fromEntries(named) as WindowValues<Name>);
    }
  }

  mean(name: Name): number {
    return (this.sums[this.names.indexOf(name)] as number) / this.weight;
  }

  score(name: Name): Score {
    const nll = this.mean(name);
    return { nll, perplexity: Math.exp(nll) };
  }
}
