// c_attn of a tied layer: [q, k, v] columns become [s, v], v's bytes untouched, S read back from a scratch file.
import type { FileHandle } from "node:fs/promises";
import { open, rm } from "node:fs/promises";
import type { Checkpoint, CheckpointTensor } from "../checkpoint/checkpoint.ts";
import { collectBytes, convertChunks } from "../checkpoint/model-folder.ts";
import { encodeFloats, type FloatDtype } from "../formats/dtype.ts";
import type { TensorSource } from "../formats/safetensors/writer.ts";
import { toIoError } from "../io/staging.ts";
import type { TiedWeights } from "./calibration.ts";

export interface LayerProjections {
  qWeight: Float32Array; // [C, C]
  kWeight: Float32Array; // [C, C]
  qBias: Float32Array | null; // [C]
  kBias: Float32Array | null; // [C]
}

/** Q and K of one layer, out of c_attn [C, 3C] = [q, k, v]. */
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
export class TieScratch {
  private readonly file: FileHandle;
  private readonly path: string;
  private readonly width: number;

  private constructor(file: FileHandle, path: string, width: number) {
    this.file = file;
    this.path = path;
    this.width = width;
  }

  static async create(path: string, width: number): Promise<TieScratch> {
    try {
      return new TieScratch(await open(path, "wx+"), path, width);
    } catch (error) {
      throw toIoError(error, path);
    }
  }

  /** Bytes of one layer: the weight, then a row for the bias. */
  private offset(layer: number): number {
    return layer * (this.width + 1) * this.width * 4;
  }

  async put(layer: number, { weight, bias }: TiedWeights): Promise<void> {
    const rows = new Float32Array((this.width + 1) * this.width);
    rows.set(weight);
    if (bias) rows.set(bias, weight.length);
    try {
      const bytes = new Uint8Array(rows.buffer);
      const { bytesWritten } = await this.file.write(bytes, 0, bytes.byteLength, this.offset(layer));
      if (bytesWritten !== bytes.byteLength) throw Object.assign(new Error("short write"), { code: "ENOSPC" });
    } catch (error) {
      throw toIoError(error, this.path);
    }
  }

  /** What was put for a layer; `bias` is 0 where there was none. */
  async read(layer: number): Promise<{ weight: Float32Array; bias: Float32Array }> {
    const rows = new Float32Array((this.width + 1) * this.width);
    const { bytesRead } = await this.file.read(new Uint8Array(rows.buffer), 0, rows.byteLength, this.offset(layer));
    if (bytesRead !== rows.byteLength) throw new Error(`${this.path}: layer ${layer} was not written`);
    const size = this.width * this.width;
    return { weight: rows.subarray(0, size), bias: rows.subarray(size) };
  }

  async remove(): Promise<void> {
    await this.file.close();
    await rm(this.path, { force: true });
  }
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
