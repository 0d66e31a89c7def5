// Text that a model draws from itself, as token ids: what its weights are measured on where no text is given.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { throwIfAborted } from "../../errors.ts";
import { makeRandom } from "../../numeric/random.ts";
import type { LongCall } from "../../progress.ts";
import { Decoder } from "./decoder.ts";
import { makeSampler } from "./sampling.ts";

/** Windows that are drawn at once: one pass over the weights serves a token of each. */
const ROWS = 8;

export interface DrawOptions extends LongCall {
  /** Windows, and the tokens of each: at most n_positions. */
  count: number;
  length: number;
  /** 0 unless given: the same seed draws the same text. */
  seed?: number | undefined;
  threads?: number | undefined;
}

/**
 * The first token of a window is any of the vocabulary with equal probability, each further one is drawn with the
 * probability that the model gives it.
 * @returns `count` windows, [length] each
 * @throws NfcError "invalid-file" for logits that are not finite, "aborted"
 */
export async function drawWindows(checkpoint: Checkpoint, options: DrawOptions): Promise<Int32Array[]> {
  const { count, length, seed = 0, threads, signal, onProgress } = options;
  const { vocab_size } = checkpoint.config;
  const windows = Array.from({ length: count }, () => new Int32Array(length));
  const decoder = await Decoder.ofCheckpoint(checkpoint, { threads });
  try {
    for (let start = 0; start < count; start += ROWS) {
      const rows = windows.slice(start, start + ROWS).map((window, i) => {
        const random = makeRandom(seed, start + i);
        window[0] = Math.floor(random() * vocab_size);
        return { window, choose: makeSampler({ temperature: 1 }, random, [], checkpoint.source) };
      });
      const ids = (at: number) => rows.map(({ window }) => window[at] as number);
      let logits = await decoder.prompt(
        ids(0).map((id) => [id]),
        signal,
      );
      for (let at = 1; at < length; at++) {
        throwIfAborted(signal);
        for (const [i, { window, choose }] of rows.entries()) window[at] = choose(logits[i] as Float32Array);
        if (at + 1 < length) logits = await decoder.step(ids(at));
        const done = start * length + rows.length * (at + 1);
        onProgress?.({ phase: "drawing text", done, total: count * length, unit: "tokens" });
      }
    }
  } finally {
    await decoder.close();
  }
  return windows;
}
