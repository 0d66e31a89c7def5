// Makes c_attn of a layer with other scores: columns [q, k, v] become [s, v] or narrower [q, k, v], v byte by byte.
import type { Checkpoint, CheckpointTensor } from "../checkpoint/checkpoint.ts";
import type { MadeTensor } from "../checkpoint/derived.ts";
import { collectBytes, convertChunks } from "../checkpoint/model-folder.ts";
import { encodeFloats, type FloatDtype } from "../formats/dtype.ts";

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
    const out = new Float32Array(width * width);
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
  const rows = tensor.shape.length === 2 ? (tensor.shape[0] as number) : 1;
  async function* chunks() {
    const s = encodeFloats(await readS(), dtype); // [·, W]
    const qkv = await collectBytes(convertChunks(checkpoint.chunks(tensor.name), tensor, dtype)); // [·, 3C]
    yield* joinColumns(s, qkv, rows);
  }
  return { dtype, chunks };
}

/** Rows of [s, v] from rows of s and rows of [q, k, v], all in bytes. */
function* joinColumns(s: Uint8Array, qkv: Uint8Array, rows: number): Generator<Uint8Array> {
  const [scores, whole] = [s.byteLength / rows, qkv.byteLength / rows];
  const part = whole / 3;
  const width = scores + part;
  const out = new Uint8Array(rows * width);
  for (let row = 0; row < rows; row++) {
    out.set(s.subarray(row * scores, (row + 1) * scores), row * width);
    out.set(qkv.subarray(row * whole + 2 * part, (row + 1) * whole), row * width + scores);
  }
  yield out;
}
