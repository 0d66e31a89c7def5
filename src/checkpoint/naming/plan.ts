// Plans how the tensors of any supported checkpoint become canonical GPT-2 tensors. No function here opens a file.
import { NfcError } from "../../errors.ts";
import { type FloatDtype, isFloatDtype } from "../../formats/dtype.ts";
import type { Activation, ModelConfig } from "../../model/config.ts";
import { listParameters } from "../../model/parameters.ts";
import { VARIANT_TRAITS, type Variant } from "../../model/variants.ts";
import { type ParsedConfig, parseConfig } from "../config-file.ts";
import { quote } from "../fields.ts";
import { readFormMetadata } from "../form-keys.ts";
import { GPT2_VOCABULARY, NANOGPT_VOCABULARY } from "../tokenizer.ts";
import type { NamedId } from "../vocabulary-size.ts";
import { resolveConfig } from "./config.ts";
import { normalizeKeys, type SourceTensor, settleOldHead } from "./keys.ts";
import { detectLayout, type Layout, listFirst, listFirstQuoted, showShape } from "./layout.ts";

export type { SourceTensor } from "./keys.ts";

export interface PlanInput {
  /** The name of the weights' file, for messages. */
  file: string;
  tensors: readonly SourceTensor[];
  metadata?: Readonly<Record<string, string>> | undefined;
  config?: ParsedConfig | null | undefined;
  recordVariant?: Variant | undefined;
  nHead?: number | undefined;
  activation?: Activation | undefined;
  /** true: to the tokenizer's size. */
  trimVocab?: number | boolean | undefined;
  /** Tokens of the tokenizer beside the checkpoint, where there is one. */
  tokenizerSize?: number | undefined;
  /** Token ids that config.json and generation_config.json name: rows that stay. */
  namedIds?: readonly NamedId[] | undefined;
}

/** The source of a canonical tensor. `shape` is canonical: [in, out], padding rows trimmed. */
export interface PlannedTensor {
  name: string;
  source: string;
  dtype: FloatDtype;
  shape: number[];
  /** The stored matrix is [out, in]. */
  transposed: boolean;
}

export interface NamingPlan {
  config: ModelConfig;
  /** Exactly `listParameters(config)`, in that order. */
  tensors: Map<string, PlannedTensor>;
  notes: string[];
  /** lm_head.weight may be a copy of wte.weight: compare the bytes and tell {@link settleHead}. */
  headCandidate: boolean;
}

/** Matrices that Conv1D and Linear store the other way round; embeddings and the head are never turned. */
const TURNED = /\.(c_attn|c_proj|c_fc)\.weight$/;

/**
 * Recognizes the naming, layout and variant of a checkpoint.
 * @throws NfcError that names file, tensor and fact, for anything that cannot be read as GPT-2
 */
export function planCheckpoint(input: PlanInput): NamingPlan {
  const { file } = input;
  const config = input.config ?? null;
  const form = readFormMetadata(input.metadata ?? {}, file);
  const parsed = config?.variant === undefined ? { ...(config ?? parseConfig({}, file)), ...form } : config;
  const { tensors, notes } = normalizeKeys(file, input.tensors, input.metadata ?? {});
  notes.push(...(config?.notes ?? []));
  settleOldHead(tensors, config?.tie_word_embeddings, notes);
  const headCandidate = resolveHead(file, tensors, config, notes);
  const narrow =
    VARIANT_TRAITS[input.recordVariant ?? parsed.variant ?? "dense"].narrow || parsed.vo_ranks !== undefined;
  const layout = detectLayout(file, tensors, { narrow });
  if (layout.orientation === "linear") notes.push("matrices stored [out, in] (as torch.nn.Linear does): transposed");
  if (!layout.bias) notes.push("no biases (nanoGPT's bias=False)");
  const known = { config: parsed, layout, tensors, tiedHead: !headCandidate };
  const complete = resolveConfig({ ...input, ...known }, notes);
  checkTensors(file, tensors, complete, layout, config);
  const planned = planTensors(file, tensors, complete, layout, notes);
  const plan = trimVocabulary({ config: complete, tensors: planned, notes, headCandidate }, input);
  const sameDtype = planned.get("wte.weight")?.dtype === planned.get("lm_head.weight")?.dtype;
  return headCandidate && !sameDtype ? settleHead(plan, false) : plan;
}

