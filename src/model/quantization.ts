// The choices of a user about the quantized precisions, and their defaults for a model.
import { NfcError } from "../errors.ts";
import type { Precision } from "./precision.ts";

export interface Quantization {
  /** Inputs that share a scale, in uint8, q4 and q4f16. */
  block: number;
  /** Blocks without zero points. */
  symmetric: boolean;
  /** int8 in 7 bits, for x86 without VNNI. */
  reduceRange: boolean;
}

/** The choices that are made; the rest has the default of the model. */
export type QuantizationOptions = { [K in keyof Quantization]?: Quantization[K] | undefined };

/** Precisions that a model can be trained for: those that round weights, each kind of rounding once (q4f16 has q4's). */
export const TRAINED_PRECISIONS = ["int8", "uint8", "q4"] as const satisfies readonly Precision[];
export type TrainedPrecision = (typeof TRAINED_PRECISIONS)[number];

export const BLOCK_SIZES: readonly number[] = [16, 32, 64, 128];
const DEFAULT_BLOCK = 32;

/** Bits of a precision's blocks; null for those without blocks. */
export function blockBits(precision: Precision): 4 | 8 | null {
  if (precision === "uint8") return 8;
  return precision === "q4" || precision === "q4f16" ? 4 : null;
}

/**
 * Blocks of 32 with zero points unless others are asked for (docs/precisions.md has what each costs), of 16 where only
 * these divide n_embd: rows of the embedding are looked up in whole blocks.
 * @throws NfcError "usage" for a size that is none or does not divide n_embd, "unsupported" where none does
 */
export function resolveQuantization(
  width: number,
  precisions: readonly Precision[],
  { block, symmetric = false, reduceRange = false }: QuantizationOptions = {},
): Quantization {
  const resolved = { block: block ?? DEFAULT_BLOCK, symmetric, reduceRange };
  const blocked = precisions.filter((precision) => blockBits(precision) !== null);
  if (blocked.length === 0) return resolved;
  if (block !== undefined && !BLOCK_SIZES.includes(block))
    throw new NfcError("usage", `blocks of ${block}: not one of ${BLOCK_SIZES.join(", ")}`, {
      hint: "choose one of them",
    });
  const fitting = BLOCK_SIZES.filter((size) => width % size === 0);
  if (fitting.length === 0)
    throw new NfcError("unsupported", `no block size divides n_embd ${width}, which ${blocked.join(", ")} needs`, {
      hint: "write int8 instead",
    });
  if (block !== undefined && !fitting.includes(block))
    throw new NfcError("usage", `blocks of ${block} do not divide n_embd ${width}`, {
      hint: `choose ${fitting.join(" or ")}`,
    });
  return fitting.includes(resolved.block) ? resolved : { ...resolved, block: Math.max(...fitting) };
}

/** Whether the weights of a precision are codes, not floats. */
export function roundsWeights(precision: Precision): boolean {
  return precision === "int8" || blockBits(precision) !== null;
}
