// Decodes and checks a safetensors header, and encodes one. No function here opens a file.
import { NfcError } from "../../errors.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { DTYPE_BITS, type Dtype, isDtype, rankAlignment } from "../dtype.ts";
import { decodeUtf8, JsonCursor } from "../json-strict.ts";

/**
 * Limits that keep a hostile header from filling the memory. The largest models have some thousand tensors a file, of about
 * 100 bytes of header each; the reference implementation reads up to 100 MB.
 */
const MAX_HEADER_BYTES = 25_000_000;
const MAX_TENSORS = 20_000;
const MAX_NAME_LENGTH = 4096;
/** NumPy's limit. */
const MAX_RANK = 64;
/** A file starts with the header's length: a little-endian u64. */
export const PREFIX_BYTES = 8;
/** Headers are padded with spaces so that the data section starts at a multiple of this. */
const HEADER_ALIGNMENT = 8;
/** Sizes are u64 in the format; a product beyond is an overflow, not a size. */
const MAX_U64 = 2n ** 64n - 1n;
const METADATA_KEY = "__metadata__";
const DAMAGED = "the file is damaged or its writer is broken: download or write it again";

/** One tensor of a header. `begin` and `end` are bytes relative to the data section. */
export interface TensorInfo {
  name: string;
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

/** A checked header; `tensors` iterates in offset order. `metadata` has no prototype: any key is safe to ask for. */
export interface SafetensorsHeader {
  tensors: Map<string, TensorInfo>;
  metadata: Record<string, string>;
}

/** A tensor to be laid out by {@link encodeHeader}. */
export interface TensorShape {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

/**
 * Reads the header's length in bytes from the first bytes of a file.
 * @throws NfcError `invalid-file` when the file is too short for a header, or the length is absurd.
 */
export function readHeaderLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (fileSize < PREFIX_BYTES || prefix.byteLength < PREFIX_BYTES)
    throw invalid(`${file}: ${fileSize} bytes are too few for a safetensors file`);
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length === 0n) throw invalid(`${file}: the header is empty`);
  if (length > MAX_HEADER_BYTES) {
    const hint = "this is no safetensors file, or a damaged one: download or write it again";
    throw new NfcError("invalid-file", `${file}: the header claims ${length} bytes (limit ${MAX_HEADER_BYTES})`, {
      hint,
    });
  }
  if (Number(length) > fileSize - PREFIX_BYTES)
    throw invalid(`${file}: the header claims ${length} bytes, but the file has only ${fileSize}`);
  return Number(length);
}

/**
 * Parses and checks a header by the rules of the reference implementation, and refuses duplicate names besides.
 * `dataLength` is the number of bytes that follow the header; `file` is named in every message.
 * Equations checked: end − begin = product(shape) · bits / 8, begin₀ = 0, beginᵢ₊₁ = endᵢ, end of the last = dataLength.
 * @throws NfcError `invalid-file`, one line naming file and tensor.
 */
export function parseHeader(json: Uint8Array, dataLength: number, file: string): SafetensorsHeader {
  if (json.byteLength === 0) throw invalid(`${file}: the header is empty`);
  const cursor = new JsonCursor(decodeUtf8(json, `${file}: the header`), `${file}: the header`);
  if (cursor.kind() === "array") throw invalid(`${file}: the header is an array, not an object`);
  const found = new Map<string, TensorInfo>();
  const metadata: Record<string, string> = Object.create(null);
  let metadataSeen = false;
  cursor.object((key) => {
    if (found.size >= MAX_TENSORS) throw invalid(`${file}: the header has more than ${MAX_TENSORS} tensors`);
    checkNameLength(key, `${file}: the header`);
    if (key === METADATA_KEY) {
      if (metadataSeen) throw invalid(`${file}: ${METADATA_KEY} stands twice in the header`);
      metadataSeen = true;
      parseMetadata(cursor, metadata, file);
    } else {
      if (found.has(key)) throw invalid(`${file}: tensor ${quoteUntrusted(key)}: the name stands twice in the header`);
      found.set(key, parseTensor(cursor, key, file));
    }
  });
  cursor.end();
  return { tensors: checkLayout([...found.values()], dataLength, file), metadata };
}

function invalid(message: string): NfcError {
  return new NfcError("invalid-file", message, { hint: DAMAGED });
}

function checkNameLength(name: string, where: string): void {
  if (name.length > MAX_NAME_LENGTH)
    throw invalid(`${where} has a name of ${name.length} characters (limit ${MAX_NAME_LENGTH})`);
}

