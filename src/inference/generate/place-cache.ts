// A KV cache with room: keys and values lie at fixed places, and a step writes only what is new.
import { countElements } from "../../formats/dtype.ts";
import { makeFloat32Tensor, type Tensor, type Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { listCacheParts } from "../../model/head-widths.ts";

/** Room is made for so many positions at a time: empty places cost a little time in every step, new room a copy. */
const ROOM = 64;
/** Arrays that are too small are replaced by ones so many times as large. */
const GROWTH = 1.25;

interface Part {
  /** Its input of the graph, past_key_values.N.key; new.N.key is the output. */
  name: string;
  output: string;
  width: number;
  /** [B, H, places, width] at its beginning, and room for more places after that. */
  data: Float32Array;
}

export class PlaceCache {
  private readonly heads: number;
  private readonly parts: Part[];
  private batch: number;
  private places = 0;
  private filled = 0;

  /** @param expected positions that will certainly come */
  constructor(config: ModelConfig, batch: number, expected = 0) {
    this.heads = config.n_head;
    this.batch = batch;
    this.parts = Array.from({ length: config.n_layer }, (_, layer) =>
      listCacheParts(config, layer).map(({ part, width }) => {
        const [name, output] = [`past_key_values.${layer}.${part}`, `new.${layer}.${part}`];
        return { name, output, width, data: new Float32Array(batch * config.n_head * roundUp(expected) * width) };
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
    const view = ({ name, width, data }: Part): [string, Tensor] => {
      const shape = [this.batch, this.heads, this.places, width];
      return [name, makeFloat32Tensor(data.subarray(0, countElements(shape)), shape)];
    };
    return Object.fromEntries(this.parts.map(view));
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
      const size = this.heads * this.places * part.width;
      const kept = new Float32Array(rows.length * size);
      for (const [i, row] of rows.entries()) kept.set(part.data.subarray(row * size, (row + 1) * size), i * size);
      part.data = kept;
    }
    this.batch = rows.length;
  }

  private makeRoom(length: number): void {
    if (length <= this.places) return;
    const places = roundUp(length);
    const heads = this.batch * this.heads;
    for (const part of this.parts) {
      const { width, data } = part;
      const [needed, run] = [heads * places * width, this.filled * width];
      if (needed > data.length) part.data = new Float32Array(Math.max(needed, Math.ceil(GROWTH * data.length)));
      const [from, to] = [
        { places: this.places, at: 0 },
        { places, at: 0 },
      ];
      copyPositions(data, part.data, { heads, from, to, run, width });
    }
    this.places = places;
  }
}

const roundUp = (length: number) => Math.ceil(length / ROOM) * ROOM;

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

/** From the last head to the first, so that heads may move apart within one array. */
function copyPositions(source: Float32Array, target: Float32Array, { heads, from, to, run, width }: Copy): void {
  for (let head = heads - 1; head >= 0; head--) {
    const begin = (head * from.places + from.at) * width;
    target.set(source.subarray(begin, begin + run), (head * to.places + to.at) * width);
  }
}
