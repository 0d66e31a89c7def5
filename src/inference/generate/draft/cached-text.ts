// Runs a model over texts that share their beginnings: what its cache has stays, and what has changed is taken back.
import type { Decoder } from "../decoder.ts";

/** Tokens that run at once where a text has grown without this model: logits of all of them are computed. */
const PIECE = 32;

export class CachedText {
  readonly decoder: Decoder;
  /** The ids whose keys and values the cache holds. */
  private cached: number[] = [];

  constructor(decoder: Decoder) {
    this.decoder = decoder;
  }

  /** Longest text that the model reads. */
  get positions(): number {
    return this.decoder.config.n_positions;
  }

  /**
   * The logits after each of the last `count` ids: [count][V], views until the next call.
   * @param ids at most n_positions
   * @throws NfcError "aborted" while a new text is read
   */
  async run(ids: readonly number[], count: number, signal?: AbortSignal): Promise<Float32Array[]> {
    if (this.cached.length === 0 && count === 1) {
      const logits = await this.decoder.prompt([ids], signal);
      this.cached = [...ids];
      return logits;
    }
    let known = Math.min(countCommon(this.cached, ids), ids.length - count);
    this.decoder.truncate(known);
    for (; ids.length - count - known > PIECE; known += PIECE)
      await this.decoder.extend(ids.slice(known, known + PIECE));
    const logits = await this.decoder.extend(ids.slice(known));
    this.cached = [...ids];
    return logits.slice(-count);
  }
}

function countCommon(a: readonly number[], b: readonly number[]): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i += 1;
  return Math.min(i, b.length);
}
