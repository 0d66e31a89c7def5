// The table of attention variants, and everything that follows from a row.
import { NfcError } from "../errors.ts";

/** The properties of an attention variant that code depends on. */
export interface VariantTraits {
  /** Whether Q and K of every head are one projection: c_attn is [s, v] instead of [q, k, v]. */
  tied: boolean;
  /** Whether a head scores s_i A s_jᵀ with a form A of its own, `attn.pair`, instead of s_i s_jᵀ. */
  paired?: true;
  /** Whether q and k may have fewer than D numbers a head (`ModelConfig.qk_ranks`). */
  narrow?: true;
  /** The Gaussian noise on the scores, μ + exp(log_std) · ε; null for a variant without noise. */
  noise: {
    /** Whether all heads of a layer share one ε and one log_std, or each head has its own. */
    draws: "layer" | "head";
    /** Whether μ is one number for all keys, which the softmax cannot see, or depends on the distance i - j. */
    mean: "constant" | "distance";
  } | null;
  /** The attention in words, as a model card has it after "A GPT-2 with". */
  attention: string;
}

const SYMMETRIC = "symmetric attention: one projection serves as query and key of every head";

/** The attention variants by their CLI names (arXiv 2601.11619, 2406.06366); everything else follows from the row. */
const TRAITS = {
  dense: { tied: false, noise: null, attention: "the attention of GPT-2" },
  symmetric: { tied: true, noise: null, attention: SYMMETRIC },
  "noise-shared": {
    tied: true,
    noise: { draws: "layer", mean: "constant" },
    attention: `${SYMMETRIC}, trained with Gaussian noise on the scores, one mean and deviation a layer`,
  },
  "noise-per-head": {
    tied: true,
    noise: { draws: "head", mean: "constant" },
    attention: `${SYMMETRIC}, trained with Gaussian noise on the scores, one mean and deviation a head`,
  },
  "noise-distance": {
    tied: true,
    noise: { draws: "head", mean: "distance" },
    attention: `${SYMMETRIC}, with a trained term on the scores for each head and distance of two tokens`,
  },
  pairwise: {
    tied: true,
    paired: true,
    noise: null,
    attention: "pairwise attention: one projection of every head scores two tokens by a bilinear form of its own",
  },
  "low-rank": {
    tied: false,
    narrow: true,
    noise: null,
    attention: "low-rank attention: queries and keys of fewer numbers a head than GPT-2's",
  },
} as const satisfies Record<string, VariantTraits>;

export type Variant = keyof typeof TRAITS;
export const VARIANTS = Object.keys(TRAITS) as readonly Variant[];
export const VARIANT_TRAITS: Readonly<Record<Variant, VariantTraits>> = TRAITS;

/** Buckets of the distance i - j, each with a mean of its own: T5's number (arXiv 1910.10683). */
export const DISTANCE_BUCKETS = 32;

/** Half of the buckets hold one distance each; the logarithmic half needs at least one position more than that. */
const MIN_DISTANCE_POSITIONS = DISTANCE_BUCKETS / 2 + 1;

/** Rows of ε, and of the noise parameters, in a layer: one, or one a head; 0 for a variant without noise. */
export function countDraws(variant: Variant, heads: number): number {
  const { noise } = VARIANT_TRAITS[variant];
  if (noise === null) return 0;
  return noise.draws === "layer" ? 1 : heads;
}

/** Shapes of `attn.noise_mean` and `attn.noise_log_std` in every layer; null for a variant without noise. */
export function shapeNoise(variant: Variant, heads: number): { mean: number[]; logStd: number[] } | null {
  const draws = countDraws(variant, heads);
  return draws === 0 ? null : { mean: [draws, hasDistanceMean(variant) ? DISTANCE_BUCKETS : 1], logStd: [draws] };
}

/** Whether the noise has a mean that the softmax sees. */
export function hasDistanceMean(variant: Variant): boolean {
  return VARIANT_TRAITS[variant].noise?.mean === "distance";
}

/** Whether any program that knows GPT-2 computes the variant. */
export function isPlainGpt2(variant: Variant): boolean {
  const { tied, narrow = false, noise } = VARIANT_TRAITS[variant];
  return !tied && !narrow && noise === null;
}

/**
 * Refuses a model whose n_positions are too few for the variant's table of distances.
 * @param place the model or file, for the message
 * @throws NfcError "unsupported"
 */
export function refuseShortPositions(
  place: string,
  { variant, n_positions }: { variant: Variant; n_positions: number },
  hint = "take --variant symmetric",
): void {
  if (!hasDistanceMean(variant) || n_positions >= MIN_DISTANCE_POSITIONS) return;
  const fact = `n_positions ${n_positions} is too short for ${variant}, which needs ${MIN_DISTANCE_POSITIONS}`;
  throw new NfcError("unsupported", `${place}: ${fact}`, { hint });
}
