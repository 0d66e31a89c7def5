// The parameters of a model: canonical names (GPT-2's), shapes, counts, and the groups that reports add up.
import { countElements } from "../formats/dtype.ts";
import { attnParts, type ModelConfig, shapeNoise } from "./config.ts";

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
    for (const [name, shape] of listLayerShapes(config)) specs.push({ name: `h.${layer}.${name}`, shape, layer });
  }
  specs.push({ name: "ln_f.weight", shape: [C], layer: null });
  if (config.bias) specs.push({ name: "ln_f.bias", shape: [C], layer: null });
  if (!config.tied_head) specs.push({ name: "lm_head.weight", shape: [V, C], layer: null });
  if (config.labels) specs.push({ name: SCORE, shape: [config.labels.length, C], layer: null });
  return specs;
}

/** [name within the layer, shape] of one block; c_attn is [C, 3C] = [q, k, v] or [C, 2C] = [s, v]. */
function listLayerShapes(config: ModelConfig): [string, number[]][] {
  const { n_embd: C, n_inner: I } = config;
  const qkv = attnParts(config.variant) * C;
  const noise = shapeNoise(config.variant, config.n_head);
  const shapes: [string, number[]][] = [
    ["ln_1.weight", [C]],
    ["ln_1.bias", [C]],
    ["attn.c_attn.weight", [C, qkv]],
    ["attn.c_attn.bias", [qkv]],
    ["attn.c_proj.weight", [C, C]],
    ["attn.c_proj.bias", [C]],
    ...(noise === null
      ? []
      : ([
          ["attn.noise_mean", noise.mean],
          ["attn.noise_log_std", noise.logStd],
        ] as [string, number[]][])),
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

/** The group or groups a parameter counts in; c_attn is split by columns into q, k, v or qk, v. Counts add up to its size. */
export function groupParameters(spec: ParameterSpec, config: ModelConfig): { group: ParameterGroup; count: number }[] {
  const count = countElements(spec.shape);
  const own = findParameterGroup(spec.name);
  if (own !== null) return [{ group: own, count }];
  const groups: ParameterGroup[] =
    attnParts(config.variant) === 3 ? ["attention.q", "attention.k", "attention.v"] : ["attention.qk", "attention.v"];
  return groups.map((group) => ({ group, count: count / groups.length }));
}

/** The group of a parameter by its name; null for c_attn, whose columns are of several, and for what is no parameter. */
export function findParameterGroup(name: string): ParameterGroup | null {
  if (name.includes(".attn.c_attn.")) return null;
  if (name.startsWith("wte.") || name.startsWith("wpe.")) return "embeddings";
  if (name.startsWith("lm_head.") || name.startsWith("score.")) return "head";
  if (name.includes(".attn.noise_")) return "noise";
  if (name.includes(".attn.")) return "attention.out";
  if (name.includes(".mlp.")) return "mlp";
  return /(^|\.)ln_\w+\./.test(name) ? "norms" : null;
}
