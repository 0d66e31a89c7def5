// Reads text as a stream of pieces: plain text as it is, JSON by a field of its records.
import { NfcError } from "../errors.ts";
import {
  classifyData,
  findEncoding,
  type OpenedData,
  openData,
  type ReadOptions,
  refuseOtherFormat,
} from "./data-file.ts";
import { JsonCutter, type JsonShape } from "./json-values.ts";
import { quoteUntrusted } from "./printable.ts";

/** Characters of a line or of a value of JSON; a longer one is refused before it fills the memory. */
const MAX_LINE_LENGTH = 1 << 26;
/** Fields that an error lists. */
const MAX_FIELDS = 6;
/** The text between documents, as in Hugging Face's perplexity recipe ("\n\n".join). */
const DOCUMENT_JOINT = "\n\n";

export interface TextOptions extends ReadOptions {
  /** Field of a record of JSON that holds the text. */
  field?: string | undefined;
}

/**
 * Reads the text of several files in pieces, which may end anywhere. Files and documents are joined by a blank line.
 * @throws NfcError as `openData` and `classifyData`; "invalid-file" (not UTF-8; a bad record of JSON, by number), "usage"
 * for a file of token ids
 */
export async function* readTextPieces(paths: readonly string[], options: TextOptions = {}): AsyncGenerator<string> {
  let first = true;
  for (const path of paths) {
    const data = await openData(path, options);
    const kind = classifyData(data);
    if (kind.kind === "ids")
      throw new NfcError("usage", `${path}: holds token ids, not text`, { hint: "name the files of one kind" });
    if (kind.kind === "json")
      for await (const text of readJsonTexts(data, kind.shape, options)) {
        yield first ? text : DOCUMENT_JOINT + text;
        first = false;
      }
    else {
      if (!first) yield DOCUMENT_JOINT;
      for await (const text of decodePieces(data)) if (text !== "") yield text;
      first = false;
    }
  }
}

async function* decodePieces({ path, head, chunks }: OpenedData): AsyncGenerator<string> {
  const encoding = findEncoding(head);
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: false });
  let bytes = 0;
  const decode = (chunk?: Uint8Array) => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch {
      throw new NfcError("invalid-file", `${path}: not ${encoding.toUpperCase()} (near byte ${bytes})`, {
        hint: "convert it, for example with iconv -t utf-8",
      });
    }
  };
  for await (const chunk of chunks) {
    const text = decode(chunk);
    bytes += chunk.byteLength;
    yield text;
  }
  yield decode();
}

async function* readJsonTexts(data: OpenedData, shape: JsonShape, { field }: TextOptions): AsyncGenerator<string> {
  if (shape === "lines") {
    for await (const { text, number } of splitLines(data))
      if (text.trim() !== "") yield readField(text, { field, where: `${data.path}: line ${number}` });
    return;
  }
  const cutter = new JsonCutter(shape);
  let count = 0;
  const nameValue = (line: number) =>
    shape === "array" ? `${data.path}: element ${count} (line ${line})` : `${data.path}: line ${line}`;
  for await (const text of decodePieces(data)) {
    for (const { json, line } of cutter.push(text)) {
      count++;
      yield readField(json, { field, where: nameValue(line) });
    }
    const { rest } = cutter;
    if (rest && rest.json.length > MAX_LINE_LENGTH)
      throw new NfcError(
        "invalid-file",
        `${data.path}: the value that begins on line ${rest.line} is longer than ${MAX_LINE_LENGTH} characters`,
      );
  }
  const { rest } = cutter;
  if (shape === "values") {
    if (rest) yield readField(rest.json, { field, where: nameValue(rest.line) });
  } else if (!cutter.hasEnded || rest) {
    const fact = rest && cutter.hasEnded ? `line ${rest.line}: more follows the array` : "the array does not end";
    throw new NfcError("invalid-file", `${data.path}: ${fact}`, { hint: "write or fetch the file again" });
  }
}

/**
 * Reads the lines of a text file with their numbers, from 1, and without their ends. A byte order mark and an empty last
 * line are dropped.
 * @throws NfcError as `openData`, "invalid-file" (not UTF-8; a line that is too long), "unsupported" (no text)
 */
export async function* readTextLines(
  path: string,
  options: ReadOptions = {},
): AsyncGenerator<{ text: string; number: number }> {
  const data = await openData(path, options);
  refuseOtherFormat(data);
  yield* splitLines(data);
}

async function* splitLines(data: OpenedData): AsyncGenerator<{ text: string; number: number }> {
  let rest = "";
  let number = 0;
  for await (const text of decodePieces(data)) {
    // A text without a line break is only appended, so that a long line is put together once, at its end.
    const lines = text.includes("\n") ? (rest + text).split("\n") : [rest + text];
    rest = lines.pop() as string;
    if (rest.length > MAX_LINE_LENGTH)
      throw new NfcError(
        "invalid-file",
        `${data.path}: line ${number + lines.length + 1} is longer than ${MAX_LINE_LENGTH} characters`,
      );
    for (const line of lines) yield { text: line.replace(/\r$/, ""), number: ++number };
  }
  if (rest !== "") yield { text: rest, number: number + 1 };
}

/** The text of one record: its field, or the record itself where it is a string. */
function readField(json: string, { field = "text", where }: { field?: string | undefined; where: string }): string {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new NfcError("invalid-file", `${where} is not JSON`, { cause });
  }
  if (typeof value === "string") return value;
  const record = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  const text = Object.hasOwn(record, field) ? record[field] : undefined;
  if (typeof text === "string") return text;
  throw new NfcError("invalid-file", `${where} has no string in the field ${quoteUntrusted(field)}`, {
    hint: adviseField(record),
  });
}

/** Names the fields that hold strings, or how to take out the one that holds records. */
function adviseField(record: Record<string, unknown>): string {
  const names = Object.keys(record);
  const strings = names.filter((name) => typeof record[name] === "string");
  const list = names.find(
    (name) => Array.isArray(record[name]) && ["object", "string"].includes(typeof (record[name] as unknown[])[0]),
  );
  if (strings.length === 0 && list !== undefined && /^\w{1,40}$/.test(list))
    return `its records stand in the field "${list}": take them out, for example with jq -c '.${list}[]', and name the file .jsonl`;
  const shown = strings.slice(0, MAX_FIELDS).map(quoteUntrusted).join(", ");
  return `name the field that holds the text with --field${shown === "" ? "" : ` (strings are in ${shown})`}`;
}
