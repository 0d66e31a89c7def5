// Batches of training windows in a seeded order that depends on the step alone, and the held-out end of a corpus.
import { NfcError } from "../../errors.ts";
import { permuteIndex } from "../../numeric/permutation.ts";
import type { TokenCorpus } from "./token-cache.ts";

const HELD_OUT_SHARE = 0.02;
const MAX_HELD_OUT_TOKENS = 65_536;

/** What windows need of a corpus. */
export type Corpus = Pick<TokenCorpus, "name" | "tokens" | "fingerprint" | "read">;

/** Tokens [start, end) of a corpus. */
export interface TokenRange {
  corpus: Corpus;
  start: number;
  end: number;
}

/**
 * Splits off the end as held-out: 2 % of the tokens, at least 2 windows of `length` + 1, at most 65,536 tokens.
 * @throws NfcError "invalid-file" when no window is left for training
 */
export function holdOut(corpus: Corpus, length: number): { train: TokenRange; heldOut: TokenRange } {
  const share = Math.min(Math.floor(HELD_OUT_SHARE * corpus.tokens), MAX_HELD_OUT_TOKENS);
  const split = corpus.tokens - Math.max(share, 2 * (length + 1));
  if (split < length + 1) throw makeTooShortError(corpus, corpus.tokens, 3, length);
  return { train: { corpus, start: 0, end: split }, heldOut: { corpus, start: split, end: corpus.tokens } };
}

export interface Batch {
  /** [B·T] */
  inputs: Int32Array;
  /** [B·T]: the ids that follow */
  labels: Int32Array;
  /** [B] index of the window in its range, the same on every epoch: key of cached teacher outputs */
  windows: Int32Array;
}

export class Batches {
  /** Windows of an epoch: ⌊(tokens − 1)/length⌋. Window w covers the range's ids w·length … w·length + length. */
  readonly windowCount: number;
  private readonly range: TokenRange;
  private readonly length: number;
  private readonly size: number;
  private readonly seed: number;

  /** @throws NfcError "invalid-file" when the range is shorter than a window */
  constructor(range: TokenRange, { length, batchSize, seed }: { length: number; batchSize: number; seed: number }) {
    const tokens = range.end - range.start;
    this.windowCount = Math.floor((tokens - 1) / length);
    if (this.windowCount < 1) throw makeTooShortError(range.corpus, tokens, 1, length);
    this.range = range;
    this.length = length;
    this.size = batchSize;
    this.seed = seed;
  }

  /**
   * Batch number `index` (0, 1, …): windows index·B … index·B + B − 1 of the endless sequence of epochs, each epoch a
   * fresh permutation. Stateless: a run resumes from its step number alone.
   * @throws NfcError as `TokenCorpus.read`
   */
  async batch(index: number): Promise<Batch> {
    const length = this.length;
    const { corpus, start } = this.range;
    const windows = Int32Array.from({ length: this.size }, (_, b) => this.findWindow(index * this.size + b));
    const inputs = new Int32Array(this.size * length);
    const labels = new Int32Array(this.size * length);
    const reads = Array.from(windows, async (window, b) => {
      const ids = await corpus.read(start + window * length, length + 1);
      inputs.set(ids.subarray(0, length), b * length);
      labels.set(ids.subarray(1), b * length);
    });
    await Promise.all(reads);
    return { inputs, labels, windows };
  }

  private findWindow(position: number): number {
    const epoch = Math.floor(position / this.windowCount);
    return permuteIndex(position % this.windowCount, this.windowCount, [this.seed, epoch]);
  }
}

function makeTooShortError(corpus: Corpus, tokens: number, windows: number, length: number): NfcError {
  const needed = windows * (length + 1);
  return new NfcError("invalid-file", `${corpus.name}: ${tokens} tokens, under the ${needed} that are needed`, {
    hint: `give a longer text, or windows shorter than ${length} tokens`,
  });
}
