// Reads a JSON file (config.json, tokenizer.json, nfc.json) with errors that name it.
import type { z } from "zod";
import { describeError, NfcError } from "../errors.ts";
import { withFile } from "./positional-file.ts";

/** The largest JSON files of a model folder are tokenizers, of some 30 MB; a larger file is a mistake or an attack. */
const MAX_JSON_BYTES = 256 * 1024 * 1024;

export interface ReadJsonOptions {
  maxBytes?: number | undefined;
  /** The advice of the error for a file that is not JSON. */
  hint?: string | undefined;
}

/**
 * Reads a JSON file's value. A byte order mark, which some Windows editors write, is allowed.
 * @throws NfcError `not-found`, `io`, `invalid-file` (not UTF-8, not JSON, larger than `maxBytes`)
 */
export function readJsonFile(
  path: string,
  { maxBytes = MAX_JSON_BYTES, hint }: ReadJsonOptions = {},
): Promise<unknown> {
  return withFile(path, async (file) => {
    const fact = `${file.size} bytes, more than the ${maxBytes} that are allowed here`;
    if (file.size > maxBytes) throw new NfcError("invalid-file", `${path}: ${fact}`);
    return parseJson(await file.read(0, file.size), path, hint);
  });
}

/** The value of a JSON file's bytes. @throws NfcError `invalid-file` naming `path` */
export function parseJson(bytes: Uint8Array, path: string, hint?: string): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new NfcError("invalid-file", `${path}: not valid UTF-8`, { hint, cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    // V8 quotes the text around the fault, line breaks included.
    const fact = describeError(cause).replace(/\s+/g, " ");
    throw new NfcError("invalid-file", `${path}: not valid JSON: ${fact}`, { hint, cause });
  }
}

/**
 * Returns `value` typed by a schema that it fits.
 * @param file is named in the message
 * @throws NfcError "invalid-file" naming the first key that does not fit
 */
export function parseJsonWith<T>(schema: z.ZodType<T>, value: unknown, file: string, hint?: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const key = issue?.path.map(String).join(".") || "content";
  throw new NfcError("invalid-file", `${file}: ${key}: ${issue?.message ?? "does not fit the format"}`, { hint });
}
