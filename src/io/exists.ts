// Tells whether something is at a path, without taking a fault of the disk for its absence.
import { statSync } from "node:fs";
import { readErrno, toIoError } from "./io-error.ts";

/**
 * False where nothing is, and for a link that leads nowhere. Node's `existsSync` answers false for every error: a
 * tokenizer on a failing disk would be left out of the copy.
 * @throws NfcError "io" where the system cannot tell
 */
export function fileExists(path: string | URL): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if (readErrno(error) === "ENOTDIR") return false; // nothing is below a file
    throw toIoError(error, String(path));
  }
}
