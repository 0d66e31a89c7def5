// Guards files that a later run of nfc replaces: a file that nfc did not write is never overwritten.
import { resolve } from "node:path";
import { NfcError } from "../errors.ts";
import { fileExists } from "./exists.ts";
import { withFile } from "./positional-file.ts";

/** In the head of every page that nfc writes to a file. */
export const PAGE_MARK = '<meta name="generator" content="nfc ';

const BEGINNING = 4096;

/**
 * Refuses to replace a file without `mark` in its first 4,096 bytes, unless it is empty.
 * @param what names the expected kind of file in the message: "a page of nfc"
 * @throws NfcError "exists"
 */
export async function refuseUnmarkedFile(file: string, mark: string, what: string): Promise<void> {
  const path = resolve(file); // as the writer does: a slash at the end does not hide the file
  if (!fileExists(path)) return;
  const beginning = await withFile(path, (opened) => opened.read(0, Math.min(BEGINNING, opened.size)));
  if (beginning.length === 0 || Buffer.from(beginning).includes(mark)) return;
  throw new NfcError("exists", `${file}: is there, and is not ${what}`, { hint: "choose another name, or remove it" });
}
