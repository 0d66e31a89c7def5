// Feeds a model prompts and then one token a row at a time, and keeps its KV cache.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { decodeFloats } from "../../formats/dtype.ts";
import type { SessionOptions, Tensor, TensorArray, Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { ExportedFile } from "../exported/exported-model.ts";
import {
  type CheckpointSessionOptions,
  type ModelSession,
  openCheckpointSession,
  openFileSession,
} from "../model-session.ts";
import { makeEmptyCache, makeIdFeeds, padLeft, takeCache } from "./decoder-feeds.ts";

/** Logits of one piece of the prompts (rows · V float32) stay below this, unless a piece has one token a row. */
const LOGITS_PER_PIECE = 16 * 2 ** 20;

/** Logits are views, [V] a row: use them before the next call. No row may pass n_positions: the caller counts. */
export class Decoder {
  readonly config: ModelConfig;
  /** The model's name in messages. */
  readonly source: string;
  private readonly session: ModelSession;
  private pads: readonly number[] = [];
  private past = 0;
  private cache: Tensors = {};

  constructor(session: ModelSession) {
    this.session = session;
    this.config = session.config;
    this.source = session.source;
  }

  /** @throws NfcError "invalid-file" when ONNX Runtime refuses the file */
  static async ofFile(file: ExportedFile, config: ModelConfig, options: SessionOptions = {}): Promise<Decoder> {
    return new Decoder(await openFileSession(file, config, options));
  }

  /** The stored weights, in float32. */
  static async ofCheckpoint(checkpoint: Checkpoint, options: CheckpointSessionOptions = {}): Promise<Decoder> {
    return new Decoder(await openCheckpointSession(checkpoint, options));
  }

  /**
   * Starts anew with these prompts as one batch, padded on the left. Gives the logits after each prompt's last token.
   * @throws NfcError "aborted"; "unsupported" for prompts of several lengths if the model has no position_ids
   */
  async prompt(prompts: readonly (readonly number[])[], signal?: AbortSignal): Promise<Float32Array[]> {
    const { ids, pads } = padLeft(prompts);
    if (pads.some((pad) => pad > 0) && !this.session.hasPositions)
      throw new NfcError("unsupported", `${this.source}: has no position_ids, so it cannot run padded prompts`, {
        hint: "give one prompt at a time (--batch-size 1)",
      });
    this.pads = pads;
    this.past = 0;
    this.cache = makeEmptyCache(prompts.length, this.config, this.session.cacheDtype);
    const length = ids[0]?.length as number;
    const piece = Math.max(1, Math.floor(LOGITS_PER_PIECE / (prompts.length * this.config.vocab_size)));
    let logits: Float32Array[] = [];
    for (let start = 0; start < length; start += piece) {
      throwIfAborted(signal);
      logits = await this.run(ids.map((row) => row.slice(start, start + piece)));
    }
    return logits;
  }

  /** One more token a row; gives the logits after it. */
  step(ids: readonly number[]): Promise<Float32Array[]> {
    return this.run(ids.map((id) => [id]));
  }

  /** Several more tokens of a batch of one row; gives the logits after each of them. */
  async extend(ids: readonly number[]): Promise<Float32Array[]> {
    const [width, count] = [this.config.vocab_size, ids.length];
    const { dtype, data } = await this.runAll([ids]); // [1, T, V]
    return Array.from({ length: count }, (_, i) => toFloat32(data.subarray(i * width, (i + 1) * width), dtype));
  }

  /** Forgets all but the first `length` positions of a batch of one row. */
  truncate(length: number): void {
    if (length >= this.past) return;
    const cut = ([name, tensor]: [string, Tensor]) => [name, keepPositions(tensor, length)] as const;
    this.cache = Object.fromEntries(Object.entries(this.cache).map(cut));
    this.past = length;
  }

  /** Goes on with some of the rows only, in the order given. */
  keep(rows: readonly number[]): void {
    const batch = this.pads.length;
    this.pads = rows.map((row) => this.pads[row] as number);
    this.cache = Object.fromEntries(
      Object.entries(this.cache).map(([name, tensor]) => [name, selectRows(tensor, rows, batch)]),
    );
  }

  close(): Promise<void> {
    return this.session.close();
  }

  private async run(ids: readonly (readonly number[])[]): Promise<Float32Array[]> {
    return selectLastRows(await this.runAll(ids));
  }

  /** Logits [B, T, V] */
  private async runAll(ids: readonly (readonly number[])[]): Promise<Tensor> {
    const outputs = await this.session.run({ ...makeIdFeeds(ids, this.pads, this.past), ...this.cache });
    this.cache = takeCache(outputs);
    this.past += ids[0]?.length as number;
    return outputs.logits as Tensor;
  }
}

/** [1, H, P, D] → [1, H, length, D] */
function keepPositions({ dtype, data, shape }: Tensor, length: number): Tensor {
  const [, heads, past, width] = shape as [number, number, number, number];
  const kept = new (data.constructor as new (length: number) => TensorArray)(heads * length * width);
  for (let head = 0; head < heads; head++) {
    const begin = head * past * width;
    kept.set(data.subarray(begin, begin + length * width) as never, head * length * width);
  }
  return { dtype, data: kept, shape: [1, heads, length, width] };
}

/** Rows of a tensor whose first axis is the batch. */
function selectRows({ dtype, data, shape }: Tensor, rows: readonly number[], batch: number): Tensor {
  const size = data.length / batch;
  const kept = new (data.constructor as new (length: number) => TensorArray)(rows.length * size);
  for (const [i, row] of rows.entries()) kept.set(data.subarray(row * size, (row + 1) * size) as never, i * size);
  return { dtype, data: kept, shape: [rows.length, ...shape.slice(1)] };
}

/** [B, T, V] → the last position of each row, as float32. */
function selectLastRows({ dtype, data, shape }: Tensor): Float32Array[] {
  const [batch, length, width] = shape as [number, number, number];
  return Array.from({ length: batch }, (_, row) => {
    return toFloat32(data.subarray(((row + 1) * length - 1) * width, (row + 1) * length * width), dtype);
  });
}

/** Float32 as it is, float16 converted. */
function toFloat32(values: TensorArray, dtype: Tensor["dtype"]): Float32Array {
  if (dtype !== "float16") return values as Float32Array;
  return decodeFloats(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), "F16");
}
