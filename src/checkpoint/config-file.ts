// Reads and checks the fields of a model's config.json, and makes that of a model to be written.
import { NfcError } from "../errors.ts";
import {
  ACTIVATIONS,
  type Activation,
  MAX_INNER,
  MAX_LABELS,
  MAX_LAYERS,
  MAX_POSITIONS,
  MAX_VOCAB,
  MAX_WIDTH,
  type ModelConfig,
} from "../model/config.ts";
import { FieldReader, isJsonObject, quote, readTokenIds } from "./fields.ts";
import { FORM_KEYS, makeFormKeys, type ParsedForm, readForm, resolveRanks } from "./form-keys.ts";

export const CONFIG_FILE = "config.json";
export const GENERATION_FILE = "generation_config.json";

/** Hugging Face's names of the activations; the first is the one that is written. */
const HF_ACTIVATIONS: Readonly<Record<Activation, readonly string[]>> = {
  gelu_tanh: ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh"],
  gelu: ["gelu", "gelu_python"],
  relu: ["relu"],
  silu: ["silu", "swish"],
  tanh: ["tanh"],
};

/** Second names of the same fields (GPT2Config.attribute_map, and nanoGPT's block_size). */
const CONFIG_ALIASES = {
  n_layer: ["num_hidden_layers"],
  n_head: ["num_attention_heads"],
  n_embd: ["hidden_size"],
  n_positions: ["max_position_embeddings", "block_size"],
} as const;

/** GPT-2's and nanoGPT's layer norm epsilon. */
const DEFAULT_EPSILON = 1e-5;

/** model_type values that share tensor names with GPT-2, and how they differ. */
const LOOK_ALIKES: Readonly<Record<string, string>> = {
  gpt_neo: "GPT-Neo has local attention and separate q, k, v",
  gptj: "GPT-J has rotary positions and parallel blocks",
  gpt_bigcode: "GPTBigCode has multi-query attention",
  gpt_neox: "GPT-NeoX has rotary positions",
  imagegpt: "ImageGPT has another norm",
  "openai-gpt": "GPT-1 has its norms after the blocks",
};

/**
 * The config.json to write: every key of `raw` that does not describe the fields of `config` is kept. `model_type`
 * stays "gpt2" for every variant, because programs load nothing else; c_attn's shape makes them fail loudly.
 * The caller sets `dtype`/`torch_dtype` when it changes the weights' format.
 */
export function toHfConfig(config: ModelConfig, raw: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = { ...raw };
  for (const aliases of Object.values(CONFIG_ALIASES)) {
    for (const alias of aliases) delete out[alias];
  }
  delete out.n_ctx;
  for (const key of FORM_KEYS) delete out[key];
  Object.assign(out, {
    model_type: "gpt2",
    architectures: raw.architectures ?? ["GPT2LMHeadModel"],
    n_layer: config.n_layer,
    n_head: config.n_head,
    n_embd: config.n_embd,
    n_inner: config.n_inner === 4 * config.n_embd ? null : config.n_inner,
    n_positions: config.n_positions,
    vocab_size: config.vocab_size,
    layer_norm_epsilon: config.layer_norm_epsilon,
    activation_function: HF_ACTIVATIONS[config.activation][0],
    scale_attn_weights: config.scale_attn_weights,
    scale_attn_by_inverse_layer_idx: config.scale_attn_by_inverse_layer_idx,
    tie_word_embeddings: config.tied_head,
    bos_token_id: config.bos_token_id ?? null,
    eos_token_id: listEndTokens(config, raw) ?? config.eos_token_id ?? null,
  });
  Object.assign(out, makeFormKeys(config));
  if (config.labels) Object.assign(out, makeClassifierKeys(config.labels, config, raw));
  return out;
}

/** All end tokens of a list in config.json that are in the vocabulary; undefined where it has no list of several. */
function listEndTokens({ vocab_size }: ModelConfig, { eos_token_id }: Record<string, unknown>): number[] | undefined {
  const ids = Array.isArray(eos_token_id) ? eos_token_id.filter((id) => id >= 0 && id < vocab_size) : [];
  return ids.length > 1 ? ids : undefined;
}

