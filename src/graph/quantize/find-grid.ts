// Finds the grid that rounded weights lie on: the inverse of rounding them to blocks, without any search.

import type { MatrixFormat } from "../passes/quantized-blocks.ts";
import { type BlockFit, toHalf } from "./block-fit.ts";
import { BlockCodes, type BlockMatrix } from "./blocks.ts";

/**
 * The codes and scales of weights that each are s·(q − z) exactly, for a block's float16 number s: the coarsest such
 * grid, so that equal weights have equal codes. Null where a block lies on no grid of the format.
 */
export function findBlocks(weights: Float32Array, format: MatrixFormat & { name: string }): BlockMatrix | null {
  const codes = new BlockCodes(format);
  const { channels, inner, blocks } = codes;
  const [stepK, stepN] = format.byRow ? [1, inner] : [channels, 1];
  const values = new Float64Array(format.block);
  for (let n = 0; n < channels; n++)
    for (let b = 0; b < blocks; b++) {
      const first = b * format.block;
      const length = Math.min(format.block, inner - first);
      for (let k = 0, at = n * stepN + first * stepK; k < length; k++, at += stepK) values[k] = weights[at] as number;
      const grid = findGrid(values.subarray(0, length), format);
      if (grid === null) return null;
      codes.setGrid(n, b, grid, format.name);
      for (let k = 0; k < length; k++)
        codes.set(n, first + k, grid.scale === 0 ? grid.zero : (values[k] as number) / grid.scale + grid.zero);
    }
  return codes.matrix;
}

type Grid = Pick<BlockFit, "scale" | "zero">;

/**
 * With g the greatest common divisor of the values, s = g/j for the least j ≥ 1 that makes it a float16 number; w/s must fit
 * the codes. Divisions by a common divisor are exact, and so is JavaScript's remainder.
 */
function findGrid(values: Float64Array, { bits, symmetric }: MatrixFormat): Grid | null {
  const last = 2 ** bits - 1;
  let [low, high, divisor] = [0, 0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) return null;
    low = Math.min(low, value);
    high = Math.max(high, value);
    divisor = findDivisor(divisor, Math.abs(value));
    if (high - low > divisor * last) return null;
  }
  const middle = 2 ** (bits - 1);
  if (divisor === 0) return { scale: 0, zero: symmetric ? middle : 0 };
  for (let j = 1; (high - low) * j <= divisor * last; j++) {
    const scale = divisor / j;
    if (toHalf(scale) !== scale) continue;
    if (!symmetric) return { scale, zero: Math.max(0, -low / scale) };
    // One code more lies below the middle than above: the scale is negative where the weights need it the other way round.
    const [above, below] = [high / scale, -low / scale];
    if (above < middle && below <= middle) return { scale, zero: middle };
    return above <= middle && below < middle ? { scale: -scale, zero: middle } : null;
  }
  return null;
}

/** The greatest common divisor of two numbers from 0, by Euclid. */
function findDivisor(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}
