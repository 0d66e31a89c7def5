// Counts the bytes of files after brotli compression, as servers send them, as a stream: memory does not grow with a file.
import { availableParallelism } from "node:os";
import { finished } from "node:stream/promises";
import { constants, createBrotliCompress } from "node:zlib";
import { throwIfAborted } from "../errors.ts";
import { withFile } from "./positional-file.ts";
import { timePhase } from "./timings.ts";

/**
 * Weights have little to find: 9 takes 4 to 5 times as long as 5 and saves less than 0.1 %, 11 takes 200 times as long and
 * saves 0.5 to 4.5 % (docs/decisions/0051-bytes-on-the-wire.md).
 */
const QUALITY = 5;
/** The largest hint of a size that brotli takes. */
const MAX_HINT = 2 ** 30;

/** Bytes of a file, and after brotli. */
export interface CompressedSize {
  bytes: number;
  brotli: number;
}

/** The sizes of files by their paths; brotli at quality 5. Several are compressed at a time, one a core. */
export async function measureCompressed(
  paths: Iterable<string>,
  signal?: AbortSignal,
): Promise<Map<string, CompressedSize>> {
  const waiting = new Set(paths);
  const sizes = new Map<string, CompressedSize>();
  const next = waiting.values(); // shared by all workers
  const work = async () => {
    for (const path of { [Symbol.iterator]: () => next }) sizes.set(path, await measureFile(path, signal));
  };
  const workers = Math.min(waiting.size, availableParallelism());
  await timePhase("compressing", () => Promise.all(Array.from({ length: workers }, work)));
  return sizes;
}

export function sumCompressed(paths: readonly string[], sizes: ReadonlyMap<string, CompressedSize>): CompressedSize {
  const sum = { bytes: 0, brotli: 0 };
  for (const path of paths) {
    const { bytes, brotli } = sizes.get(path) as CompressedSize;
    sum.bytes += bytes;
    sum.brotli += brotli;
  }
  return sum;
}

/** @throws NfcError as opening and reading do; "aborted" */
function measureFile(path: string, signal: AbortSignal | undefined): Promise<CompressedSize> {
  return withFile(path, async (file) => {
    const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT } = constants;
    const hint = Math.min(file.size, MAX_HINT);
    const packer = createBrotliCompress({
      params: { [BROTLI_PARAM_QUALITY]: QUALITY, [BROTLI_PARAM_SIZE_HINT]: hint },
    });
    let brotli = 0;
    packer.on("data", (piece: Uint8Array) => {
      brotli += piece.length;
    });
    try {
      for await (const piece of file.pieces(0, file.size)) {
        throwIfAborted(signal);
        // The piece's buffer is used again, so that its end is waited for.
        await new Promise<void>((resolve, reject) => {
          packer.write(piece, (error) => (error ? reject(error) : resolve()));
        });
      }
      packer.end();
      await finished(packer);
      return { bytes: file.size, brotli };
    } finally {
      packer.destroy();
    }
  });
}
