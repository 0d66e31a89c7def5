// Opens a data file whatever it is: unpacks gzip, finds the encoding, and tells text, JSON and token ids by their content.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { NfcError } from "../errors.ts";
import {
  findFormatByName,
  HEAD_BYTES,
  hasControls,
  isHtml,
  looksLikeLlmcIds,
  looksLikeNumpy,
  looksLikeSafetensors,
  readInt32,
  recognizeFormat,
} from "./file-format.ts";
import { readErrno, toIoError, withIoErrors } from "./io-error.ts";
import { JsonCutter, type JsonShape } from "./json-values.ts";
import { countRead } from "./timings.ts";

/** Bytes of a file that are searched for a zero, which no text has. */
const TEXT_HEAD_BYTES = 8000;
/** An unpacked file that is larger than both is no text but an attack: text packs to a third, repeated lines to 1/100. */
const MAX_EXPANSION = 250;
const MAX_UNPACKED = 64 * 2 ** 20;

const NO_TEXT = "name a text file, JSON lines, or token ids as a .bin file";

export interface ReadOptions {
  signal?: AbortSignal | undefined;
  /** Called with the number of bytes of each piece that is read. */
  onBytes?: ((bytes: number) => void) | undefined;
}

/** A file's content, unpacked where it is gzip. */
export interface OpenedData {
  path: string;
  /** The path without .gz. */
  name: string;
  packed: boolean;
  /** The first bytes, {@link HEAD_BYTES} or the whole file. */
  head: Uint8Array;
  /** Whether `head` is the whole file. */
  isWhole: boolean;
  /** The whole content; to be read once. */
  chunks: AsyncGenerator<Uint8Array>;
}

/** Token ids, or text: as it is, or in the records of JSON. */
export type DataKind = { kind: "ids" } | { kind: "text" } | { kind: "json"; shape: JsonShape };

/**
 * @throws NfcError "not-found", "io" (also for a pipe or a device), "aborted", "invalid-file" for a damaged gzip file,
 * "unsupported" for one inside another
 */
export async function openData(path: string, options: ReadOptions = {}): Promise<OpenedData> {
  await refusePipe(path);
  const file = await peek(readChunks(path, options));
  if (!isGzip(file.head)) return { path, name: path, packed: false, ...file };
  const unpacked = await peek(unpack(path, file.chunks));
  const name = path.replace(/\.gz$/i, "");
  if (!isGzip(unpacked.head)) return { path, name, packed: true, ...unpacked };
  await unpacked.chunks.return(undefined);
  throw new NfcError("unsupported", `${path}: is a gzip archive inside another`, { hint: "unpack it first" });
}

/** Data files are read more than once, and opening a pipe waits for its writer. */
async function refusePipe(path: string): Promise<void> {
  const status = await withIoErrors(path, () => stat(path));
  if (status.isFile() || status.isDirectory()) return; // reading a folder fails with its own message
  throw new NfcError("io", `${path}: is a pipe or a device, and a text is read more than once`, {
    hint: "write it to a file, and name that",
  });
}

/** What the files hold, by their content. @throws NfcError as `openData` and `classifyData` */
export async function detectDataKind(path: string): Promise<DataKind> {
  const data = await openData(path);
  try {
    return classifyData(data);
  } finally {
    await data.chunks.return(undefined);
  }
}

/** Token ids or text, by the files' content. @throws NfcError "usage" when they are mixed; as `detectDataKind` */
export async function detectCommonKind(files: readonly string[]): Promise<"ids" | "text"> {
  let ids: string | undefined;
  let text: string | undefined;
  for (const path of files) {
    if ((await detectDataKind(path)).kind === "ids") ids ??= path;
    else text ??= path;
  }
  if (ids !== undefined && text !== undefined)
    throw new NfcError("usage", `${ids} holds token ids, ${text} text: a corpus is one or the other`, {
      hint: "name the files of one kind",
    });
  return ids === undefined ? "text" : "ids";
}

