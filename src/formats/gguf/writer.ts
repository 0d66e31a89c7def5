// Writes GGUF (version 3, little-endian), the file format of llama.cpp, as a stream: header, metadata, then tensors.
import { NfcError } from "../../errors.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { countElements } from "../dtype.ts";
import { countGgufBytes, type GgufType, toTypeCode } from "./types.ts";

const VERSION = 3;
/** Each tensor begins at a multiple of it: the format's default. */
const ALIGNMENT = 32;

/** A metadata value, tagged by its type in the file. */
export type GgufValue =
  | { uint32: number }
  | { float32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: readonly string[] }
  | { int32s: readonly number[] };

/** The format's numbers of its types. */
const KIND = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

/** A tensor to write; `chunks` must deliver exactly the bytes that type and shape say. */
export interface GgufTensor {
  name: string;
  type: GgufType;
  /** Row-major, the last axis lies together: GGUF states the sizes the other way round. */
  shape: readonly number[];
  chunks(): AsyncIterable<Uint8Array>;
}

export interface GgufModel {
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: readonly GgufTensor[];
}

/** Bytes of the tensors with the padding between them. */
export const countTensorBytes = (tensors: readonly Pick<GgufTensor, "type" | "shape">[]): number =>
  tensors.reduce((sum, tensor) => sum + align(sizeOf(tensor)), 0);

/**
 * The file as a stream of chunks. Tensors are asked for one at a time.
 * @throws NfcError "mismatch" where a source delivers another number of bytes than its tensor has
 */
export async function* streamGguf({ metadata, tensors }: GgufModel): AsyncGenerator<Uint8Array> {
  const head = encodeHead(metadata, tensors);
  yield head;
  yield new Uint8Array(align(head.byteLength) - head.byteLength);
  for (const tensor of tensors) {
    const expected = sizeOf(tensor);
    let delivered = 0;
    for await (const chunk of tensor.chunks()) {
      delivered += chunk.byteLength;
      yield chunk;
    }
    if (delivered !== expected) {
      const fact = `its source delivers ${delivered} bytes, not ${expected}`;
      throw new NfcError("mismatch", `tensor ${quoteUntrusted(tensor.name)}: ${fact}`);
    }
    yield new Uint8Array(align(expected) - expected);
  }
}

const align = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
const sizeOf = ({ type, shape }: Pick<GgufTensor, "type" | "shape">) => countGgufBytes(type, countElements(shape));

/** Magic, version, counts, metadata, and a record of each tensor: name, sizes, type and place among the tensors. */
function encodeHead(metadata: GgufModel["metadata"], tensors: readonly GgufTensor[]): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from("GGUF"), uint32(VERSION), uint64(tensors.length), uint64(metadata.size)];
  for (const [key, value] of metadata) parts.push(text(key), ...encodeValue(value));
  let offset = 0;
  for (const tensor of tensors) {
    const sizes = tensor.shape.toReversed().map(uint64);
    parts.push(text(tensor.name), uint32(sizes.length), ...sizes, uint32(toTypeCode(tensor.type)), uint64(offset));
    offset += align(sizeOf(tensor));
  }
  return Buffer.concat(parts);
}

function encodeValue(value: GgufValue): Uint8Array[] {
  if ("uint32" in value) return [uint32(KIND.uint32), uint32(value.uint32)];
  if ("float32" in value) return [uint32(KIND.float32), float32(value.float32)];
  if ("bool" in value) return [uint32(KIND.bool), Uint8Array.of(value.bool ? 1 : 0)];
  if ("string" in value) return [uint32(KIND.string), text(value.string)];
  const [kind, items] =
    "strings" in value ? [KIND.string, value.strings.map(text)] : [KIND.int32, value.int32s.map(int32)];
  return [uint32(KIND.array), uint32(kind), uint64(items.length), ...items];
}

function fill(bytes: number, write: (buffer: Buffer) => void): Uint8Array {
  const buffer = Buffer.alloc(bytes);
  write(buffer);
  return buffer;
}

const uint32 = (value: number) => fill(4, (buffer) => buffer.writeUInt32LE(value));
const int32 = (value: number) => fill(4, (buffer) => buffer.writeInt32LE(value));
const uint64 = (value: number) => fill(8, (buffer) => buffer.writeBigUInt64LE(BigInt(value)));
const float32 = (value: number) => fill(4, (buffer) => buffer.writeFloatLE(value));

/** A string: its length in bytes, then UTF-8. */
function text(value: string): Uint8Array {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([uint64(bytes.byteLength), bytes]);
}
