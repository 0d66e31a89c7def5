// Writes the attention of any form out as that of plain GPT-2: q, k and v of every head with D columns each.

import type { Checkpoint, CheckpointTensor } from "../checkpoint/checkpoint.ts";
import { collectBytes, convertChunks, encodeWithin } from "../checkpoint/model-folder.ts";
import { countBytes, type FloatDtype } from "../formats/dtype.ts";
import type { TensorSource } from "../formats/safetensors/writer.ts";
import type { ModelConfig } from "../model/config.ts";
import { type AttentionPart, getHeadSize, getHeadWidths, listAttentionParts } from "../model/head-widths.ts";
import type { ParameterSpec } from "../model/parameters.ts";
import { VARIANT_TRAITS } from "../model/variants.ts";

/** The c_attn that a form becomes, as a note has it: where a head is narrower than D, zero columns fill it up. */
export function describeExpansion({ variant, qk_ranks, vo_ranks }: ModelConfig): string {
  const { tied, paired } = VARIANT_TRAITS[variant];
  const columns = paired ? "c_attn = [sA, s, v]" : tied ? "c_attn = [s, s, v]" : "c_attn = [q, k, v]";
  return qk_ranks || vo_ranks ? `${columns} with zero columns` : columns;
}

/** Elements that lie together in a row of the compact matrix, and where they go in the row of plain GPT-2. */
interface Move {
  from: number;
  to: number;
  count: number;
}

/** The places, 0, 1 and 2 for q, k and v, that a part of c_attn takes in plain GPT-2. */
const PLACES: Readonly<Record<AttentionPart, readonly number[]>> = { q: [0], k: [1], qk: [0, 1], v: [2] };

/**
 * c_attn [·, 2Hr + Hv] or [·, Hr + Hv] as [·, 3C], and c_proj [Hv, C] as [C, C]: heads are filled up to D columns, or rows,
 * with zeros, which change no score and no output. Numbers are moved byte for byte; only q = sA of a pairwise model is
 * computed.
 */
export function makeExpandedSource(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  { name, shape, layer }: ParameterSpec,
  dtype: FloatDtype = tensor.dtype,
): TensorSource {
  const { config } = checkpoint;
  const isInput = name.includes("attn.c_attn.");
  const moves = isInput ? listColumnMoves(config, layer as number) : listRowMoves(config, layer as number);
  const rows = isInput && shape.length === 2 ? config.n_embd : 1;
  async function* chunks() {
    const packed = await collectBytes(convertChunks(checkpoint.chunks(name), tensor, dtype));
    const out = moveElements(packed, countBytes(dtype, shape), { rows, moves, size: countBytes(dtype, [1]) });
    if (isInput && VARIANT_TRAITS[config.variant].paired) await writeQueries(out, checkpoint, { name, rows, dtype });
    yield out;
  }
  return { name, dtype, shape, chunks };
}

function listColumnMoves(config: ModelConfig, layer: number): Move[] {
  const { n_head: H, n_embd: C } = config;
  const moves: Move[] = [];
  let first = 0;
  for (const { part, columns } of listAttentionParts(config, layer)) {
    const count = columns / H;
    for (const place of PLACES[part])
      for (let head = 0; head < H; head++)
        moves.push({ from: first + head * count, to: place * C + head * getHeadSize(config), count });
    first += columns;
  }
  return moves;
}

/** The rows of each head of c_proj, the matrix taken as one row. */
function listRowMoves(config: ModelConfig, layer: number): Move[] {
  const { n_head: H, n_embd: C } = config;
  const count = getHeadWidths(config, layer).v * C;
  return Array.from({ length: H }, (_, head) => {
    return { from: head * count, to: head * getHeadSize(config) * C, count };
  });
}

/** Zeros of `byteLength`, with the elements of `size` bytes each in their places of every row. */
function moveElements(
  packed: Uint8Array,
  byteLength: number,
  { rows, moves, size }: { rows: number; moves: readonly Move[]; size: number },
): Uint8Array {
  const out = new Uint8Array(byteLength);
  const [width, target] = [packed.byteLength / rows, byteLength / rows];
  for (let row = 0; row < rows; row++)
    for (const { from, to, count } of moves) {
      const first = row * width + from * size;
      out.set(packed.subarray(first, first + count * size), row * target + to * size);
    }
  return out;
}

/** q = s A in the place of q, for every head: score = s_i A s_jᵀ = (s_i A) · s_j. */
async function writeQueries(
  out: Uint8Array,
  checkpoint: Checkpoint,
  { name, rows, dtype }: { name: string; rows: number; dtype: FloatDtype },
): Promise<void> {
  const { n_head: H, n_embd: C } = checkpoint.config;
  const D = getHeadSize(checkpoint.config);
  const packed = await checkpoint.readF32(name); // rows of [s, v]
  const A = await checkpoint.readF32(name.replace(/c_attn\.(weight|bias)$/, "pair")); // [H, D, D]
  const width = packed.length / rows;
  const [size, target] = [countBytes(dtype, [1]), out.byteLength / rows];
  const query = new Float32Array(C);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < H; head++)
      for (let j = 0; j < D; j++) {
        let sum = 0;
        for (let i = 0; i < D; i++)
          sum += (packed[row * width + head * D + i] as number) * (A[(head * D + i) * D + j] as number);
        query[head * D + j] = sum;
      }
    out.set(encodeWithin(query, name, dtype).subarray(0, C * size), row * target);
  }
}
