// A KV cache with room: keys and values lie at fixed places, and a step writes only what is new.
import { makeFloat32Tensor, type Tensor, type Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { listCacheParts } from "../../model/head-widths.ts";

/** Room is made for so many positions at a time: empty places cost a little time in every step, new room a copy. */
const ROOM = 64;

interface Part {
  /** Its input of the graph, past_key_values.N.key; new.N.key is the output. */
  name: string;
  output: string;
  width: number;
  /** [B, H, places, width] */
  data: Float32Array;
}

export class PlaceCache {
  private readonly heads: number;
  private readonly parts: Part[];
  private batch: number;
  private places = 0;
  private filled = 0;

  constructor(config: ModelConfig, batch: number) {
    this.heads = config.n_head;
    this.batch = batch;
    this.parts = Array.from({ length: config.n_layer }, (_, layer) =>
      listCacheParts(config, layer).map(({ part, width }) => {
        const [name, output] = [`past_key_values.${layer}.${part}`, `new.${layer}.${part}`];
        return { name, output, width, data: new Float32Array(0) };
      }),
    ).flat();
  }

  /** Positions that are there. */
  get length(): number {
    return this.filled;
  }

  /** Places, those without a position among them. */
  get size(): number {
    return this.places;
  }

  /** The inputs of the graph: views of the places themselves. */
  get feeds(): Record<string, Tensor> {
    const shape = (width: number) => [this.batch, this.heads, this.places, width];
    return Object.fromEntries(this.parts.map(({ name, width, data }) => [name, makeFloat32Tensor(data, shape(width))]));
  }

  /** Adds `count` positions: the outputs new.N.key and .value of a step, [B, H, count, D] each. */
  append(outputs: Tensors, count: number): void {
    this.makeRoom(this.filled + count);
    for (const { output, width, data } of this.parts)
      copyPositions((outputs[output] as Tensor).data as Float32Array, data, {
        heads: this.batch * this.heads,
        from: { places: count, at: 0 },
        to: { places: this.places, at: this.filled },
        run: count * width,
        width,
      });
    this.filled += count;
  }

  /** Forgets all but the first `length` positions. */
  truncate(length: number): void {
    this.filled = Math.min(this.filled, length);
  }

  /** Keeps some rows of the batch, in the order given. */
  keep(rows: readonly number[]): void {
    for (const part of this.parts) {
      const size = part.data.length / this.batch;
      const kept = new Float32Array(rows.length * size);
      for (const [i, row] of rows.entries()) kept.set(part.data.subarray(row * size, (row + 1) * size), i * size);
      part.data = kept;
    }
    this.batch = rows.length;
  }

  private makeRoom(length: number): void {
    if (length <= this.places) return;
    const places = Math.ceil(length / ROOM) * ROOM;
    const heads = this.batch * this.heads;
    for (const part of this.parts) {
      const { width, data } = part;
      part.data = new Float32Array(heads * places * width);
      copyPositions(data, part.data, {
        heads,
        from: { places: this.places, at: 0 },
        to: { places, at: 0 },
        run: this.filled * width,
        width,
      });
    }
    this.places = places;
  }
}

interface Copy {
  /** Heads of all rows. */
  heads: number;
  /** Positions that a head has room for, and the first one that is read or written. */
  from: { places: number; at: number };
  to: { places: number; at: number };
  /** Numbers to copy in each head. */
  run: number;
  width: number;
}

function copyPositions(source: Float32Array, target: Float32Array, { heads, from, to, run, width }: Copy): void {
  for (let head = 0; head < heads; head++) {
    const begin = (head * from.places + from.at) * width;
    target.set(source.subarray(begin, begin + run), (head * to.places + to.at) * width);
  }
}
