// Writes a stream of byte chunks to a new file, synced to disk before it returns.
import { open } from "node:fs/promises";
import { throwIfAborted } from "../errors.ts";
import { withIoErrors } from "./io-error.ts";

export interface WriteChunksOptions {
  onBytes?: (written: number) => void;
  signal?: AbortSignal;
}

/** Creates `path`, which must not exist. Gives its size. @throws NfcError "io" (disk full, …), "aborted" */
export async function writeChunks(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  { onBytes, signal }: WriteChunksOptions = {},
): Promise<number> {
  const file = await withIoErrors(path, () => open(path, "wx"));
  let written = 0;
  try {
    for await (const chunk of chunks) {
      throwIfAborted(signal);
      await withIoErrors(path, () => file.writeFile(chunk));
      written += chunk.byteLength;
      onBytes?.(written);
    }
    await withIoErrors(path, () => file.sync());
    return written;
  } finally {
    await file.close();
  }
}
