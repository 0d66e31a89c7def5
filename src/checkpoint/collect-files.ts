// Collects the files beside a model's weights that go with it into whatever is made of it.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { withIoErrors } from "../io/io-error.ts";
import { parseJson } from "../io/json.ts";
import { explainLeftBehind, isJsonTokenizerFile, isTokenizerFile } from "../io/tokenizer-files.ts";
import { readCompanion } from "./companion-files.ts";
import { GENERATION_FILE } from "./config-file.ts";
import { FieldReader, showName } from "./fields.ts";
import { stripForeignCode } from "./foreign-code.ts";

/** Files by name, as they are to be written. */
export type ModelFiles = ReadonlyMap<string, string | Uint8Array>;

export interface CollectedFiles {
  files: ModelFiles;
  /** One line for each file, or key of a file, that stays behind. */
  notes: string[];
}

/** Files with settings, whose keys may make other programs load code; in the others a key is a token. */
const SETTINGS = [GENERATION_FILE, "tokenizer_config.json"];

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/**
 * Reads the tokenizer's files and generation_config.json of a model's folder. Code and pickles are never among them.
 * Commands that take long call it before they begin, so that a damaged file shows then.
 * @throws NfcError "invalid-file" naming a file that is no regular file of the folder, too large, or not JSON where JSON
 * is due
 */
export async function collectModelFiles(folder: string | null): Promise<CollectedFiles> {
  const files = new Map<string, string | Uint8Array>();
  const notes: string[] = [];
  if (folder === null) return { files, notes };
  for (const name of (await withIoErrors(folder, () => readdir(folder))).sort()) {
    const reason = explainLeftBehind(name);
    if (reason !== null) notes.push(`${join(folder, showName(name))}: not copied: ${reason}`);
    if (!isTokenizerFile(name) && name !== GENERATION_FILE) continue;
    const bytes = await readCompanion(folder, name);
    if (bytes === null) continue;
    const isJson = isJsonTokenizerFile(name) || name === GENERATION_FILE;
    files.set(name, isJson ? checkJson(bytes, join(folder, name), SETTINGS.includes(name), notes) : bytes);
  }
  return { files, notes };
}

/** The file without a byte order mark, at which other programs' readers of JSON stop. */
function checkJson(given: Uint8Array, file: string, isSettings: boolean, notes: string[]): string | Uint8Array {
  const value = parseJson(given, file);
  const bytes = BYTE_ORDER_MARK.every((byte, i) => given[i] === byte) ? given.subarray(3) : given;
  if (!isSettings) return bytes;
  const { raw } = new FieldReader(value, file);
  const stripped = stripForeignCode(raw, file);
  for (const note of stripped.notes) notes.push(note); // there may be more than a call can take as arguments
  return stripped.value === raw ? bytes : `${JSON.stringify(stripped.value, null, 2)}\n`;
}