/** Duplicate keys are allowed here, as in the reference: the last one counts. */
function parseMetadata(cursor: JsonCursor, into: Record<string, string>, file: string): void {
  if (cursor.kind() === "null") {
    cursor.skip();
    return;
  }
  if (cursor.kind() !== "object") throw invalid(`${file}: ${METADATA_KEY} is not an object`);
  let count = 0;
  cursor.object((key) => {
    if (++count > MAX_TENSORS) throw invalid(`${file}: ${METADATA_KEY} has more than ${MAX_TENSORS} entries`);
    checkNameLength(key, `${file}: ${METADATA_KEY}`);
    if (cursor.kind() !== "string")
      throw invalid(`${file}: ${METADATA_KEY}: the value of ${quoteUntrusted(key)} is no string`);
    into[key] = cursor.string();
  });
}

/** Fields other than the three of the format are skipped. */
function parseTensor(cursor: JsonCursor, name: string, file: string): TensorInfo {
  const where = `${file}: tensor ${quoteUntrusted(name)}`;
  if (cursor.kind() !== "object") throw invalid(`${where}: its entry is not an object`);
  let dtype: Dtype | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  cursor.object((field) => {
    const known =
      field === "dtype" ? dtype : field === "shape" ? shape : field === "data_offsets" ? offsets : undefined;
    if (known !== undefined) throw invalid(`${where}: ${field} stands twice`);
    if (field === "dtype") dtype = parseDtype(cursor, where);
    else if (field === "shape") shape = parseIntegers(cursor, where, "shape");
    else if (field === "data_offsets") offsets = parseIntegers(cursor, where, "data_offsets");
    else cursor.skip();
  });
  if (dtype === undefined) throw invalid(`${where}: dtype is missing`);
  if (shape === undefined) throw invalid(`${where}: shape is missing`);
  if (offsets === undefined) throw invalid(`${where}: data_offsets is missing`);
  return checkTensor({ name, dtype, shape }, offsets, where);
}

function parseDtype(cursor: JsonCursor, where: string): Dtype {
  if (cursor.kind() !== "string") throw invalid(`${where}: dtype is no string`);
  const dtype = cursor.string();
  if (!isDtype(dtype)) throw invalid(`${where}: unknown dtype ${quoteUntrusted(dtype)}`);
  return dtype;
}

function parseIntegers(cursor: JsonCursor, where: string, field: string): number[] {
  if (cursor.kind() !== "array") throw invalid(`${where}: ${field} is not an array`);
  const integers: number[] = [];
  cursor.array((index) => {
    if (index >= MAX_RANK) throw invalid(`${where}: ${field} has more than ${MAX_RANK} entries`);
    if (cursor.kind() !== "number") throw invalid(`${where}: ${field}[${index}] is not a number`);
    const text = cursor.number();
    const shown = text.length > 24 ? `${text.slice(0, 24)}…` : text;
    if (text.startsWith("-")) throw invalid(`${where}: ${field}[${index}] is negative: ${shown}`);
    if (/[.eE]/.test(text)) throw invalid(`${where}: ${field}[${index}] is not an integer: ${shown}`);
    const value = Number(text);
    if (!Number.isSafeInteger(value)) throw invalid(`${where}: ${field}[${index}] is too large: ${shown}`);
    integers.push(value);
  });
  return integers;
}

function checkTensor(
  tensor: { name: string; dtype: Dtype; shape: number[] },
  offsets: number[],
  where: string,
): TensorInfo {
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin === undefined || end === undefined) {
    throw invalid(`${where}: data_offsets has ${offsets.length} entries, not 2`);
  }
  if (end < begin) throw invalid(`${where}: data_offsets end (${end}) before they begin (${begin})`);
  const bits = countBits(tensor.dtype, tensor.shape);
  if (bits === undefined) throw invalid(`${where}: the size of ${formatShape(tensor)} overflows`);
  if (bits % 8n !== 0n) throw invalid(`${where}: ${formatShape(tensor)} is no whole number of bytes`);
  if (bits / 8n !== BigInt(end - begin)) {
    throw invalid(`${where}: ${formatShape(tensor)} needs ${bits / 8n} bytes, data_offsets span ${end - begin}`);
  }
  return { ...tensor, begin, end };
}

/** product(shape) · bits, or undefined when a step of it leaves u64 (a later 0 does not mend an overflow). */
function countBits(dtype: Dtype, shape: readonly number[]): bigint | undefined {
  let product = 1n;
  for (const dimension of [...shape, DTYPE_BITS[dtype]]) {
    product *= BigInt(dimension);
    if (product > MAX_U64) return undefined;
  }
  return product;
}

function formatShape(tensor: { dtype: Dtype; shape: readonly number[] }): string {
  const shown = tensor.shape.length > 8 ? [...tensor.shape.slice(0, 8), "…"] : tensor.shape;
  return `${tensor.dtype} [${shown.join(", ")}]`;
}

