// Tensors of some rows or columns of another one, byte for byte. Which ones is asked when the tensor is read.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import type { MadeTensor } from "../../checkpoint/derived.ts";
import { collectBytes } from "../../checkpoint/model-folder.ts";

/** The last axis of a tensor, reduced to some of its entries in this order: a matrix [R, n], or a vector [n]. */
export function pickColumns(checkpoint: Checkpoint, name: string, columns: () => readonly number[]): MadeTensor {
  return pickPieces(checkpoint, name, columns, -1);
}

/** The first axis of a matrix, reduced to some of its rows in this order. */
export function pickRows(checkpoint: Checkpoint, name: string, rows: () => readonly number[]): MadeTensor {
  return pickPieces(checkpoint, name, rows, 0);
}

function pickPieces(checkpoint: Checkpoint, name: string, wanted: () => readonly number[], axis: 0 | -1): MadeTensor {
  const { dtype, shape, byteLength } = requireTensor(checkpoint, name);
  const length = shape.at(axis) as number;
  const groups = axis === 0 ? 1 : shape.slice(0, -1).reduce((a, b) => a * b, 1);
  const piece = byteLength / groups / length;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    const bytes = await collectBytes(checkpoint.chunks(name));
    const places = wanted();
    const out = new Uint8Array(groups * places.length * piece);
    let at = 0;
    for (let group = 0; group < groups; group++)
      for (const i of places) {
        const from = (group * length + i) * piece;
        out.set(bytes.subarray(from, from + piece), at);
        at += piece;
      }
    yield out;
  }
  return { dtype, chunks };
}