/** The plan once the bytes of lm_head.weight and wte.weight were compared: a copy is dropped, another matrix stays. */
export function settleHead(plan: NamingPlan, equal: boolean): NamingPlan {
  if (!equal) {
    const notes = [...plan.notes, "lm_head.weight differs from wte.weight: kept as a head of its own (not tied)"];
    return { ...plan, notes, headCandidate: false };
  }
  const tensors = new Map(plan.tensors);
  tensors.delete("lm_head.weight");
  const notes = [...plan.notes, "lm_head.weight is a copy of wte.weight: stored and counted once"];
  return { config: { ...plan.config, tied_head: true }, tensors, notes, headCandidate: false };
}

/**
 * Settles which of wte.weight and lm_head.weight is there. Leaves wte.weight in `tensors`, and lm_head.weight only if
 * it is stored separately; returns whether it is.
 */
function resolveHead(
  file: string,
  tensors: Map<string, SourceTensor>,
  config: ParsedConfig | null,
  notes: string[],
): boolean {
  const wte = tensors.get("wte.weight");
  const head = tensors.get("lm_head.weight");
  if (head === undefined) {
    if (wte === undefined || config?.tie_word_embeddings !== false) return false;
    throw new NfcError("invalid-file", `${file}: lm_head.weight is missing, and config.json says that it is not tied`, {
      hint: 'set "tie_word_embeddings": true if the head is the token embedding',
    });
  }
  if (wte === undefined && config?.tie_word_embeddings !== false) {
    notes.push("wte.weight is not stored: lm_head.weight serves as both");
    tensors.set("wte.weight", head);
  }
  if (tensors.get("wte.weight") !== head) return true;
  tensors.delete("lm_head.weight");
  return false;
}

/** Every expected tensor must be there in its shape, and nothing else: all differences in one line. */
function checkTensors(
  file: string,
  tensors: ReadonlyMap<string, SourceTensor>,
  config: ModelConfig,
  layout: Layout,
  parsed: ParsedConfig | null,
): void {
  const missing: string[] = [];
  const wrong: string[] = [];
  const unexpected = new Set(tensors.keys());
  for (const spec of listParameters(config)) {
    const tensor = tensors.get(spec.name);
    unexpected.delete(spec.name);
    const stored = isTransposed(spec.name, layout) ? [...spec.shape].reverse() : spec.shape;
    if (tensor === undefined) missing.push(spec.name);
    else if (showShape(tensor.shape) !== showShape(stored)) {
      wrong.push(`${spec.name} is ${showShape(tensor.shape)}, expected ${showShape(stored)}`);
    }
  }
  const facts = [
    ...(missing.length > 0 ? [`missing ${listFirstQuoted(missing)}`] : []),
    ...(wrong.length > 0 ? [listFirst(wrong)] : []),
    ...(unexpected.size > 0
      ? [`unexpected ${listFirstQuoted([...unexpected].map((key) => tensors.get(key)?.name ?? key))}`]
      : []),
  ];
  if (facts.length === 0) return;
  throw new NfcError("invalid-file", `${file}: ${facts.join("; ")}`, {
    hint:
      parsed !== null && wrong.length > 0
        ? `the weights and ${parsed.file} disagree: correct n_layer, n_embd, n_inner, n_positions or vocab_size there`
        : "the checkpoint is not a plain GPT-2 language model, or a part of it is missing",
  });
}

function isTransposed(name: string, layout: Layout): boolean {
  return layout.orientation === "linear" && TURNED.test(name);
}

