// Guards files that a later run of nfc replaces: a file that nfc did not write is never overwritten.
import { open } from "node:fs/promises";
import { NfcError } from "../errors.ts";
import { readErrno, withIoErrors } from "./io-error.ts";

const BEGINNING = 4096;

/**
 * Refuses to replace a file without `mark` in its first 4,096 bytes, unless it is empty.
 * @param what names the expected kind of file in the message: "a page of nfc"
 * @throws NfcError "exists"
 */
export async function refuseUnmarkedFile(file: string, mark: string, what: string): Promise<void> {
  const beginning = await withIoErrors(file, () => readBeginning(file));
  if (beginning === null || beginning === "" || beginning.includes(mark)) return;
  throw new NfcError("exists", `${file}: is there, and is not ${what}`, { hint: "choose another name, or remove it" });
}

async function readBeginning(file: string): Promise<string | null> {
  const handle = await open(file, "r").catch((error: unknown) => {
    if (readErrno(error) === "ENOENT") return null;
    throw error;
  });
  if (!handle) return null;
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(BEGINNING), 0, BEGINNING, 0);
    return buffer.subarray(0, bytesRead).toString("latin1");
  } finally {
    await handle.close();
  }
}
