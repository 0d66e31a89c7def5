// Examples as token ids, and batches of them: padded on the right to one of a few lengths, in an order by seed.

import type { Tokenizer } from "../checkpoint/tokenizer.ts";
import { NfcError } from "../errors.ts";
import { quoteUntrusted } from "../io/printable.ts";
import type { ModelConfig } from "../model/config.ts";
import { makeRandom } from "../numeric/random.ts";
import type { TaskExample } from "./task-file.ts";

export interface EncodedExample {
  ids: readonly number[];
  label: number;
}

/** B examples, padded on the right: with causal attention the last token of a row cannot see what follows it. */
export interface ExampleBatch {
  ids: Int32Array; // [B·T]
  /** Index of each row's last token among the B·T. */
  last: Int32Array; // [B]
  labels: Float64Array; // [B]
  length: number;
  /** Rows that are examples; the rest repeat the first one, so that all batches of a length have one shape. */
  count: number;
  /** Index of each example among those given: [count] */
  indices: Int32Array;
}

/** @throws NfcError "usage" for texts of more tokens than the model has positions */
export function checkTextLength(length: number, { n_positions }: ModelConfig): void {
  if (length <= n_positions) return;
  throw new NfcError("usage", `texts of ${length} tokens, but the model has ${n_positions} positions`, {
    hint: `give --length ${n_positions} or less`,
  });
}

/**
 * Texts to ids: one text, or the second after a newline, as GPT-2 has no separator. A pair that is too long loses tokens
 * from the end of the longer text first.
 */
export function encodeExamples(
  examples: readonly TaskExample[],
  tokenizer: Tokenizer,
  length: number,
): EncodedExample[] {
  return examples.map(({ texts: [first = "", second], label }) => {
    const a = tokenizer.encode(first);
    const b = second === undefined ? [] : tokenizer.encode(`\n${second}`);
    let [keepA, keepB] = [a.length, b.length];
    while (keepA + keepB > length) {
      if (keepA > keepB) keepA--;
      else keepB--;
    }
    const ids = [...a.slice(0, keepA), ...b.slice(0, keepB)];
    // An empty text still needs a token at which the classifier is read.
    const kept = ids.length > 0 ? ids : tokenizer.encode("\n").slice(0, 1);
    if (kept.length > 0) return { ids: kept, label };
    throw new NfcError("mismatch", `${tokenizer.name}: gives no token for ${quoteUntrusted(first)}`, {
      hint: "take the text out of the task, or use a tokenizer that knows its characters",
    });
  });
}

/** Lengths that rows are padded to: 8, 12, 16, 24, 32, 48, 64, … and `longest`. */
export function padLength(tokens: number, longest: number): number {
  for (let size = 8; ; size *= 2) {
    if (tokens <= Math.min(size, longest)) return Math.min(size, longest);
    const between = (size * 3) / 2;
    if (tokens <= Math.min(between, longest)) return Math.min(between, longest);
  }
}

export interface BatchOptions {
  batchSize: number;
  /** Most tokens of a row. */
  length: number;
  /** Shuffles, by epoch; without it the order is that of the lengths. */
  shuffle?: { seed: number; epoch: number } | undefined;
}

/**
 * The batches of one epoch, each of rows of nearly one length. Shuffled, examples are drawn into pools of 50 batches,
 * sorted by length within a pool, and the batches shuffled again.
 */
export function batchExamples(
  examples: readonly EncodedExample[],
  { batchSize, length, shuffle }: BatchOptions,
): ExampleBatch[] {
  const order = Array.from(examples, (_, index) => index);
  const tokens = (index: number) => (examples[index] as EncodedExample).ids.length;
  const random = shuffle && makeRandom(shuffle.seed, shuffle.epoch + 1);
  if (random) shuffleInPlace(order, random);
  const pool = random ? POOL * batchSize : order.length;
  const groups: number[][] = [];
  for (let from = 0; from < order.length; from += pool) {
    const sorted = order.slice(from, from + pool).sort((a, b) => tokens(a) - tokens(b) || a - b);
    for (let at = 0; at < sorted.length; at += batchSize) groups.push(sorted.slice(at, at + batchSize));
  }
  if (random) shuffleInPlace(groups, random);
  return groups.map((group) => makeBatch(examples, group, { batchSize, length }));
}

const POOL = 50;

/** Shuffles by Fisher and Yates. */
function shuffleInPlace<T>(items: T[], random: () => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
}

function makeBatch(
  examples: readonly EncodedExample[],
  group: readonly number[],
  { batchSize, length: longest }: { batchSize: number; length: number },
): ExampleBatch {
  const rows = Array.from(
    { length: batchSize },
    (_, row) => examples[group[row] ?? (group[0] as number)],
  ) as EncodedExample[];
  const length = padLength(Math.max(...rows.map(({ ids }) => ids.length)), longest);
  const ids = new Int32Array(batchSize * length);
  for (const [row, example] of rows.entries()) ids.set(example.ids, row * length);
  return {
    ids,
    last: Int32Array.from(rows, ({ ids: own }, row) => row * length + own.length - 1),
    labels: Float64Array.from(rows, ({ label }) => label),
    length,
    count: group.length,
    indices: Int32Array.from(group),
  };
}
