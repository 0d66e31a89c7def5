// Makes c_attn of a tied layer: columns [q, k, v] become [s, v], v byte by byte, S from a scratch file.
import { open, rm } from "node:fs/promises";
import type { Checkpoint, CheckpointTensor } from "../checkpoint/checkpoint.ts";
import { collectBytes, convertChunks } from "../checkpoint/model-folder.ts";
import { encodeFloats, type FloatDtype } from "../formats/dtype.ts";
import type { TensorSource } from "../formats/safetensors/writer.ts";
import { writeFully } from "../io/durable.ts";
import { withIoErrors } from "../io/io-error.ts";
import { withFile } from "../io/positional-file.ts";
import type { TiedWeights } from "./calibration.ts";

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

/** S of all layers on disk: GPT-2 XL's would take half a gigabyte of memory. */
export interface TieScratch {
  put(layer: number, tied: TiedWeights): Promise<void>;
  /** Reads what was put for a layer; `bias` is 0 where there was none. */
  read(layer: number): Promise<{ weight: Float32Array; bias: Float32Array }>;
  remove(): Promise<void>;
}

/** Creates the file; each layer has `width` rows of the weight and one of the bias. */
export async function createTieScratch(path: string, width: number): Promise<TieScratch> {
  const file = await withIoErrors(path, () => open(path, "wx"));
  const makeRows = () => new Float32Array((width + 1) * width);
  return {
    async put(layer, { weight, bias }) {
      const rows = makeRows();
      rows.set(weight);
      if (bias) rows.set(bias, weight.length);
      const bytes = new Uint8Array(rows.buffer);
      await withIoErrors(path, () => writeFully(file, bytes, layer * bytes.byteLength));
    },
    async read(layer) {
      const rows = makeRows();
      const bytes = new Uint8Array(rows.buffer);
      await withFile(path, (scratch) => scratch.readInto(bytes, layer * bytes.byteLength));
      return { weight: rows.subarray(0, width * width), bias: rows.subarray(width * width) };
    },
    async remove() {
      await withIoErrors(path, () => file.close());
      await withIoErrors(path, () => rm(path, { force: true }));
    },
  };
}

/** c_attn.weight [C, 2C] or c_attn.bias [2C] of a tied layer, as a source for the writer. */
export function makeTiedSource(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  tied: () => Promise<{ weight: Float32Array; bias: Float32Array }>,
  dtype: FloatDtype,
): TensorSource {
  const width = checkpoint.config.n_embd;
  const isBias = tensor.name.endsWith(".bias");
  const [shape, rows] = isBias ? [[2 * width], 1] : [[width, 2 * width], width];
  async function* chunks() {
    const { weight, bias } = await tied();
    const s = encodeFloats(isBias ? bias : weight, dtype); // [·, C]
    const qkv = await collectBytes(convertChunks(checkpoint.chunks(tensor.name), tensor, dtype)); // [·, 3C]
    yield* joinColumns(s, qkv, rows);
  }
  return { name: tensor.name, dtype, shape, chunks };
}

/** Rows of [s, v] from rows of s and rows of [q, k, v], all in bytes. */
function* joinColumns(s: Uint8Array, qkv: Uint8Array, rows: number): Generator<Uint8Array> {
  const part = s.byteLength / rows;
  const out = new Uint8Array(2 * s.byteLength);
  for (let row = 0; row < rows; row++) {
    out.set(s.subarray(row * part, (row + 1) * part), 2 * row * part);
    out.set(qkv.subarray((3 * row + 2) * part, (3 * row + 3) * part), (2 * row + 1) * part);
  }
  yield out;
}
