// The model configuration: what defines the mathematics of a GPT-2 or one of its tied variants.

/** The attention variants, by their CLI names. All but `dense` tie Q and K of every head (arXiv 2601.11619, 2406.06366). */
export const VARIANTS = ["dense", "symmetric", "noise-shared", "noise-per-head", "noise-distance"] as const;
export type Variant = (typeof VARIANTS)[number];

/** The non-linearity of the MLP; `gelu_tanh` is GPT-2's, `gelu` the exact one of nanoGPT. */
export const ACTIVATIONS = ["gelu_tanh", "gelu", "relu", "silu", "tanh"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** Buckets of the distance i - j in `noise-distance`: T5's number (arXiv 1910.10683). */
export const DISTANCE_BUCKETS = 32;

/** Half of the buckets hold one distance each; the logarithmic half needs at least one position more than that. */
export const MIN_DISTANCE_POSITIONS = DISTANCE_BUCKETS / 2 + 1;

/** Everything the forward pass depends on, besides the weights. Field names are those of Hugging Face's GPT2Config. */
export interface ModelConfig {
  n_layer: number;
  n_head: number;
  n_embd: number;
  /** Width of the MLP, resolved: GPT-2's default 4 · n_embd is written out. */
  n_inner: number;
  n_positions: number;
  vocab_size: number;
  layer_norm_epsilon: number;
  activation: Activation;
  /** Divide the scores by sqrt(D). */
  scale_attn_weights: boolean;
  /** Divide the scores of layer l (from 0) by l + 1 as well. */
  scale_attn_by_inverse_layer_idx: boolean;
  /** True: logits = h · wteᵀ. False: a separate lm_head.weight [V, C]. */
  tied_head: boolean;
  /** False: no biases anywhere (nanoGPT's bias=False). */
  bias: boolean;
  variant: Variant;
  bos_token_id?: number;
  eos_token_id?: number;
  /** Names of a classifier's outputs, one a row of score.weight (one alone: a regression); none in a language model. */
  labels?: readonly string[];
}

// Limits of what a config.json may ask for: several times the largest models in use, and small enough that every
// product of two of them is an exact integer and every loop over them ends soon.
export const MAX_LAYERS = 1024;
export const MAX_WIDTH = 2 ** 16;
export const MAX_INNER = 2 ** 18;
export const MAX_POSITIONS = 2 ** 20;
export const MAX_VOCAB = 2 ** 22;
export const MAX_LABELS = 2 ** 16;

/** Columns of c_attn in units of C: 3 for [q, k, v], 2 for [s, v]. */
export function attnParts(variant: Variant): 2 | 3 {
  return variant === "dense" ? 3 : 2;
}

/**
 * Shapes of `attn.noise_mean` and `attn.noise_log_std` in every layer (noise = mean + exp(log_std) · ε), or
 * null for the variants without noise.
 */
export function shapeNoise(variant: Variant, heads: number): { mean: number[]; logStd: number[] } | null {
  switch (variant) {
    case "noise-shared":
      return { mean: [1, 1], logStd: [1] };
    case "noise-per-head":
      return { mean: [heads, 1], logStd: [heads] };
    case "noise-distance":
      return { mean: [heads, DISTANCE_BUCKETS], logStd: [heads] };
    default:
      return null;
  }
}
