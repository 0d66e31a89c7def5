// Loads a written export and compares it with our own forward pass: whole, in two steps through the cache, and padded.
import { NfcError } from "../errors.ts";
import { Session, type Tensor } from "../graph/session.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { cacheOf, promptFeeds, stepFeeds } from "../model/decoding.ts";
import { layerwiseLogits } from "../model/layerwise.ts";

/** Largest difference of a logit, relative to the logits' root mean square where that exceeds 1. */
export const LOGIT_TOLERANCE = 1e-4;
const PROMPTS = 2;
const PROMPT_LENGTH = 24;

export interface Verification {
  /** Largest absolute difference of a logit from our own forward pass. */
  worst: number;
  /** What it may be. */
  tolerance: number;
  positions: number;
}

/**
 * @throws NfcError "mismatch" when the file's logits differ, "invalid-file" when it does not load
 */
export async function verifyOnnx(path: string, checkpoint: Checkpoint, { threads = 0 } = {}): Promise<Verification> {
  const { config } = checkpoint;
  const length = Math.min(PROMPT_LENGTH, config.n_positions);
  const prompts = randomPrompts(config.vocab_size, length);
  const reference = await layerwiseLogits(
    checkpoint,
    prompts.map((ids) => Int32Array.from(ids)),
    { threads },
  );
  // Without prepacking the weights are mapped from the file, not copied.
  const session = await Session.fromFile(path, { threads, prepack: false });
  try {
    const compare = new Comparison(reference, length, config.vocab_size);
    compare.add((await session.run(promptFeeds(prompts, config))).logits as Tensor, [0, 0]);
    const half = Math.ceil(length / 2);
    const first = promptFeeds(
      prompts.map((ids) => ids.slice(0, half)),
      config,
    );
    const started = await session.run(first);
    const second = stepFeeds(
      first,
      prompts.map((ids) => ids.slice(half)),
      cacheOf(started),
    );
    compare.add((await session.run(second)).logits as Tensor, [half, half]);
    const padded = [prompts[0] as number[], (prompts[1] as number[]).slice(0, half)];
    compare.add((await session.run(promptFeeds(padded, config))).logits as Tensor, [0, half - length]);
    return compare.finish(path);
  } finally {
    await session.close();
  }
}

/** With noise drawn inside the graph there is nothing to compare with: the file must load, be finite, and vary. */
export async function verifySampled(path: string, checkpoint: Checkpoint, { threads = 0 } = {}): Promise<void> {
  const { config } = checkpoint;
  const feeds = promptFeeds(randomPrompts(config.vocab_size, Math.min(PROMPT_LENGTH, config.n_positions)), config);
  const session = await Session.fromFile(path, { threads, prepack: false });
  try {
    const [a, b] = [await session.run(feeds), await session.run(feeds)].map((out) => out.logits?.data as Float32Array);
    if (!a || !b || !a.every(Number.isFinite))
      throw new NfcError("mismatch", `${path}: its logits are not finite`, {
        hint: "report this: the export is wrong",
      });
    if (a.every((value, i) => value === b[i]))
      throw new NfcError("mismatch", `${path}: two runs give equal logits, so no noise is drawn`, {
        hint: "report this: the export is wrong",
      });
  } finally {
    await session.close();
  }
}

/** Two fixed pseudo-random prompts (a linear congruential generator; Numerical Recipes' constants). */
function randomPrompts(vocabulary: number, length: number): number[][] {
  let state = 20260111;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  };
  return Array.from({ length: PROMPTS }, () => Array.from({ length }, next));
}

class Comparison {
  private readonly reference: Float32Array; // [PROMPTS, length, V]
  private readonly length: number;
  private readonly vocabulary: number;
  private worst = 0;
  private positions = 0;

  constructor(reference: Float32Array, length: number, vocabulary: number) {
    this.reference = reference;
    this.length = length;
    this.vocabulary = vocabulary;
  }

  /** logits [PROMPTS, t, V]: row r's column c is the reference's position c + shifts[r]; negative positions are padding. */
  add({ data, shape }: Tensor, shifts: readonly number[]): void {
    const [rows, columns] = shape as [number, number];
    const V = this.vocabulary;
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const position = column + (shifts[row] as number);
        if (position < 0) continue;
        this.positions += 1;
        const ours = (row * this.length + position) * V;
        const theirs = (row * columns + column) * V;
        for (let v = 0; v < V; v++) {
          const difference = Math.abs((this.reference[ours + v] as number) - Number(data[theirs + v]));
          // Written so that NaN counts as the worst.
          if (!(difference <= this.worst))
            this.worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
        }
      }
  }

  finish(path: string): Verification {
    const square = this.reference.reduce((sum, value) => sum + value * value, 0) / this.reference.length;
    const tolerance = LOGIT_TOLERANCE * Math.max(1, Math.sqrt(square));
    if (!(this.worst <= tolerance))
      throw new NfcError(
        "mismatch",
        `${path}: its logits differ from the model's by ${this.worst.toExponential(1)} (allowed: ${tolerance.toExponential(1)})`,
        { hint: "report this: the export is wrong" },
      );
    return { worst: this.worst, tolerance, positions: this.positions };
  }
}