/** The keys of GPT2ForSequenceClassification, which finds the last token of padded rows by pad_token_id. */
function makeClassifierKeys(labels: readonly string[], config: ModelConfig, raw: Record<string, unknown>): object {
  return {
    architectures: ["GPT2ForSequenceClassification"],
    id2label: Object.fromEntries(labels.map((label, id) => [String(id), label])),
    label2id: Object.fromEntries(labels.map((label, id) => [label, id])),
    problem_type: labels.length === 1 ? "regression" : "single_label_classification",
    pad_token_id: raw.pad_token_id ?? config.eos_token_id ?? 0,
  };
}

/** The fields of a config.json, undefined where it has none. The weights' shapes fill the gaps and must agree. */
export interface ParsedConfig extends ParsedForm {
  file: string;
  /** True when `model_type` is there: the defaults of transformers then apply. */
  isHuggingFace: boolean;
  n_layer: number | undefined;
  n_head: number | undefined;
  n_embd: number | undefined;
  n_inner: number | undefined;
  n_positions: number | undefined;
  vocab_size: number | undefined;
  layer_norm_epsilon: number;
  activation: Activation | undefined;
  scale_attn_weights: boolean;
  scale_attn_by_inverse_layer_idx: boolean;
  tie_word_embeddings: boolean | undefined;
  bos_token_id: number | undefined;
  /** The first of several. */
  eos_token_id: number | undefined;
  /** All ids of both keys; undefined where config.json is silent, empty where it says that there is none. */
  tokenIds: Readonly<Record<"bos_token_id" | "eos_token_id", readonly number[] | undefined>>;
  /** Names by id, from id2label. */
  labels: readonly string[] | undefined;
  notes: string[];
}

/**
 * Reads a config.json. Unknown keys are ignored (the caller keeps them in the raw object).
 * @param overrides `activation` given by the user: the file's own is then not looked at.
 * @throws NfcError `invalid-file` for values out of range, `unsupported` for models that are not GPT-2's mathematics.
 */
export function parseConfig(
  raw: unknown,
  file: string,
  overrides: { activation?: Activation | undefined } = {},
): ParsedConfig {
  const fields = new FieldReader(raw, file);
  refuseOtherModels(fields);
  const notes: string[] = [];
  if (fields.flag("reorder_and_upcast_attn")) {
    notes.push(`${file}: reorder_and_upcast_attn changes rounding only; ignored`);
  }
  const tokenIds = {
    bos_token_id: readTokenIds(fields, "bos_token_id"),
    eos_token_id: readTokenIds(fields, "eos_token_id"),
  };
  return {
    file,
    isHuggingFace: fields.has("model_type"),
    n_layer: fields.integer("n_layer", { min: 1, max: MAX_LAYERS, aliases: CONFIG_ALIASES.n_layer }),
    n_head: fields.integer("n_head", { min: 1, max: MAX_WIDTH, aliases: CONFIG_ALIASES.n_head }),
    n_embd: fields.integer("n_embd", { min: 1, max: MAX_WIDTH, aliases: CONFIG_ALIASES.n_embd }),
    n_inner: fields.integer("n_inner", { min: 1, max: MAX_INNER }),
    n_positions: readPositions(fields, notes),
    vocab_size: fields.integer("vocab_size", { min: 1, max: MAX_VOCAB }),
    layer_norm_epsilon: fields.number("layer_norm_epsilon", { min: 0, max: 1 }) ?? DEFAULT_EPSILON,
    activation: overrides.activation ?? readActivation(fields),
    scale_attn_weights: fields.flag("scale_attn_weights") ?? true,
    scale_attn_by_inverse_layer_idx: fields.flag("scale_attn_by_inverse_layer_idx") ?? false,
    tie_word_embeddings: fields.flag("tie_word_embeddings"),
    ...readForm(fields),
    bos_token_id: tokenIds.bos_token_id?.[0],
    eos_token_id: tokenIds.eos_token_id?.[0],
    tokenIds,
    labels: readLabels(fields),
    notes,
  };
}

export type Size = "n_layer" | "n_head" | "n_embd" | "n_positions" | "vocab_size";

/** A size that config.json must state. @throws NfcError "invalid-file" with this hint where it does not */
export function requireSize(config: ParsedConfig, size: Size, hint: string): number {
  const value = config[size];
  if (value !== undefined) return value;
  throw new NfcError("invalid-file", `${config.file}: ${size} is missing`, { hint });
}

/** @throws NfcError "invalid-file" with this hint when the heads do not divide the width */
export function checkHeads(
  { file }: ParsedConfig,
  { n_embd, n_head }: Pick<ModelConfig, "n_embd" | "n_head">,
  hint?: string,
): void {
  if (n_embd % n_head === 0) return;
  throw new NfcError("invalid-file", `${file}: n_embd ${n_embd} is not divisible by n_head ${n_head}`, { hint });
}

