// Calls the WebAssembly kernel that rounds a matrix to blocks, in whichever memory it works.
import type { BlockFormat } from "../passes/quantized-blocks.ts";
import { listOverhangs } from "./block-fit.ts";

/** The export of rounding.as.ts. Arrays are addresses in bytes; its scratch is at the beginning of the memory. */
export interface RoundingKernel {
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

/** Floats of the scratch, and the byte in it where the overhangs begin (rounding.as.ts). */
export const ROUNDING_SCRATCH = 576;
const OVERHANGS_AT = 2080;

/** What becomes of the grids of the blocks: nothing, written beside, or read instead of chosen. */
const KEEPS = { none: 0, written: 1, read: 2 } as const;

export interface RoundingCall {
  /** Addresses of the weights and of the rounded ones, which may be the same. */
  source: number;
  target: number;
  /** N output channels of K inputs each: [K, N], or [N, K] with `byRow` */
  channels: number;
  inner: number;
  /** Address of s and z of each block, and what they are there for. */
  grids?: { at: number; use: "written" | "read" } | undefined;
}

/** @returns false where a weight is not finite or a scale too large for float16: the target is then undefined */
export function callRounding(
  kernel: RoundingKernel,
  memory: ArrayBufferLike,
  { byRow, block, bits, symmetric }: BlockFormat & { byRow: boolean },
  { source, target, channels, inner, grids }: RoundingCall,
): boolean {
  const overhangs = listOverhangs({ bits, symmetric });
  new Float64Array(memory, OVERHANGS_AT, overhangs.length).set(overhangs);
  const [stepN, stepK] = byRow ? [4 * inner, 4] : [4, 4 * channels];
  const fault = kernel.roundBlocks(
    ...([source, target, channels, inner, stepN, stepK, block, 2 ** bits - 1, symmetric ? 1 : 0] as const),
    ...([overhangs.length, grids?.at ?? 0, KEEPS[grids?.use ?? "none"]] as const),
  );
  return fault === 0;
}
