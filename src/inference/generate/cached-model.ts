// What a decoder needs of a model with a cache, and the model that any exported file is: each run gives a new cache.

import { decodeFloats } from "../../formats/dtype.ts";
import type { Tensor, TensorArray, Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { ModelSession } from "../model-session.ts";
import { makeEmptyCache, makeIdFeeds, takeCache } from "./decoder-feeds.ts";

/** A model that has read some positions of a batch of texts. Logits are views, [V] each: use them before the next call. */
export interface CachedModel {
  readonly config: ModelConfig;
  /** The model's name in messages. */
  readonly source: string;
  /** Whether it is told positions: without them, padded prompts go wrong. */
  readonly hasPositions: boolean;
  /** Positions of a prompt that should run at once, so that memory stays small. */
  countPiece(batch: number): number;
  /** Forgets everything, and begins texts of `length` ids that have so many padding ids each before them. */
  start(pads: readonly number[], length: number): void;
  /**
   * Runs new ids, as many in each row.
   * @returns logits after the last id of each row, or, where `all` is given, after every id, row by row
   */
  run(ids: readonly (readonly number[])[], all?: boolean): Promise<Float32Array[]>;
  /** Goes on with some of the rows only, in the order given. */
  keep(rows: readonly number[]): void;
  /** Forgets all but the first `length` positions. */
  truncate(length: number): void;
  close(): Promise<void>;
}

/** Logits of one piece of the prompts (rows · V float32) stay below this, unless a piece has one token a row. */
const LOGITS_PER_PIECE = 16 * 2 ** 20;

/** Any file with the inputs and outputs of an export. The cache is copied at each run, whose time so grows with the text. */
export class GrowingModel implements CachedModel {
  readonly config: ModelConfig;
  readonly source: string;
  readonly hasPositions: boolean;
  private readonly session: ModelSession;
  private pads: readonly number[] = [];
  private past = 0;
  private cache: Tensors = {};

  constructor(session: ModelSession) {
    this.session = session;
    this.config = session.config;
    this.source = session.source;
    this.hasPositions = session.hasPositions;
  }

  countPiece(batch: number): number {
    return Math.max(1, Math.floor(LOGITS_PER_PIECE / (batch * this.config.vocab_size)));
  }

  start(pads: readonly number[]): void {
    this.pads = pads;
    this.past = 0;
    this.cache = makeEmptyCache(pads.length, this.config, this.session.cacheDtype);
  }

  async run(ids: readonly (readonly number[])[], all = false): Promise<Float32Array[]> {
    const outputs = await this.session.run({ ...makeIdFeeds(ids, this.pads, this.past), ...this.cache });
    this.cache = takeCache(outputs);
    const length = ids[0]?.length as number;
    this.past += length;
    return listWanted(ids.length, length, all).map((place) => readRow(outputs.logits as Tensor, place));
  }

  keep(rows: readonly number[]): void {
    const batch = this.pads.length;
    this.pads = rows.map((row) => this.pads[row] as number);
    this.cache = mapTensors(this.cache, (tensor) => selectRows(tensor, rows, batch));
  }

  truncate(length: number): void {
    if (length >= this.past) return;
    this.cache = mapTensors(this.cache, (tensor) => keepPositions(tensor, length));
    this.past = length;
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

/** The rows of [B·T] hidden states whose logits are wanted: all, or the last of each text. */
export function listWanted(batch: number, length: number, all: boolean): number[] {
  const rows = Array.from({ length: batch * length }, (_, row) => row);
  return all ? rows : rows.filter((row) => row % length === length - 1);
}

const mapTensors = (tensors: Tensors, change: (tensor: Tensor) => Tensor): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, change(tensor)]));

function makeLike(data: TensorArray, length: number): TensorArray {
  return new (data.constructor as new (length: number) => TensorArray)(length);
}

/** Rows of a tensor whose first axis is the batch. */
function selectRows({ dtype, data, shape }: Tensor, rows: readonly number[], batch: number): Tensor {
  const size = data.length / batch;
  const kept = makeLike(data, rows.length * size);
  for (const [i, row] of rows.entries()) kept.set(data.subarray(row * size, (row + 1) * size) as never, i * size);
  return { dtype, data: kept, shape: [rows.length, ...shape.slice(1)] };
}

/** [B, H, P, D] → [B, H, length, D] */
function keepPositions({ dtype, data, shape }: Tensor, length: number): Tensor {
  const [batch, heads, past, width] = shape as [number, number, number, number];
  const kept = makeLike(data, batch * heads * length * width);
  for (let head = 0; head < batch * heads; head++) {
    const begin = head * past * width;
    kept.set(data.subarray(begin, begin + length * width) as never, head * length * width);
  }
  return { dtype, data: kept, shape: [batch, heads, length, width] };
}

/** Row `place` of logits [B·T, V], as float32. */
function readRow({ dtype, data, shape }: Tensor, place: number): Float32Array {
  const width = shape.at(-1) as number;
  const values = data.subarray(place * width, (place + 1) * width);
  if (dtype !== "float16") return values as Float32Array;
  return decodeFloats(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), "F16");
}
