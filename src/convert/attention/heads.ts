// What goes into the linear algebra of one head, and the checks of it and of what comes out.
import { makeNotFiniteError, NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";

/** Smallest relative pivot of the Gram matrices of a head: dependent columns of the weights are common and harmless. */
export const PIVOT_FLOOR = 1e-12;

/** Whether all numbers are finite: only 0 times a finite number is 0. */
export function areFinite(values: Float64Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += 0 * (values[i] as number);
  return sum === 0;
}

/** @param what the numbers are, for the message @throws NfcError "invalid-file" where one of them is not finite */
export function requireFiniteHead(head: number, what: string, parts: readonly (Float64Array | null)[]): void {
  if (parts.every((part) => part === null || areFinite(part))) return;
  throw makeNotFiniteError(`head ${head}: ${what} is not finite`);
}

/** The largest number of float32, in which weights are stored. */
const MAX_FLOAT32 = 3.4028234663852886e38;

/** @param what the numbers are, for the message @throws NfcError "unsupported" where one of them is beyond float32 */
export function requireFloat32(
  parts: readonly (Float64Array | Float32Array | null | undefined)[],
  what: string,
  hint: string,
): void {
  if (parts.every((part) => !part || fitsFloat32(part))) return;
  throw new NfcError("unsupported", `${what} exceed float32`, { hint });
}

function fitsFloat32(values: Float64Array | Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i] as number) <= MAX_FLOAT32)) return false;
  return true;
}

/** Rows of a weight whose columns are turned into rows at once, as many as a line of the cache holds of each. */
const TURNED_ROWS = 8;

/** Writes W̃ᵀ of one head [D, rows] to `out`: its columns as rows, each with its bias at the end. */
export function putHeadColumns(
  out: Float64Array,
  weight: Float32Array,
  bias: Float32Array | null,
  head: number,
  { n_embd: C, n_head }: Pick<ModelConfig, "n_embd" | "n_head">,
): void {
  const D = C / n_head;
  const rows = bias ? C + 1 : C;
  for (let first = 0; first < C; first += TURNED_ROWS) {
    const end = Math.min(C, first + TURNED_ROWS);
    for (let d = 0; d < D; d++)
      for (let row = first; row < end; row++) out[d * rows + row] = weight[row * C + head * D + d] as number;
  }
  if (bias) for (let d = 0; d < D; d++) out[d * rows + C] = bias[head * D + d] as number;
}

/** Gives W̃ of one head: its columns of the weight, and the bias as one more row. */
export function takeHeadColumns(
  weight: Float32Array,
  bias: Float32Array | null,
  head: number,
  { n_embd: C, n_head }: Pick<ModelConfig, "n_embd" | "n_head">,
): Float64Array {
  const D = C / n_head;
  const out = new Float64Array((bias ? C + 1 : C) * D);
  for (let row = 0; row < C; row++) out.set(weight.subarray(row * C + head * D, row * C + (head + 1) * D), row * D);
  if (bias) out.set(bias.subarray(head * D, (head + 1) * D), C * D);
  return out;
}
