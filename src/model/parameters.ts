// The parameters of a model: canonical names (GPT-2's), shapes, counts, and the groups that reports add up.
import { countElements } from "../formats/dtype.ts";
import type { ModelConfig } from "./config.ts";
import { countAttentionColumns, getHeadSize, getHeadWidths, listAttentionParts } from "./head-widths.ts";
import { hasDistanceMean, shapeNoise, VARIANT_TRAITS } from "./variants.ts";

export const PARAMETER_GROUPS = [
  "embeddings",
  "attention.q",
  "attention.k",
  "attention.qk",
  "attention.v",
  "attention.out",
  "mlp",
  "norms",
  "noise",
  "head",
] as const;
export type ParameterGroup = (typeof PARAMETER_GROUPS)[number];

/** The head of a classifier, [labels, C], as GPT2ForSequenceClassification has it. */
export const SCORE = "score.weight";

const KINDS = [
  [/^w[tp]e\./, "embedding"],
  [/^(lm_head|score)\./, "head"],
  [/(^|\.)attn\.noise_mean/, "noise mean"],
  [/(^|\.)attn\.noise_log_std/, "noise log std"],
  [/(^|\.)attn\.c_attn\./, "attention input"],
  [/(^|\.)attn\.pair$/, "attention form"],
  [/(^|\.)attn\./, "attention output"],
  [/(^|\.)mlp\./, "mlp"],
  [/(^|\.)ln_\w+\./, "norm"],
] as const;
/** The purpose of a parameter, weight and bias alike; `attention input` is c_attn, whose columns are [q, k, v] or [s, v]; `attention form` is A of s_i A s_jᵀ. */
export type ParameterKind = (typeof KINDS)[number][1];

/** The kind of a parameter, by its canonical name or its name within a layer; null for a name that is not GPT-2's. */
export function findParameterKind(name: string): ParameterKind | null {
  return KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? null;
}

/** Whether a parameter is a mean or a deviation of the noise. */
export function isNoiseParameter(name: string): boolean {
  const kind = findParameterKind(name);
  return kind === "noise mean" || kind === "noise log std";
}

/** Whether the logits depend on a parameter where ε = 0: σ has no effect then, nor has a constant μ (softmax drops it). */
export function isUsedAtMean(name: string, { variant }: Pick<ModelConfig, "variant">): boolean {
  const kind = findParameterKind(name);
  return kind !== "noise log std" && (kind !== "noise mean" || hasDistanceMean(variant));
}

/** One stored parameter. Weight matrices are [in, out] (GPT-2's Conv1D orientation); `layer` is null outside the blocks. */
export interface ParameterSpec {
  name: string;
  shape: number[];
  layer: number | null;
}

/**
 * Every parameter that a checkpoint of `config` stores, in a fixed order: embeddings, layers, final norm, head.
 * A tied head (logits = h · wteᵀ) is not listed: it is stored once, as wte.
 */
export function listParameters(config: ModelConfig): ParameterSpec[] {
  const { n_embd: C, vocab_size: V, n_positions: T } = config;
  const specs: ParameterSpec[] = [
    { name: "wte.weight", shape: [V, C], layer: null },
    { name: "wpe.weight", shape: [T, C], layer: null },
  ];
  for (let layer = 0; layer < config.n_layer; layer++) {
    for (const [name, shape] of listLayerShapes(config, layer))
      specs.push({ name: `h.${layer}.${name}`, shape, layer });
  }
  specs.push({ name: "ln_f.weight", shape: [C], layer: null });
  if (config.bias) specs.push({ name: "ln_f.bias", shape: [C], layer: null });
  if (!config.tied_head) specs.push({ name: "lm_head.weight", shape: [V, C], layer: null });
  if (config.labels) specs.push({ name: SCORE, shape: [config.labels.length, C], layer: null });
  return specs;
}

/** Whether a weight is the token embedding, or a head of its own. */
export const isEmbedding = (name: string): boolean => name === "wte.weight" || name === "lm_head.weight";

/** The matrix [V, C] that makes the logits of a language model: the token embedding where the head is tied. */
export function nameHead({ tied_head }: Pick<ModelConfig, "tied_head">): string {
  return tied_head ? "wte.weight" : "lm_head.weight";
}

/** [name within the layer, shape] of one block; c_attn is [C, 3C] = [q, k, v] or [C, 2C] = [s, v], less where heads are narrower. */
function listLayerShapes(config: ModelConfig, layer: number): [string, number[]][] {
  const { n_embd: C, n_inner: I, n_head: H } = config;
  const qkv = countAttentionColumns(config, layer);
  const D = getHeadSize(config);
  const { mean, logStd } = shapeNoise(config.variant, config.n_head) ?? {};
  const further: [string, number[]][] = [];
  if (VARIANT_TRAITS[config.variant].paired) further.push(["attn.pair", [H, D, D]]);
  if (mean && logStd) further.push(["attn.noise_mean", mean], ["attn.noise_log_std", logStd]);
  const shapes: [string, number[]][] = [
    ["ln_1.weight", [C]],
    ["ln_1.bias", [C]],
    ["attn.c_attn.weight", [C, qkv]],
    ["attn.c_attn.bias", [qkv]],
    ["attn.c_proj.weight", [H * getHeadWidths(config, layer).v, C]],
    ["attn.c_proj.bias", [C]],
    ...further,
    ["ln_2.weight", [C]],
    ["ln_2.bias", [C]],
    ["mlp.c_fc.weight", [C, I]],
    ["mlp.c_fc.bias", [I]],
    ["mlp.c_proj.weight", [I, C]],
    ["mlp.c_proj.bias", [C]],
  ];
  return config.bias ? shapes : shapes.filter(([name]) => !name.endsWith(".bias"));
}

/** All parameters of a model, each counted once: tying Q and K removes L · (C² + C), or L · C² without biases. */
export function countParameters(config: ModelConfig): number {
  return listParameters(config).reduce((sum, spec) => sum + countElements(spec.shape), 0);
}

const GROUPS: Readonly<Record<Exclude<ParameterKind, "attention input">, ParameterGroup>> = {
  embedding: "embeddings",
  head: "head",
  "noise mean": "noise",
  "noise log std": "noise",
  "attention form": "attention.qk",
  "attention output": "attention.out",
  mlp: "mlp",
  norm: "norms",
};

/** The group or groups a parameter counts in; c_attn is split by columns into q, k, v or qk, v. Counts add up to its size. */
export function groupParameters(spec: ParameterSpec, config: ModelConfig): { group: ParameterGroup; count: number }[] {
  const count = countElements(spec.shape);
  const kind = findParameterKind(spec.name);
  if (kind === null) throw new Error(`${spec.name} is no parameter of a GPT-2`);
  if (kind !== "attention input") return [{ group: GROUPS[kind], count }];
  const parts = listAttentionParts(config, spec.layer ?? 0);
  const columns = countAttentionColumns(config, spec.layer ?? 0);
  return parts.map((part) => ({ group: `attention.${part.part}` as const, count: (count * part.columns) / columns }));
}

/** The group of a parameter by its name; null for c_attn, whose columns are of several, and for other names. */
export function findParameterGroup(name: string): ParameterGroup | null {
  const kind = findParameterKind(name);
  return kind === null || kind === "attention input" ? null : GROUPS[kind];
}
