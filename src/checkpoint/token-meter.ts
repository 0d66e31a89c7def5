// Estimates how many tokens a text has while it is read: those so far, divided by the share of its bytes.
import { stat } from "node:fs/promises";

/** Counts what one reading of files gives; the files themselves are opened by whoever reads them. */
export class TokenMeter {
  private readonly bytes: number;
  private bytesRead = 0;
  private tokensRead = 0;

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

  /** Passes tokens on, and counts them. */
  async *count(tokens: AsyncIterable<readonly number[]>): AsyncGenerator<readonly number[]> {
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
