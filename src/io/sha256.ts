// Computes the sha256 of one or several files as a stream.
import { createHash } from "node:crypto";
import { throwIfAborted } from "../errors.ts";
import { withFile } from "./positional-file.ts";
import { timePhase } from "./timings.ts";

/** Hexadecimal sha256 of a file's first `length` bytes, which it must have. @throws NfcError as opening and reading do */
export function sha256Beginning(path: string, length: number): Promise<string> {
  return withFile(path, (file) => hashPieces(file.pieces(0, length)));
}

/**
 * Hexadecimal sha256 of a file.
 * @param onBytes called after each piece, with its bytes
 * @throws NfcError as opening and reading do; "aborted"
 */
export function sha256File(path: string, signal?: AbortSignal, onBytes?: (bytes: number) => void): Promise<string> {
  return withFile(path, (file) => hashPieces(file.pieces(0, file.size), signal, onBytes));
}

function hashPieces(
  pieces: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
  onBytes?: (bytes: number) => void,
): Promise<string> {
  return timePhase("hashing", async () => {
    const hash = createHash("sha256");
    for await (const piece of pieces) {
      throwIfAborted(signal);
      hash.update(piece);
      onBytes?.(piece.length);
    }
    return hash.digest("hex");
  });
}

/** The sha256 of a single file; for several files, that of the list of their hashes in hexadecimal, one a line. */
export async function sha256Files(paths: readonly string[], signal?: AbortSignal): Promise<string> {
  const hashes: string[] = [];
  for (const path of paths) hashes.push(await sha256File(path, signal));
  return hashes.length === 1 ? (hashes[0] as string) : createHash("sha256").update(hashes.join("\n")).digest("hex");
}
