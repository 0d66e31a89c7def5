// The model configuration: what defines the mathematics of a model, besides its weights.
import type { Variant } from "./variants.ts";

/** The non-linearity of the MLP; `gelu_tanh` is GPT-2's, `gelu` the exact one of nanoGPT. */
export const ACTIVATIONS = ["gelu_tanh", "gelu", "relu", "silu", "tanh"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

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
  /** Numbers of q and of k in each head of a layer, one entry a layer; D = n_embd / n_head in all unless given. */
  qk_ranks?: readonly number[];
  /** Numbers of v in each head of a layer, one entry a layer; D in all unless given. */
  vo_ranks?: readonly number[];
  bos_token_id?: number;
  eos_token_id?: number;
  /** Names of a classifier's outputs, one a row of score.weight (one alone: a regression); none in a language model. */
  labels?: readonly string[];
}

// Limits on the numbers of a config.json. They are several times the largest models in use, and so small that every
// product of two of them is an exact integer and every loop over them ends soon.
export const MAX_LAYERS = 1024;
export const MAX_WIDTH = 2 ** 16;
export const MAX_INNER = 2 ** 18;
export const MAX_POSITIONS = 2 ** 20;
export const MAX_VOCAB = 2 ** 22;
export const MAX_LABELS = 2 ** 16;
