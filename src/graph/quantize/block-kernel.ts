// Rounds a matrix to blocks by the WebAssembly kernel, piece by piece: the bits of block-fit.ts, several times as fast.
import type { BlockFormat } from "../passes/quantized-blocks.ts";
import { type BlockFit, listOverhangs } from "./block-fit.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** The part of the WebAssembly API that is used here; TypeScript declares it for browsers only. */
declare namespace WebAssembly {
  class Memory {
    constructor(limits: { initial: number });
    readonly buffer: ArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports: { env: { memory: Memory } });
    readonly exports: object;
  }
}

/** The export of rounding.as.ts. Arrays are addresses in bytes; the scratch is at the beginning of the memory. */
interface Kernel {
  roundBlocks(
    source: number,
    target: number,
    channels: number,
    inner: number,
    stepN: number,
    stepK: number,
    block: number,
    last: number,
    symmetric: number,
    overhangs: number,
    grids: number,
    keeps: number,
  ): number;
}

/** The byte of the scratch where the overhangs begin, and the bytes of all of it (rounding.as.ts). */
const OVERHANGS_AT = 2080;
const SCRATCH = 4096;
/** `keeps` of a call that writes its grids. */
const WRITE_GRIDS = 1;
const PAGE = 65_536;
/** Floats of a piece: what the processor's cache holds, unless one row of blocks is larger. */
const PIECE_FLOATS = 2 ** 17;

interface Matrix extends BlockFormat {
  /** [K, N], or [N, K] with `byRow` */
  shape: readonly [number, number];
  byRow: boolean;
}

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
export function roundPieces(weights: Float32Array, format: Matrix, take: (piece: RoundedPiece) => void): boolean {
  const { shape, byRow, block, bits, symmetric } = format;
  const [channels, inner] = byRow ? shape : ([shape[1], shape[0]] as const);
  // Rows of memory that can go alone: channels, or as many inputs as a block has.
  const [width, rows, together] = byRow ? [inner, channels, 1] : [channels, inner, block];
  const most = Math.min(rows, together * Math.max(1, Math.floor(PIECE_FLOATS / (together * width))));
  const { kernel, buffer, places } = open(
    most * width,
    Math.ceil(most / together) * (byRow ? Math.ceil(inner / block) : channels),
  );
  const overhangs = listOverhangs(format);
  new Float64Array(buffer, OVERHANGS_AT, overhangs.length).set(overhangs);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const [pieceChannels, pieceInner] = byRow ? [count, inner] : [channels, count];
    const [stepN, stepK] = byRow ? [inner, 1] : [1, channels];
    const blocks = Math.ceil(pieceInner / block);
    new Float32Array(buffer, places.source, count * width).set(
      weights.subarray(first * width, (first + count) * width),
    );
    const fault = kernel.roundBlocks(
      ...([places.source, places.target, pieceChannels, pieceInner, 4 * stepN, 4 * stepK, block] as const),
      ...([2 ** bits - 1, symmetric ? 1 : 0, overhangs.length, places.grids, WRITE_GRIDS] as const),
    );
    if (fault) return false;
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
  kernel: Kernel;
  buffer: ArrayBuffer;
  places: { source: number; target: number; grids: number };
}

let opened: (Opened & { bytes: number }) | undefined;

/** A memory for a piece of so many floats in so many blocks, the last one where it is large enough. */
function open(floats: number, blocks: number): Opened {
  const places = { source: SCRATCH, target: SCRATCH + 4 * floats, grids: SCRATCH + 8 * floats };
  const bytes = places.grids + 8 * blocks;
  if (opened === undefined || opened.bytes < bytes) {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE) });
    const module = new WebAssembly.Module(Buffer.from(WASM_BASE64, "base64"));
    const kernel = new WebAssembly.Instance(module, { env: { memory } }).exports as Kernel;
    opened = { kernel, buffer: memory.buffer, places, bytes };
  }
  return { ...opened, places };
}