/** Sorts by offset and requires that the tensors cover the data section exactly once. */
function checkLayout(tensors: TensorInfo[], dataLength: number, file: string): Map<string, TensorInfo> {
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let previous: TensorInfo | undefined;
  for (const tensor of tensors) {
    checkFollows(tensor, previous, file);
    previous = tensor;
  }
  const end = previous?.end ?? 0;
  if (end > dataLength) {
    const hint = `the file is truncated by ${end - dataLength} bytes: download or write it again`;
    const message = `${file}: tensor ${quoteUntrusted(previous?.name ?? "")}: the data ends early, ${end} bytes are needed, ${dataLength} are there`;
    throw new NfcError("invalid-file", message, { hint });
  }
  if (end < dataLength) throw invalid(`${file}: ${dataLength - end} bytes follow the last tensor`);
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

function checkFollows(tensor: TensorInfo, previous: TensorInfo | undefined, file: string): void {
  const expected = previous?.end ?? 0;
  if (tensor.begin === expected) return;
  const where = `${file}: tensor ${quoteUntrusted(tensor.name)}`;
  if (!previous) throw invalid(`${where}: the first tensor begins at byte ${tensor.begin} of the data, not at 0`);
  const other = `tensor ${quoteUntrusted(previous.name)}`;
  if (tensor.begin > expected) throw invalid(`${where}: a hole of ${tensor.begin - expected} bytes after ${other}`);
  if (tensor.begin === previous.begin && tensor.end === previous.end) {
    throw invalid(`${where}: it has the same bytes as ${other}`);
  }
  throw invalid(`${where}: it overlaps ${other}`);
}

/**
 * Lays tensors out (dtype alignment descending, then name by code points; contiguous) and encodes the header: 8 bytes
 * of length, JSON, spaces up to a multiple of 8. Metadata comes first, its keys sorted, so equal input gives equal bytes.
 * @throws NfcError `usage` for names or shapes that cannot be written, `unsupported` for a header over the limit.
 */
export function encodeHeader(
  tensors: readonly TensorShape[],
  metadata: Readonly<Record<string, string>>,
): { bytes: Uint8Array; order: TensorInfo[] } {
  const order = layOut(tensors);
  const members = order.map(({ name, dtype, shape, begin, end }) => {
    return `${encodeString(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`;
  });
  const keys = Object.keys(metadata).sort(compareCodePoints);
  if (keys.length > 0) {
    const entries = keys.map((key) => `${encodeString(key)}:${encodeString(metadata[key] as string)}`);
    members.unshift(`"${METADATA_KEY}":{${entries.join(",")}}`);
  }
  const json = Buffer.from(`{${members.join(",")}}`, "utf8");
  const length = Math.ceil(json.byteLength / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  if (length > MAX_HEADER_BYTES) {
    const message = `a safetensors header of ${length} bytes is over the limit of ${MAX_HEADER_BYTES}`;
    throw new NfcError("unsupported", message);
  }
  const bytes = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, PREFIX_BYTES);
  return { bytes, order };
}

/** Orders names as Rust and Python do, by code points; JavaScript's own order (UTF-16 units) differs beyond U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}

function layOut(tensors: readonly TensorShape[]): TensorInfo[] {
  const sorted = [...tensors].sort(
    (a, b) => rankAlignment(b.dtype) - rankAlignment(a.dtype) || compareCodePoints(a.name, b.name),
  );
  const names = new Set<string>();
  let end = 0;
  return sorted.map(({ name, dtype, shape }) => {
    const where = `tensor ${quoteUntrusted(name)} cannot be written`;
    if (name === METADATA_KEY) throw new NfcError("usage", `${where}: the name is reserved`);
    if (names.has(name)) throw new NfcError("usage", `${where}: two tensors have this name`);
    names.add(name);
    const begin = end;
    end += countWrittenBytes({ dtype, shape }, where);
    return { name, dtype, shape: [...shape], begin, end };
  });
}

function countWrittenBytes(tensor: { dtype: Dtype; shape: readonly number[] }, where: string): number {
  const wholeDimensions = tensor.shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0);
  const bits = wholeDimensions ? countBits(tensor.dtype, tensor.shape) : undefined;
  if (bits === undefined || bits % 8n !== 0n || bits / 8n > Number.MAX_SAFE_INTEGER) {
    throw new NfcError("usage", `${where}: ${formatShape(tensor)} is no valid size`);
  }
  return Number(bits / 8n);
}

/** JSON.stringify escapes exactly what the reference escapes, except that lone surrogates have no UTF-8 at all. */
function encodeString(text: string): string {
  if (/\p{Surrogate}/u.test(text))
    throw new NfcError("usage", `${quoteUntrusted(text)} cannot be written: it has a lone surrogate`);
  return JSON.stringify(text);
}
