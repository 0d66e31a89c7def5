// Writes and verifies checksums.json, the sha256 of the files beside it: data that has changed on the disk is not used.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "./io-error.ts";
import { parseJsonWith, readJsonFile } from "./json.ts";
import { sha256File } from "./sha256.ts";

const CHECKSUM_FILE = "checksums.json";

const checksumsSchema = z.record(z.string(), z.string());

/** Writes the checksums of `files`, and of what else they are to be held against. */
export async function writeChecksums(
  folder: string,
  files: readonly string[],
  others: Readonly<Record<string, string>> = {},
): Promise<void> {
  const sums: Record<string, string> = { ...others };
  for (const name of files) sums[name] = await sha256File(join(folder, name));
  const path = join(folder, CHECKSUM_FILE);
  await withIoErrors(path, () => writeFile(path, `${JSON.stringify(sums)}\n`));
}

/**
 * Holds `files` against the checksums. Gives all of these.
 * @throws NfcError "invalid-file" naming the file that has changed, "not-found"
 */
export async function verifyChecksums(
  folder: string,
  files: readonly string[],
): Promise<Readonly<Record<string, string>>> {
  const path = join(folder, CHECKSUM_FILE);
  const sums = parseJsonWith(checksumsSchema, await readJsonFile(path), path);
  for (const name of files) checkSum(join(folder, name), await sha256File(join(folder, name)), sums[name]);
  return sums;
}

/** @throws NfcError "invalid-file" */
export function checkSum(path: string, found: string, noted: string | undefined): void {
  if (found === noted) return;
  throw new NfcError("invalid-file", `${path}: damaged: its sha256 is not the one that was noted when it was written`);
}
