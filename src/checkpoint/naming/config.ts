// Completes a model configuration from config.json, nfc.json, the tensors' shapes and the user's flags.
import { NfcError } from "../../errors.ts";
import type { Activation, ModelConfig } from "../../model/config.ts";
import { countAttentionColumns } from "../../model/head-widths.ts";
import { SCORE } from "../../model/parameters.ts";
import {
  isPlainGpt2,
  refuseShortPositions,
  shapeNoise,
  VARIANT_TRAITS,
  VARIANTS,
  type Variant,
} from "../../model/variants.ts";
import { checkHeads, completeConfig, type ParsedConfig } from "../config-file.ts";
import { resolveRanks } from "../form-keys.ts";
import { resolveTokenIds } from "../token-ids.ts";
import type { SourceTensor } from "./keys.ts";
import { type Layout, showShape } from "./layout.ts";

/** Heads of the published GPT-2 sizes, by width and layers: the one number that no tensor shows. */
const KNOWN_HEADS: Readonly<Record<string, number>> = {
  "768x6": 12, // distilgpt2
  "768x12": 12,
  "1024x24": 16,
  "1280x36": 20,
  "1600x48": 25,
};

export interface ConfigInput {
  file: string;
  layout: Layout;
  tensors: ReadonlyMap<string, SourceTensor>;
  /** An empty one under the name of the weights' file where there is no config.json. */
  config: ParsedConfig;
  /** The variant that nfc.json names. */
  recordVariant?: Variant | undefined;
  tiedHead: boolean;
  nHead?: number | undefined;
  activation?: Activation | undefined;
}

/**
 * config.json wins over shapes (a disagreement then shows when the tensors are checked); shapes and defaults fill in.
 * Assumptions go into `notes`.
 */
export function resolveConfig(input: ConfigInput, notes: string[]): ModelConfig {
  const { config, layout } = input;
  const sizes = {
    n_layer: config.n_layer ?? layout.layers,
    n_head: resolveHeadCount(input, notes),
    n_embd: config.n_embd ?? layout.width,
    n_positions: config.n_positions ?? layout.positions,
    vocab_size: config.vocab_size ?? layout.vocabulary,
  };
  checkHeads(config, sizes, "correct n_head (config.json, or --n-head without one)");
  return completeConfig(config, sizes, {
    n_inner: config.n_inner ?? (config.isHuggingFace ? 4 * sizes.n_embd : layout.inner),
    activation: resolveActivation(input, notes),
    tied_head: input.tiedHead,
    bias: layout.bias,
    variant: resolveVariant(input, sizes, notes),
    ...resolveTokenIds(config, layout.vocabulary, notes),
    ...resolveLabels(input),
  });
}

/** A model is a classifier if score.weight is stored; config.json only names the outputs. */
function resolveLabels({ tensors, config }: ConfigInput): Pick<ModelConfig, "labels"> {
  const rows = tensors.get(SCORE)?.shape[0];
  if (rows === undefined) return {};
  return { labels: config.labels ?? Array.from({ length: rows }, (_, id) => `LABEL_${id}`) };
}

/** n_head from config.json, the flag, the noise parameters' [H], or the published sizes; no other tensor shows it. */
function resolveHeadCount(input: ConfigInput, notes: string[]): number {
  const { config, nHead, layout } = input;
  if (config.n_head !== undefined) {
    if (nHead === undefined || nHead === config.n_head) return config.n_head;
    throw new NfcError("usage", `${config.file}: n_head is ${config.n_head}, but --n-head says ${nHead}`, {
      hint: "leave --n-head out; it is for checkpoints whose config.json does not say",
    });
  }
  if (nHead !== undefined) {
    if (Number.isInteger(nHead) && nHead >= 1) return nHead;
    throw new NfcError("usage", `--n-head ${nHead} is not a positive integer`);
  }
  const [fromNoise] = input.tensors.get("h.0.attn.noise_log_std")?.shape ?? [];
  if (fromNoise !== undefined && fromNoise > 1) return fromNoise;
  const known = KNOWN_HEADS[`${layout.width}x${layout.layers}`];
  if (known === undefined) {
    throw new NfcError("usage", `${input.file}: the number of heads is not in any tensor, and no config.json says it`, {
      hint: `give --n-head N (a divisor of ${layout.width})`,
    });
  }
  notes.push(`n_head ${known} assumed: ${layout.layers} layers of width ${layout.width} are a published GPT-2 size`);
  return known;
}

