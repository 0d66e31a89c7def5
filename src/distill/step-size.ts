// Chooses the windows of a step, and the micro-batches in which they fit into memory.
import { totalmem } from "node:os";
import type { ModelConfig } from "../model/config.ts";
import type { Refusal } from "./resolve-settings.ts";

/** Tokens of a step, unless the window alone is longer. */
const STEP_TOKENS = 4096;
/** The most of them: GPT-2 was trained with half a million. */
const MAX_STEP_TOKENS = 2 ** 25;
/** Attention maps and hidden states of a micro-batch should stay within this many bytes. */
const ACTIVATION_BYTES = 4 * 2 ** 30;

/** Windows of a step. */
export function countWindows(length: number): number {
  return Math.max(1, Math.round(STEP_TOKENS / length));
}

/** The fewest micro-batches that keep a step's activations in bounds. */
export function planMicroBatches(config: ModelConfig, length: number): number {
  const windows = Math.max(1, Math.floor(ACTIVATION_BYTES / estimateActivationBytes(config, length)));
  return Math.ceil(countWindows(length) / windows);
}

/** Refuses a step of more ids than are read at once. */
export function checkStepTokens(tokens: number): Refusal {
  if (tokens <= MAX_STEP_TOKENS) return null;
  return [`a step of ${tokens} tokens, ${MAX_STEP_TOKENS} at most`, "give a smaller --accumulate"];
}

/** Refuses a micro-batch that this machine cannot hold. */
export function checkMemory(batchSize: number, config: ModelConfig, length: number): Refusal {
  const needed = batchSize * estimateActivationBytes(config, length);
  if (needed <= totalmem()) return null;
  const [need, have] = [needed, totalmem()].map((bytes) => (bytes / 1e9).toFixed(0));
  return [
    `a micro-batch of ${batchSize} windows needs about ${need} GB, this machine has ${have}`,
    "lower --batch-size, and raise --accumulate instead",
  ];
}

/**
 * Estimates the activations of one window: about 20 values a channel, 5 a hidden unit of the MLP, and 6 maps a head in
 * each layer. A step was measured to hold 12, 3 and 6 with n_inner from C to 16·C; narrow heads save little.
 */
function estimateActivationBytes({ n_layer, n_embd, n_inner, n_head }: ModelConfig, length: number): number {
  return 4 * n_layer * length * (20 * n_embd + 5 * n_inner + 6 * n_head * length);
}
