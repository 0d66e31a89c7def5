// Rounds a matrix to blocks by the WebAssembly kernel, piece by piece: the bits of block-fit.ts, several times as fast.
import { makeMemory, openKernels } from "../../numeric/web-assembly.ts";
import { countChannels, type MatrixFormat } from "../passes/quantized-blocks.ts";
import type { BlockFit } from "./block-fit.ts";
import { callRounding, ROUNDING_SCRATCH, type RoundingKernel } from "./rounding-kernel.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** Floats of a piece: what the processor's cache holds, unless one row of blocks is larger. */
const PIECE_FLOATS = 2 ** 17;

/** Some neighboring blocks of a matrix, rounded. Views of one buffer: use them before the next piece. */
export interface RoundedPiece {
  /** The first channel and the first block of the channels, and how many there are of both. */
  channel: number;
  channels: number;
  block: number;
  blocks: number;
  /** s·(q − z), in the layout of the matrix. */
  rounded: Float32Array;
  grid(channel: number, block: number): Pick<BlockFit, "scale" | "zero">;
}

/**
 * Rounds all blocks, each by the rule of its bits, and hands them over.
 * @returns false where a weight is not finite or a scale too large for float16; pieces before that have been handed over
 */
export function roundPieces(weights: Float32Array, format: MatrixFormat, take: (piece: RoundedPiece) => void): boolean {
  const { byRow, block } = format;
  const [channels, inner] = countChannels(format);
  // Rows of memory that can go alone: channels, or as many inputs as a block has.
  const [width, rows, together] = byRow ? [inner, channels, 1] : [channels, inner, block];
  const most = Math.min(rows, together * Math.max(1, Math.floor(PIECE_FLOATS / (together * width))));
  const { kernel, buffer, places } = open(
    most * width,
    Math.ceil(most / together) * (byRow ? Math.ceil(inner / block) : channels),
  );
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const [pieceChannels, pieceInner] = byRow ? [count, inner] : [channels, count];
    const blocks = Math.ceil(pieceInner / block);
    new Float32Array(buffer, places.source, count * width).set(
      weights.subarray(first * width, (first + count) * width),
    );
    const done = callRounding(kernel, buffer, format, {
      ...{ source: places.source, target: places.target, channels: pieceChannels, inner: pieceInner },
      grids: { at: places.grids, use: "written" },
    });
    if (!done) return false;
    const grids = new Float32Array(buffer, places.grids, 2 * pieceChannels * blocks);
    take({
      ...(byRow ? { channel: first, block: 0 } : { channel: 0, block: first / block }),
      ...{ channels: pieceChannels, blocks },
      rounded: new Float32Array(buffer, places.target, count * width),
      grid: (n, b) => ({
        scale: grids[2 * (n * blocks + b)] as number,
        zero: grids[2 * (n * blocks + b) + 1] as number,
      }),
    });
  }
  return true;
}

interface Opened {
  kernel: RoundingKernel;
  buffer: ArrayBuffer;
  places: { source: number; target: number; grids: number };
}

let opened: (Opened & { bytes: number }) | undefined;

/** A memory for a piece of so many floats in so many blocks, the last one where it is large enough. */
function open(floats: number, blocks: number): Opened {
  const source = 4 * ROUNDING_SCRATCH;
  const places = { source, target: source + 4 * floats, grids: source + 8 * floats };
  const bytes = places.grids + 8 * blocks;
  if (opened === undefined || opened.bytes < bytes) {
    const memory = makeMemory(bytes);
    opened = { kernel: openKernels(WASM_BASE64, memory), buffer: memory.buffer, places, bytes };
  }
  return { ...opened, places };
}