/** @throws NfcError "unsupported", naming what the file is, for one that is neither text nor token ids */
export function classifyData(data: OpenedData): DataKind {
  if (isIds(data)) return { kind: "ids" };
  refuseOtherFormat(data);
  const extension = /\.(json|jsonl|ndjson|csv|tsv|html?)$/i.exec(data.name)?.[1]?.toLowerCase() ?? "";
  if (extension === "csv" || extension === "tsv") throw makeTableError(data.path, extension);
  const text = decodeHead(data);
  if (isHtml(text) && !extension.startsWith("htm"))
    throw new NfcError("unsupported", `${data.path}: is a page of HTML; did a download go wrong?`, {
      hint: "fetch the file again; to read the page as it is, name it .html",
    });
  const shape = findJsonShape(text, extension, data.isWhole);
  return shape === null ? { kind: "text" } : { kind: "json", shape };
}

/** @throws NfcError "unsupported" for the formats of other tools and for files that are no text */
export function refuseOtherFormat({ path, name, head }: OpenedData): void {
  const format = recognizeFormat(head);
  if (format) throw new NfcError("unsupported", `${path}: is ${format.what}, not text`, { hint: format.asData });
  if (looksLikeSafetensors(head) && readInt32(head, 4) === 0 && head[7] === 0)
    throw new NfcError("unsupported", `${path}: is a safetensors file, not text`, { hint: NO_TEXT });
  if (findEncoding(head) !== "utf-8") return;
  const zero = head.subarray(0, TEXT_HEAD_BYTES).indexOf(0);
  if (zero < 0) return;
  const known = findFormatByName(name);
  if (known) throw new NfcError("unsupported", `${path}: is ${known.what}, not text`, { hint: known.asData });
  throw new NfcError("unsupported", `${path}: is not text: byte ${zero} is zero`, { hint: NO_TEXT });
}

/** The encoding that a byte order mark names; UTF-8 without one, and where no whole number of units follows it. */
export function findEncoding(head: Uint8Array): "utf-8" | "utf-16le" | "utf-16be" {
  const [first, second] = head;
  if (head.byteLength % 2 === 1) return "utf-8";
  if (first === 0xff && second === 0xfe && !(head[2] === 0 && head[3] === 0)) return "utf-16le";
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
}

/** Ids by their magic number, or a .bin file that is neither text nor anything known. */
function isIds(data: OpenedData): boolean {
  const { head, name } = data;
  if (looksLikeLlmcIds(head) || looksLikeNumpy(head)) return true;
  return /\.bin$/i.test(name) && recognizeFormat(head) === null && !isPlainText(data);
}

/** Whether the first bytes are UTF-8 without control characters, or UTF-16 with its mark: no list of ids looks so. */
function isPlainText(data: OpenedData): boolean {
  if (data.head.byteLength === 0) return false;
  return findEncoding(data.head) !== "utf-8" || !(hasControls(data.head) || decodeHead(data).includes("\uFFFD"));
}

/** The first bytes as text; a character that they cut is dropped. */
function decodeHead({ head }: OpenedData): string {
  return new TextDecoder(findEncoding(head)).decode(head, { stream: true });
}

/**
 * How JSON is laid out, or null for plain text. Names ending in json, jsonl or ndjson promise it; under other names the
 * first two values must be objects, or the first of an array an object or a string.
 */
function findJsonShape(text: string, extension: string, isWhole: boolean): JsonShape | null {
  const promised = extension === "json" || extension === "jsonl" || extension === "ndjson";
  const [first] = text.trimStart();
  if (first === "[") return promised || isJson(text, "array", isWhole) ? "array" : null;
  if (extension === "jsonl" || extension === "ndjson") return "lines";
  if (!promised && !(first === "{" && isJson(text, "values", isWhole))) return null;
  const { done, value } = new JsonCutter("values").push(text).next();
  return !done && value.json.includes("\n") ? "values" : "lines";
}