/**
 * The configuration of a model of these sizes. The other fields are those that are `known`, else those of config.json,
 * else GPT-2's. Fingerprints of models depend on the order of the keys.
 */
export function completeConfig(
  config: ParsedConfig,
  { n_layer, n_head, n_embd, n_positions, vocab_size }: Pick<ModelConfig, Size>,
  known: Partial<ModelConfig>,
): ModelConfig {
  const variant = known.variant ?? config.variant ?? "dense";
  return {
    ...{ n_layer, n_head, n_embd },
    n_inner: config.n_inner ?? 4 * n_embd,
    ...{ n_positions, vocab_size },
    layer_norm_epsilon: config.layer_norm_epsilon,
    activation: config.activation ?? "gelu_tanh",
    scale_attn_weights: config.scale_attn_weights,
    scale_attn_by_inverse_layer_idx: config.scale_attn_by_inverse_layer_idx,
    tied_head: config.tie_word_embeddings ?? true,
    bias: true,
    variant,
    ...resolveRanks(config, { n_layer, n_head, n_embd, variant }),
    ...known,
  };
}

/** Reads id2label: {"0": "negative", "1": "positive"}. */
function readLabels(fields: FieldReader): readonly string[] | undefined {
  const value = fields.value("id2label");
  if (value === undefined || value === null) return undefined;
  const wrong = () => fields.wrong("id2label", "an object of names by id, from 0");
  if (!isJsonObject(value)) throw wrong();
  const count = Object.keys(value).length;
  if (count > MAX_LABELS) throw wrong();
  return Array.from({ length: count }, (_, id) => {
    const label = value[String(id)];
    if (typeof label !== "string") throw wrong();
    return label;
  });
}

/** Refuses models with GPT-2's name or tensor names but other mathematics. */
function refuseOtherModels(fields: FieldReader): void {
  const refuse = (fact: string, hint: string): never => {
    throw new NfcError("unsupported", `${fields.file}: ${fact}`, { hint });
  };
  const type = fields.text("model_type");
  if (type !== undefined && type !== "gpt2") {
    const known = LOOK_ALIKES[type];
    refuse(
      `model_type ${quote(type)} is not "gpt2"${known === undefined ? "" : ` (${known})`}`,
      'nfc converts GPT-2-class models only; if the weights are GPT-2\'s all the same, set "model_type": "gpt2"',
    );
  }
  if (fields.flag("add_cross_attention") || fields.flag("is_encoder_decoder")) {
    refuse(
      "add_cross_attention is true: layers that attend to an encoder cannot be converted",
      "use a decoder-only GPT-2",
    );
  }
  if (fields.has("quantization_config")) {
    refuse(
      "quantization_config: the weights are quantised",
      "use the float16, bfloat16 or float32 checkpoint it was made from",
    );
  }
  const pruned = fields.value("pruned_heads");
  if (isJsonObject(pruned) && Object.keys(pruned).length > 0) {
    refuse("pruned_heads: layers with missing heads cannot be converted", "use a checkpoint with all heads");
  }
}

/** n_positions and its aliases; `n_ctx` is a legacy copy that old files left behind. */
function readPositions(fields: FieldReader, notes: string[]): number | undefined {
  const range = { min: 1, max: MAX_POSITIONS };
  const positions = fields.integer("n_positions", { ...range, aliases: CONFIG_ALIASES.n_positions });
  if (positions === undefined) return fields.integer("n_ctx", range);
  if (fields.has("n_ctx") && fields.value("n_ctx") !== positions) {
    notes.push(
      `${fields.file}: n_ctx ${quote(fields.value("n_ctx"))} is legacy and ignored; n_positions is ${positions}`,
    );
  }
  return positions;
}

function readActivation(fields: FieldReader): Activation | undefined {
  const name = fields.text("activation_function");
  if (name === undefined) return undefined;
  const found = ACTIVATIONS.find((activation) => HF_ACTIVATIONS[activation].includes(name));
  if (found !== undefined) return found;
  throw new NfcError("unsupported", `${fields.file}: activation_function ${quote(name)} is not known`, {
    hint: `known are ${Object.values(HF_ACTIVATIONS).flat().join(", ")}; --activation overrides the file`,
  });
}
