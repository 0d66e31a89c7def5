// Reads stored tensors in canonical orientation: transposed, cut to fewer rows, or as they lie in the file.
import { throwIfAborted } from "../errors.ts";
import { countBytes, countElements, DTYPE_BITS } from "../formats/dtype.ts";
import type { TensorReader } from "../formats/safetensors/reader.ts";
import { transposeInto } from "../numeric/transpose.ts";
import type { PlannedTensor } from "./naming/plan.ts";

type Elements = Uint16Array | Uint32Array | BigUint64Array;

/** The bytes of a [rows, columns] matrix of 2-, 4- or 8-byte elements, transposed into a new array. */
export function transposeBytes(bytes: Uint8Array, rows: number, columns: number, elementBytes: number): Uint8Array {
  const View = elementBytes === 2 ? Uint16Array : elementBytes === 4 ? Uint32Array : BigUint64Array;
  const aligned = bytes.byteOffset % elementBytes === 0 ? bytes : bytes.slice();
  const stored = new View(aligned.buffer as ArrayBuffer, aligned.byteOffset, rows * columns);
  const out = new Uint8Array(bytes.byteLength);
  transposeInto<Elements>(stored, rows, columns, new View(out.buffer));
  return out;
}

/** A planned tensor as float32 in canonical orientation. */
export async function readPlanned(reader: TensorReader, tensor: PlannedTensor): Promise<Float32Array> {
  const values = await reader.readF32(tensor.source);
  const [rows = 0, columns = 1] = tensor.shape;
  if (tensor.transposed) return transposeInto(values, columns, rows, new Float32Array(values.length));
  const count = countElements(tensor.shape);
  return count < values.length ? values.slice(0, count) : values;
}

/** A planned tensor's stored dtype in canonical orientation: file bytes as they are unless it must be transposed. */
export async function* readPlannedChunks(reader: TensorReader, tensor: PlannedTensor): AsyncGenerator<Uint8Array> {
  if (tensor.transposed) {
    const [rows = 0, columns = 1] = tensor.shape;
    const bytes = await reader.readBytes(tensor.source);
    yield transposeBytes(bytes, columns, rows, DTYPE_BITS[tensor.dtype] / 8);
    return;
  }
  let left = countBytes(tensor.dtype, tensor.shape);
  for await (const chunk of reader.chunks(tensor.source)) {
    yield chunk.byteLength <= left ? chunk : chunk.subarray(0, left);
    left -= chunk.byteLength;
    if (left <= 0) return;
  }
}

/**
 * True when two stored tensors hold the same bytes. Reads both in step, piece by piece (an iteration has a buffer of its
 * own), and stops at the first difference.
 */
export async function hasSameBytes(reader: TensorReader, a: string, b: string, signal?: AbortSignal): Promise<boolean> {
  if (reader.tensors.get(a)?.byteLength !== reader.tensors.get(b)?.byteLength) return false;
  const others = reader.chunks(b)[Symbol.asyncIterator]();
  try {
    for await (const piece of reader.chunks(a)) {
      throwIfAborted(signal);
      const other = await others.next();
      if (other.done || Buffer.compare(piece, other.value) !== 0) return false;
    }
    return true;
  } finally {
    await others.return?.();
  }
}