function planTensors(
  file: string,
  tensors: ReadonlyMap<string, SourceTensor>,
  config: ModelConfig,
  layout: Layout,
  notes: string[],
): Map<string, PlannedTensor> {
  const planned = new Map<string, PlannedTensor>();
  const dtypes = new Map<string, number>();
  for (const spec of listParameters(config)) {
    const tensor = tensors.get(spec.name);
    if (tensor === undefined) continue; // checkTensors has complained
    const { dtype, name: source } = tensor;
    if (!isFloatDtype(dtype)) {
      throw new NfcError("unsupported", `${file}: ${quote(source)} is ${dtype}, not a float format that nfc reads`, {
        hint: "weights must be F64, F32, F16 or BF16: use the checkpoint before it was quantised",
      });
    }
    dtypes.set(dtype, (dtypes.get(dtype) ?? 0) + 1);
    planned.set(spec.name, {
      name: spec.name,
      source,
      dtype,
      shape: spec.shape,
      transposed: isTransposed(spec.name, layout),
    });
  }
  if (dtypes.size > 1) {
    notes.push(`mixed dtypes: ${[...dtypes].map(([dtype, count]) => `${count} tensors ${dtype}`).join(", ")}`);
  }
  return planned;
}

/** Drops padding rows of wte and lm_head, or says that there are some. */
function trimVocabulary(plan: NamingPlan, input: PlanInput): NamingPlan {
  const rows = plan.config.vocab_size;
  const { trimVocab = false, tokenizerSize } = input;
  const real = tokenizerSize ?? (rows === NANOGPT_VOCABULARY ? GPT2_VOCABULARY : undefined);
  if (trimVocab === false) {
    if (real !== undefined && real < rows) {
      plan.notes.push(
        `vocabulary ${rows}: ${rows - real} rows beyond the ${real} tokens in use (--trim-vocab drops them)`,
      );
    }
    return plan;
  }
  const target = trimVocab === true ? chooseRows(input, real, rows) : checkRows(input, trimVocab, rows);
  if (target >= rows) {
    plan.notes.push(`vocabulary ${rows}: no padding rows to trim`);
    return plan;
  }
  for (const name of ["wte.weight", "lm_head.weight"]) {
    const tensor = plan.tensors.get(name);
    if (tensor !== undefined) plan.tensors.set(name, { ...tensor, shape: [target, plan.config.n_embd] });
  }
  plan.notes.push(`vocabulary trimmed from ${rows} to ${target} rows`);
  const config = { ...plan.config, vocab_size: target };
  for (const key of ["bos_token_id", "eos_token_id"] as const) {
    if ((config[key] ?? 0) < target) continue;
    plan.notes.push(`${key} ${config[key]}, GPT-2's default, is beyond the trimmed vocabulary; ignored`);
    delete config[key];
  }
  return { ...plan, config };
}

/** The tokenizer's size, or more where a configuration names a token beyond it. */
function chooseRows(input: PlanInput, size: number | undefined, rows: number): number {
  if (size === undefined && rows !== GPT2_VOCABULARY) {
    const message = `${input.file}: without a tokenizer it is not known how many of the ${rows} rows are in use`;
    throw new NfcError("usage", message, {
      hint: "put the model's tokenizer.json beside its weights, or give the number of rows: --trim-vocab N",
    });
  }
  return Math.max(size ?? rows, (findLastNamed(input, rows)?.id ?? -1) + 1);
}

/** @throws NfcError "usage" for a number of rows that does not fit, or below a token that a configuration names */
function checkRows(input: PlanInput, target: number, rows: number): number {
  const message = `${input.file}: the vocabulary has ${rows} rows and cannot be trimmed to ${target}`;
  if (!Number.isInteger(target) || target < 1 || target > rows) {
    throw new NfcError("usage", message, {
      hint: `--trim-vocab takes a number from 1 to ${rows}, or none for the tokenizer's size`,
    });
  }
  const last = findLastNamed(input, rows);
  if (last === undefined || last.id < target) return target;
  throw new NfcError("usage", `${message}: ${last.key} is ${last.id}`, {
    hint: `keep at least ${last.id + 1} rows, or correct ${last.key}`,
  });
}

/** The largest token id that a configuration names and the vocabulary has. */
function findLastNamed({ config, namedIds = [] }: PlanInput, rows: number): NamedId | undefined {
  const own = Object.entries(config?.tokenIds ?? {}).flatMap(([key, ids]) => (ids ?? []).map((id) => ({ key, id })));
  return [...own, ...namedIds].filter(({ id }) => id < rows).sort((a, b) => b.id - a.id)[0];
}
