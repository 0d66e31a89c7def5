// The choices of a user about the quantized precisions, and their defaults for a model.
import { NfcError } from "../errors.ts";
import type { BlockBits } from "../graph/passes/quantized-blocks.ts";
import { isEmbedding } from "./parameters.ts";
import type { Precision } from "./precision.ts";

export interface Quantization {
  /** Inputs that share a scale, in the precisions with blocks. */
  block: number;
  /** Blocks without zero points. */
  symmetric: boolean;
  /** int8 in 7 bits, for x86 without VNNI. */
  reduceRange: boolean;
  /** Bits of the token embedding and of the head, in the precisions with blocks; null: those of the precision. */
  embeddingBits: BlockBits | null;
  /** Bits of each weight in mixed; those that it does not name have `MIXED_LEAST`. */
  mixedBits: ReadonlyMap<string, BlockBits>;
}

/** The choices that are made; the rest has the default of the model. */
export type QuantizationOptions = { [K in keyof Quantization]?: Quantization[K] | undefined };

/** Precisions that a model can be trained for: those that round weights, each kind of rounding once (q4f16 has q4's). */
export const TRAINED_PRECISIONS = ["int8", "uint8", "mixed", "q4", "q2"] as const satisfies readonly Precision[];
export type TrainedPrecision = (typeof TRAINED_PRECISIONS)[number];

export const BLOCK_SIZES: readonly number[] = [16, 32, 64, 128];
const DEFAULT_BLOCK = 32;

export const EMBEDDING_BITS: readonly BlockBits[] = [2, 4, 8];
/** Bits that a weight of a mixed file has unless more pay. */
export const MIXED_LEAST: BlockBits = 4;
/** Size of a mixed file in percent of q4's, unless another is asked for. */
export const MIXED_PERCENT = 110;

interface BlockWidths {
  weights: BlockBits;
  /** Of the token embedding and the head, where errors cost more. */
  embedding: BlockBits;
}

const BLOCK_WIDTHS: Partial<Record<Precision, BlockWidths>> = {
  uint8: { weights: 8, embedding: 8 },
  mixed: { weights: MIXED_LEAST, embedding: MIXED_LEAST },
  q4: { weights: 4, embedding: 4 },
  q4f16: { weights: 4, embedding: 4 },
  q2: { weights: 2, embedding: 4 },
};

/** The precision whose codes a file has: q4f16 has those of q4. */
export const findCodes = (precision: Precision): Precision => (precision === "q4f16" ? "q4" : precision);

/** Whether a precision stores weights in blocks. */
export const hasBlocks = (precision: Precision): boolean => BLOCK_WIDTHS[precision] !== undefined;

/** Bits of a weight in a precision that has blocks. */
export function chooseBlockBits(
  precision: Precision,
  { embeddingBits, mixedBits }: Pick<Quantization, "embeddingBits" | "mixedBits">,
  name: string,
): BlockBits {
  const widths = BLOCK_WIDTHS[precision];
  if (!widths) throw new Error(`${precision} has no blocks`);
  if (isEmbedding(name) && embeddingBits !== null) return embeddingBits;
  const mixed = precision === "mixed" ? mixedBits.get(name) : undefined;
  return mixed ?? (isEmbedding(name) ? widths.embedding : widths.weights);
}

/**
 * Blocks of 32 with zero points unless others are asked for (docs/precisions.md has what each costs), of 16 where only
 * these divide n_embd: rows of the embedding are looked up in whole blocks.
 * @throws NfcError "usage" for a size that is none or does not divide n_embd, "unsupported" where none does
 */
export function resolveQuantization(
  width: number,
  precisions: readonly Precision[],
  options: QuantizationOptions = {},
): Quantization {
  const { block, symmetric = false, reduceRange = false, embeddingBits = null, mixedBits = new Map() } = options;
  const resolved = { block: block ?? DEFAULT_BLOCK, symmetric, reduceRange, embeddingBits, mixedBits };
  const blocked = precisions.filter(hasBlocks);
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
  return precision === "int8" || hasBlocks(precision);
}

/**
 * "q4 in blocks of 32 without zero points, the embedding in 8 bits", "int8": what nfc.json says that weights were rounded to
 * in training.
 */
export function describeRounding({
  precision,
  block,
  symmetric,
  embeddingBits,
}: {
  precision: Precision;
  block?: number;
  symmetric?: boolean;
  embeddingBits?: BlockBits;
}): string {
  if (block === undefined) return precision;
  const embedding = embeddingBits ? `, the embedding in ${embeddingBits} bits` : "";
  return `${precision} in blocks of ${block}${symmetric ? " without zero points" : ""}${embedding}`;
}
