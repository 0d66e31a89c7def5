// Counts a text while it is read: its tokens, those that are to come by the share of its bytes, and the bytes of each.

import { stat } from "node:fs/promises";
import type { TokenIds } from "./encoding/encode-pool.ts";

/** Counts what one reading of files gives; the files themselves are opened by whoever reads them. */
export class TokenMeter {
  private readonly bytes: number;
  private bytesRead = 0;
  private tokensRead = 0;
  private textBytes = 0;

  private constructor(bytes: number) {
    this.bytes = bytes;
  }

  static async open(paths: readonly string[]): Promise<TokenMeter> {
    let bytes = 0;
    // A file that is missing has no size here; the reader says so.
    for (const path of paths)
      bytes += await stat(path).then(
        ({ size }) => size,
        () => 0,
      );
    return new TokenMeter(bytes);
  }

  /** For the reader: a piece of so many bytes was read. */
  readonly onBytes = (bytes: number): void => {
    this.bytesRead += bytes;
  };

  /** For the reader: a piece of text was read, of so many bytes in UTF-8. */
  readonly onText = (bytes: number): void => {
    this.textBytes += bytes;
  };

  /**
   * Bits that a byte of the text takes: a token's mean loss in nats · tokens / (bytes · ln 2). Unlike a perplexity it
   * does not depend on how long the tokens are. Undefined where token ids were read.
   */
  toBitsPerByte(nll: number): number | undefined {
    return this.textBytes === 0 ? undefined : (nll * this.tokensRead) / (this.textBytes * Math.LN2);
  }

  /** Passes tokens on, and counts them. */
  async *count(tokens: AsyncIterable<TokenIds>): AsyncGenerator<TokenIds> {
    for await (const ids of tokens) {
      this.tokensRead += ids.length;
      yield ids;
    }
  }

  /** Tokens of the whole text; null while nothing was read, and where the bytes are not known. */
  readonly estimate = (): number | null => {
    if (this.bytesRead === 0 || this.bytes === 0) return null;
    return Math.round(this.tokensRead * Math.max(1, this.bytes / this.bytesRead));
  };
}
