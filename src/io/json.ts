// Reads a JSON file (config.json, tokenizer.json, nfc.json) with errors that name it.
import type { z } from "zod";
import { describeError, NfcError } from "../errors.ts";
import { withFile } from "./positional-file.ts";
import { escapeTerminal } from "./printable.ts";

/** Levels of nesting. JSON.parse follows any number, but JSON.stringify and the checks of the content recur. */
const MAX_DEPTH = 128;
/** Characters of a key, and of what a schema says about its value, that a message quotes. */
const MAX_SHOWN = 200;

export interface ReadJsonOptions {
  maxBytes?: number | undefined;
  /** The advice of the error for a file that is not JSON. */
  hint?: string | undefined;
}

/**
 * Reads a JSON file's value. A byte order mark, which some Windows editors write, is allowed.
 * @throws NfcError `not-found`, `io`, `invalid-file` (not UTF-8, not JSON, larger than `maxBytes`)
 */
export function readJsonFile(path: string, { maxBytes, hint }: ReadJsonOptions = {}): Promise<unknown> {
  return withFile(path, async (file) => parseJson(await file.readWhole(maxBytes), path, hint));
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
    const value: unknown = JSON.parse(text);
    if (findDepth(bytes) <= MAX_DEPTH) return value;
  } catch (cause) {
    // V8 quotes the text around the fault, line breaks included.
    const fact = describeError(cause).replace(/\s+/g, " ");
    throw new NfcError("invalid-file", `${path}: not valid JSON: ${fact}`, { hint, cause });
  }
  throw new NfcError("invalid-file", `${path}: nested deeper than ${MAX_DEPTH} levels`, { hint });
}

/** The levels of nesting of a valid JSON text in UTF-8. */
function findDepth(json: Uint8Array): number {
  let [deepest, depth, quoted] = [0, 0, false];
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === QUOTE) quoted = !quoted;
    else if (quoted) at += byte === BACKSLASH ? 1 : 0;
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) deepest = Math.max(deepest, ++depth);
    else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--;
  }
  return deepest;
}

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('"\\[]{}');

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
  const [where, fact] = [key, issue?.message ?? "does not fit the format"].map(shorten);
  throw new NfcError("invalid-file", `${file}: ${where}: ${fact}`, { hint });
}

/**
 * Refuses a file of another version of a format: names are "nfc-plan/1", and the part before the slash stays.
 * @throws NfcError "unsupported"
 */
export function refuseOtherVersion(value: unknown, file: string, known: string, hint: string): void {
  const format = typeof value === "object" && value !== null ? (value as { format?: unknown }).format : undefined;
  const family = known.slice(0, known.indexOf("/") + 1);
  if (typeof format !== "string" || !format.startsWith(family) || format === known) return;
  throw new NfcError("unsupported", `${file}: format ${JSON.stringify(format)} is not ${known}`, { hint });
}

/** Keys come from the file: they may be long, or hold line breaks. */
const shorten = (text: string): string =>
  escapeTerminal(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