/** The flag, else config.json, else by layout: nanoGPT's current code uses the exact GELU, GPT-2 the tanh form. */
function resolveActivation(input: ConfigInput, notes: string[]): Activation {
  const { config, activation, layout } = input;
  if (activation !== undefined) return activation;
  if (config.activation !== undefined) return config.activation;
  const nanoGpt = layout.orientation === "linear" && !config.isHuggingFace;
  notes.push(
    nanoGpt
      ? "activation: exact GELU assumed, as nanoGPT uses (--activation gelu_tanh for GPT-2's)"
      : "activation: GPT-2's tanh GELU assumed (--activation gelu for the exact one)",
  );
  return nanoGpt ? "gelu" : "gelu_tanh";
}

/** nfc.json and config.json may name the variant; the tensors must bear it out. */
function resolveVariant(
  input: ConfigInput,
  sizes: Pick<ModelConfig, "n_layer" | "n_head" | "n_embd" | "n_positions">,
  notes: string[],
): Variant {
  const { n_positions } = sizes;
  const fitting = findVariants(input, sizes);
  const { recordVariant, config } = input;
  const stated = recordVariant ?? config.variant;
  if (recordVariant !== undefined && config.variant !== undefined && recordVariant !== config.variant) {
    throw makeContradiction(input, `nfc.json says ${recordVariant}, but config.json says ${config.variant}`);
  }
  if (stated !== undefined && !fitting.includes(stated)) {
    const where = recordVariant === undefined ? "config.json" : "nfc.json";
    throw makeContradiction(input, `${where} says ${stated}, but the tensors are those of ${fitting.join(" or ")}`);
  }
  const variant = stated ?? fitting[0] ?? "dense";
  if (stated === undefined && !isPlainGpt2(variant)) notes.push(`variant ${variant} recognised by its tensors`);
  refuseShortPositions(input.config.file, { variant, n_positions }, "restore the file that belongs to the weights");
  return variant;
}

function makeContradiction(input: ConfigInput, fact: string): NfcError {
  return new NfcError("mismatch", `${input.file}: ${fact}`, {
    hint: "files of different models are mixed in one folder: restore the set that belongs together",
  });
}

/**
 * The variants whose c_attn width, form and noise shapes are those of layer 0; with one head two of them look the same. A
 * low-rank model is one only where it is said: at half of D it looks like a symmetric one.
 */
function findVariants(input: ConfigInput, sizes: Pick<ModelConfig, "n_layer" | "n_head" | "n_embd">): Variant[] {
  const { n_head: heads } = sizes;
  const mean = input.tensors.get("h.0.attn.noise_mean")?.shape;
  const logStd = input.tensors.get("h.0.attn.noise_log_std")?.shape;
  const found = `h.0.attn.noise_mean ${mean ? showShape(mean) : "absent"}, noise_log_std ${logStd ? showShape(logStd) : "absent"}`;
  const { columns, width } = input.layout;
  const pair = input.tensors.has("h.0.attn.pair");
  const stated = [input.recordVariant, input.config.variant];
  const fitting = VARIANTS.filter((variant) => {
    const { narrow = false, paired = false } = VARIANT_TRAITS[variant];
    if (pair !== paired || (narrow && !stated.includes(variant))) return false;
    const shapes = shapeNoise(variant, heads);
    const sameNoise = hasSameShape(shapes?.mean, mean) && hasSameShape(shapes?.logStd, logStd);
    return sameNoise && countColumns(input, { ...sizes, n_embd: width, variant }) === columns;
  });
  if (fitting.length > 0) return fitting;
  if (columns === 3 * width)
    throw makeContradiction(input, `c_attn is that of dense attention, but there are noise tensors (${found})`);
  throw new NfcError("invalid-file", `${input.file}: ${found} fit no variant with ${heads} heads`, {
    hint: "expected [1, 1] and [1], [H, 1] and [H], or [H, 32] and [H]",
  });
}

/** Columns of h.0's c_attn in this variant, with the ranks that config.json states for it. */
function countColumns(
  { config }: ConfigInput,
  sizes: Pick<ModelConfig, "n_layer" | "n_head" | "n_embd" | "variant">,
): number {
  const { narrow = false } = VARIANT_TRAITS[sizes.variant];
  const vo_ranks = isPlainGpt2(sizes.variant) ? undefined : config.vo_ranks;
  const ranks = resolveRanks({ file: config.file, qk_ranks: narrow ? config.qk_ranks : undefined, vo_ranks }, sizes);
  return countAttentionColumns({ ...sizes, ...ranks }, 0);
}

function hasSameShape(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((dimension, axis) => dimension === b[axis]);
}
