// Reads text as a stream of pieces: .txt as it is, .jsonl by a field of each line.
import { createReadStream } from "node:fs";
import { NfcError } from "../errors.ts";
import { toIoError } from "./staging.ts";

/** Characters of a line; a longer one is refused before it fills the memory. */
const MAX_LINE_LENGTH = 1 << 26;
/** The text between documents, as in Hugging Face's perplexity recipe ("\n\n".join). */
const DOCUMENT_JOINT = "\n\n";

export interface TextOptions {
  /** Field of a .jsonl line that holds the text. */
  field?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Called with the number of bytes of each piece that is read. */
  onBytes?: ((bytes: number) => void) | undefined;
}

/**
 * Reads the text of several files in pieces, which may end anywhere. Files and documents are joined by a blank line.
 * @throws NfcError "not-found", "invalid-file" (not UTF-8; a bad .jsonl line, by number)
 */
export async function* readTextPieces(paths: readonly string[], options: TextOptions = {}): AsyncGenerator<string> {
  let first = true;
  for (const path of paths)
    if (path.endsWith(".jsonl") || path.endsWith(".ndjson"))
      for await (const text of readJsonlTexts(path, options)) {
        yield first ? text : DOCUMENT_JOINT + text;
        first = false;
      }
    else {
      if (!first) yield DOCUMENT_JOINT;
      for await (const text of decodePieces(path, options)) if (text !== "") yield text;
      first = false;
    }
}

async function* decodePieces(path: string, { signal, onBytes }: TextOptions): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  let bytes = 0;
  const decode = (chunk?: Uint8Array) => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch {
      throw new NfcError("invalid-file", `${path}: not UTF-8 (near byte ${bytes})`, {
        hint: "convert it, for example with iconv -t utf-8",
      });
    }
  };
  try {
    for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Buffer>) {
      const text = decode(chunk);
      bytes += chunk.byteLength;
      onBytes?.(chunk.byteLength);
      yield text;
    }
  } catch (error) {
    if (signal?.aborted) throw new NfcError("aborted", "interrupted", { cause: error });
    throw toIoError(error, path);
  }
  yield decode();
}

async function* readJsonlTexts(path: string, options: TextOptions): AsyncGenerator<string> {
  const field = options.field ?? "text";
  for await (const { text, number } of readTextLines(path, options))
    if (text.trim() !== "") yield readJsonlField(text, field, `${path}: line ${number}`);
}

/**
 * Reads the lines of a UTF-8 file with their numbers, from 1, and without their ends. A byte order mark and an empty last
 * line are dropped.
 * @throws NfcError "not-found", "invalid-file" (not UTF-8; a line that is too long), "aborted"
 */
export async function* readTextLines(
  path: string,
  options: Pick<TextOptions, "signal" | "onBytes"> = {},
): AsyncGenerator<{ text: string; number: number }> {
  let rest = "";
  let number = 0;
  for await (const text of decodePieces(path, options)) {
    // A text without a line break is only appended, so that a long line is put together once, at its end.
    const lines = text.includes("\n") ? (rest + text).split("\n") : [rest + text];
    rest = lines.pop() as string;
    if (rest.length > MAX_LINE_LENGTH)
      throw new NfcError(
        "invalid-file",
        `${path}: line ${number + lines.length + 1} is longer than ${MAX_LINE_LENGTH} characters`,
      );
    for (const line of lines) yield { text: line.replace(/\r$/, ""), number: ++number };
  }
  if (rest !== "") yield { text: rest, number: number + 1 };
}

function readJsonlField(json: string, field: string, where: string): string {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new NfcError("invalid-file", `${where} is not JSON`, { cause });
  }
  const text = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof text !== "string")
    throw new NfcError("invalid-file", `${where} has no string in the field ${JSON.stringify(field)}`, {
      hint: "name the field that holds the text with --field",
    });
  return text;
}
