// Makes c_attn of a layer with other scores: columns [q, k, v] become [s, v] or narrower [q, k, v], v byte by byte.
import type { Checkpoint, CheckpointTensor } from "../../checkpoint/checkpoint.ts";
import type { MadeTensor } from "../../checkpoint/derived.ts";
import { collectBytes, convertChunks, encodeWithin } from "../../checkpoint/model-folder.ts";
import { countBytes, type FloatDtype } from "../../formats/dtype.ts";

export interface LayerProjections {
  qWeight: Float32Array; // [C, C]
  kWeight: Float32Array; // [C, C]
  qBias: Float32Array | null; // [C]
  kBias: Float32Array | null; // [C]
}

/** Reads Q and K of one layer from c_attn [C, 3C] = [q, k, v]. */
export async function readProjections(checkpoint: Checkpoint, layer: number): Promise<LayerProjections> {
  const width = checkpoint.config.n_embd;
  const weight = await checkpoint.readF32(`h.${layer}.attn.c_attn.weight`);
  const bias = checkpoint.config.bias ? await checkpoint.readF32(`h.${layer}.attn.c_attn.bias`) : null;
  const columns = (part: number) => {
    // Shared memory, which the workers of the tie read uncopied.
    const out = new Float32Array(new SharedArrayBuffer(width * width * Float32Array.BYTES_PER_ELEMENT));
    for (let row = 0; row < width; row++)
      out.set(weight.subarray((row * 3 + part) * width, (row * 3 + part + 1) * width), row * width);
    return out;
  };
  return {
    qWeight: columns(0),
    kWeight: columns(1),
    qBias: bias?.slice(0, width) ?? null,
    kBias: bias?.slice(width, 2 * width) ?? null,
  };
}

/** c_attn.weight or c_attn.bias of a layer whose scores are made anew: [S, v], from S in float32 and the bytes of V. */
export function makeTiedTensor(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  readS: () => Promise<Float32Array>,
  dtype: FloatDtype = tensor.dtype,
): MadeTensor {
  return makeJoined(checkpoint, tensor, dtype, async (qkv, rows) => {
    const whole = qkv.byteLength / rows; // [q, k, v]
    return [{ bytes: encodeWithin(await readS(), tensor.name, dtype) }, { bytes: qkv, from: (2 * whole) / 3 }];
  });
}

/** c_attn.weight or c_attn.bias of a layer whose values are made anew: the first `kept` columns as bytes, then V. */
export function makeValueTensor(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  {
    kept,
    readV,
    dtype = tensor.dtype,
  }: { kept: number; readV: () => Promise<Float32Array>; dtype?: FloatDtype | undefined },
): MadeTensor {
  const to = countBytes(dtype, [kept]);
  return makeJoined(checkpoint, tensor, dtype, async (old) => [
    { bytes: old, to },
    { bytes: encodeWithin(await readV(), tensor.name, dtype) },
  ]);
}

/** Rows of bytes, of which those `from` … `to` of each row are taken. */
interface Columns {
  bytes: Uint8Array;
  from?: number;
  to?: number;
}

/** A tensor put together from columns of the old one, in `dtype`, and of others. */
function makeJoined(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  dtype: FloatDtype,
  list: (old: Uint8Array, rows: number) => Promise<Columns[]>,
): MadeTensor {
  const rows = tensor.shape.length === 2 ? (tensor.shape[0] as number) : 1;
  async function* chunks() {
    const old = await collectBytes(convertChunks(checkpoint.chunks(tensor.name), tensor, dtype));
    yield* joinColumns(await list(old, rows), rows);
  }
  return { dtype, chunks };
}

/** Bytes of rows that are put together at once. */
const JOINED_BYTES = 2 ** 20;

/** @yields pieces of whole rows, all in one buffer: each is valid until the next is asked for */
function* joinColumns(parts: readonly Columns[], rows: number): Generator<Uint8Array> {
  const places = parts.map(({ bytes, from = 0, to = bytes.byteLength / rows }) => ({ bytes, from, to }));
  const width = places.reduce((sum, { from, to }) => sum + to - from, 0);
  const count = Math.min(rows, Math.ceil(JOINED_BYTES / width));
  const out = new Uint8Array(count * width);
  for (let first = 0; first < rows; first += count) {
    let at = 0;
    for (let row = first; row < Math.min(rows, first + count); row++)
      for (const { bytes, from, to } of places) {
        const start = (row * bytes.byteLength) / rows;
        out.set(bytes.subarray(start + from, start + to), at);
        at += to - from;
      }
    yield out.subarray(0, at);
  }
}