/** Whether the first two values in `text`, or the one that it is cut in, look like records. */
function isJson(text: string, shape: "array" | "values", isWhole: boolean): boolean {
  const cutter = new JsonCutter(shape);
  let seen = 0;
  for (const { json } of cutter.push(text)) {
    if (++seen > 2) continue;
    const value = parse(json);
    if (typeof value !== "object" && !(typeof value === "string" && shape === "array")) return false;
    if (value === null || Array.isArray(value)) return false;
  }
  if (cutter.hasEnded && cutter.rest) return false; // more text follows the array
  if (seen > 1) return true;
  if (isWhole) return seen > 0 && (shape === "array" ? cutter.hasEnded && !cutter.rest : !cutter.rest);
  return seen > 0 || /^\s*\[?\s*(\{\s*"(?:[^"\\]|\\.)*"\s*:|"[^"\\])/.test(text);
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function makeTableError(path: string, extension: "csv" | "tsv"): NfcError {
  const separator = extension === "tsv" ? ", sep='\\t'" : "";
  return new NfcError("unsupported", `${path}: is a table (${extension.toUpperCase()}), not text`, {
    hint: `save its rows as JSON lines, for example in Python: pandas.read_csv(FILE${separator}).to_json("data.jsonl", orient="records", lines=True), and name the column with --field`,
  });
}

const isGzip = (head: Uint8Array): boolean => head[0] === 0x1f && head[1] === 0x8b;

async function* readChunks(path: string, { signal, onBytes }: ReadOptions): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Buffer>) {
      onBytes?.(chunk.byteLength);
      countRead(chunk.byteLength);
      yield chunk;
    }
  } catch (error) {
    if (signal?.aborted) throw new NfcError("aborted", "interrupted", { cause: error });
    throw toIoError(error, path);
  }
}

/** Reads the beginning of a stream, and gives it back with the stream. */
async function peek(source: AsyncGenerator<Uint8Array>): Promise<Pick<OpenedData, "head" | "isWhole" | "chunks">> {
  const read: Uint8Array[] = [];
  let length = 0;
  let isWhole = false;
  while (length < HEAD_BYTES && !isWhole) {
    const { done, value } = await source.next();
    if (done) isWhole = true;
    else {
      read.push(value);
      length += value.byteLength;
    }
  }
  async function* replay(): AsyncGenerator<Uint8Array> {
    try {
      yield* read;
      if (!isWhole) yield* source;
    } finally {
      await source.return(undefined);
    }
  }
  return { head: Buffer.concat(read), isWhole, chunks: replay() };
}

/** @throws NfcError "invalid-file" for damaged data, and for what grows beyond all that text does */
async function* unpack(path: string, packed: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let before = 0;
  let after = 0;
  async function* count(): AsyncGenerator<Uint8Array> {
    for await (const chunk of packed) {
      before += chunk.byteLength;
      yield chunk;
    }
  }
  // The stream's fault reaches the loop below, so there is nothing left to do here.
  const unpacked = pipeline(
    Readable.from(count(), { objectMode: false }),
    createGunzip({ chunkSize: HEAD_BYTES }),
    () => {},
  );
  try {
    for await (const chunk of unpacked as AsyncIterable<Buffer>) {
      after += chunk.byteLength;
      if (after > MAX_UNPACKED && after > MAX_EXPANSION * before)
        throw new NfcError("invalid-file", `${path}: unpacks to more than ${MAX_EXPANSION} times its size`, {
          hint: "this is no text; unpack it first to see what it is",
        });
      yield chunk;
    }
  } catch (error) {
    if (!readErrno(error)?.startsWith("Z_")) throw error;
    const fact = readErrno(error) === "Z_BUF_ERROR" ? "the gzip data ends too early" : "the gzip data is damaged";
    throw new NfcError("invalid-file", `${path}: ${fact}`, { hint: "fetch or pack the file again", cause: error });
  }
}
