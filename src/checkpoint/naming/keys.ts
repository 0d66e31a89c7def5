// Turns the tensor names of a checkpoint into GPT-2's: aliases, wrapper prefixes, mask buffers, look-alikes by name.
import { NfcError } from "../../errors.ts";
import type { Dtype } from "../../formats/dtype.ts";
import { quote } from "../fields.ts";

/** A tensor as a file lists it. */
export interface SourceTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

/** Tensors under GPT-2's names, with what was done to get there. */
export interface NamedTensors {
  tensors: Map<string, SourceTensor>;
  notes: string[];
}

/** Prefixes before every name, of torch.compile, DistributedDataParallel, Lightning, TRL, PEFT and saved wrappers. */
const WRAPPER_PREFIXES = ["_orig_mod.", "module.", "model.", "state_dict.", "pretrained_model.", "base_model."];

/** Parts of a path that wrappers of torch add anywhere in it, even before some names only; no model has them. */
const WRAPPER_PARTS = new Set([
  "_orig_mod", // torch.compile
  "_checkpoint_wrapped_module", // activation checkpointing
  "_fsdp_wrapped_module",
  "_fpw_module", // FairScale
  "_forward_module", // Lightning Fabric
  "_dpmodule",
]);
/** Names of wrappers' attributes, stripped within a path: at its start they may tell two models of one file apart. */
const INNER_PARTS = new Set(["module", "model", "base_model"]);

/** The base model's attribute in GPT2LMHeadModel and nanoGPT; heads stand beside it. */
const BASE_PREFIX = "transformer.";
const HEADS = /^(lm_head|score|classifier|multiple_choice_head|v_head|value_head|reward_head|qa_outputs|summary)\./;

/** Heads of other tasks beside a language model's own. */
const SPARE_HEADS: readonly { pattern: RegExp; what: string }[] = [
  { pattern: /^(v_head|value_head|reward_head)\./, what: "a value head of reinforcement learning" },
  { pattern: /^(multiple_choice_head|summary)\./, what: "a head of GPT2DoubleHeadsModel" },
];
/** Heads that a model is trained for instead of language. */
const TASK_HEADS: readonly { pattern: RegExp; what: string }[] = [
  { pattern: /^qa_outputs\./, what: "question answering (GPT2ForQuestionAnswering)" },
  { pattern: /^classifier\./, what: "labelling tokens (GPT2ForTokenClassification)" },
];
/** The head's name in pytorch-pretrained-BERT, and in DialoGPT's files. */
const OLD_HEAD = "lm_head.decoder.weight";

/** Causal mask buffers. A match by the suffix `attn.bias` would take `attn.c_attn.bias`, which is a parameter. */
export const MASK_BUFFER = /^h\.\d+\.attn\.(bias|masked_bias)$/;

/** Names that other architectures and formats give away: whose they are, and what to do about it. */
const FOREIGN_NAMES: readonly { pattern: RegExp; whose: string; hint?: string }[] = [
  {
    pattern: /(^|\/)h\d+\/(attn|mlp|ln_[12])\//,
    whose: "TensorFlow's naming of GPT-2",
    hint: "convert it to safetensors first: transformers 4, from_pretrained(..., from_tf=True), save_pretrained",
  },
  { pattern: /(^|\.)attn\.attention\.[a-z]+_proj\./, whose: "GPT-Neo's" },
  { pattern: /(^|\.)attn\.[qkv]_proj\./, whose: "GPT-J's" },
  { pattern: /(^|\.)(attention|self_attention)\.query_key_value\./, whose: "GPT-NeoX's or BLOOM's" },
  { pattern: /(^|\.)self_attn\.([qkv]|qkv)_proj\./, whose: "a Llama- or OPT-like model's" },
  { pattern: /^(tokens|positions)_embed\./, whose: "GPT-1's" },
  {
    pattern: /\.(lora_magnitude_vector|ia3_l|hada_w\d|lokr_w\d|oft_r)\b|^(prompt_embeddings|prompt_encoder\.)/,
    whose: "an adapter's (PEFT)",
    hint: "merge the adapter into its base model first (peft: merge_and_unload), then save it",
  },
  { pattern: /(^|\.)(crossattention|ln_cross_attn)\./, whose: "cross attention's" },
  {
    pattern: /\.lora_(A|B|embedding_[AB])\b/,
    whose: "a LoRA adapter's",
    hint: "merge the adapter into its base model first (peft: merge_and_unload), then save it",
  },
  {
    pattern: /\.(qweight|qzeros|g_idx|SCB|absmax|quant_map)$/,
    whose: "a quantised model's",
    hint: "use the float16, bfloat16 or float32 checkpoint it was made from",
  },
];
const DEFAULT_FOREIGN_HINT =
  "nfc reads GPT-2, DistilGPT-2, DialoGPT, Cerebras-GPT, nanoGPT and its own compact checkpoints";

/**
 * Canonical keys for the tensors of one checkpoint.
 * @throws NfcError `unsupported` for other architectures, `invalid-file` when two tensors end up with one name.
 */
export function normalizeKeys(
  file: string,
  tensors: readonly SourceTensor[],
  metadata: Readonly<Record<string, string>>,
): NamedTensors {
  const notes: string[] = [];
  const stored = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const entries = [...stored.entries(), ...listAliases(stored, metadata, notes)];
  const keys = stripWrappers(
    entries.map(([name]) => name),
    notes,
  );
  const named = new Map<string, SourceTensor>();
  let masks = 0;
  for (const [index, [name, tensor]] of entries.entries()) {
    const key = keys[index] ?? name;
    refuseForeign(file, name, key);
    if (isMaskBuffer(key, tensor.shape)) {
      masks++;
      continue;
    }
    const other = named.get(key);
    if (other !== undefined) {
      throw new NfcError("invalid-file", `${file}: ${quote(other.name)} and ${quote(name)} are both ${quote(key)}`, {
        hint: "remove one of the two tensors",
      });
    }
    named.set(key, tensor);
  }
  if (masks > 0) notes.push(`${masks} attention mask ${masks === 1 ? "buffer" : "buffers"} dropped (not parameters)`);
  leaveOutHeads(file, named, notes);
  return { tensors: named, notes };
}

/** Takes the heads of other tasks out of `named`, with a note each. @throws NfcError "unsupported" for a model of such a task */
function leaveOutHeads(file: string, named: Map<string, SourceTensor>, notes: string[]): void {
  const isLanguageModel = named.has("lm_head.weight");
  for (const { pattern, what } of [...SPARE_HEADS, ...TASK_HEADS]) {
    const keys = [...named.keys()].filter((key) => pattern.test(key));
    const [first] = keys;
    if (first === undefined) continue;
    if (!isLanguageModel && TASK_HEADS.some((head) => head.pattern === pattern))
      throw new NfcError("unsupported", `${file}: tensor ${quote(first)} is that of a model for ${what}`, {
        hint: "nfc reads language models and GPT2ForSequenceClassification: give the language model it was made from",
      });
    for (const key of keys) named.delete(key);
    notes.push(`${keys.map(quote).join(", ")} left out (${what}, which a language model does not need)`);
  }
}

/**
 * Settles `lm_head.decoder.weight`: a copy of the token embedding where the head is tied, which Hugging Face's programs
 * leave out; else the head itself. `tied` is what config.json says.
 */
export function settleOldHead(tensors: Map<string, SourceTensor>, tied: boolean | undefined, notes: string[]): void {
  const head = tensors.get(OLD_HEAD);
  if (head === undefined) return;
  tensors.delete(OLD_HEAD);
  if (tensors.has("lm_head.weight") || (tensors.has("wte.weight") && tied !== false))
    notes.push(`${quote(head.name)} left out (an older name of the head, which is stored as well or tied)`);
  else {
    notes.push(`${quote(head.name)} is lm_head.weight under an older name`);
    tensors.set("lm_head.weight", head);
  }
}

/** Names that safetensors' save_model left out because another tensor shares their memory: metadata {absent: stored}. */
function listAliases(
  stored: ReadonlyMap<string, SourceTensor>,
  metadata: Readonly<Record<string, string>>,
  notes: string[],
): [string, SourceTensor][] {
  const found: [string, SourceTensor][] = [];
  for (const [alias, name] of Object.entries(metadata)) {
    const tensor = stored.get(name);
    if (tensor === undefined || stored.has(alias)) continue;
    notes.push(`${quote(alias)} is ${quote(name)} (alias in the file's metadata)`);
    found.push([alias, tensor]);
  }
  return found;
}

/** Strips prefixes that all names carry, then what wrappers have added anywhere else, and notes both. */
function stripWrappers(names: readonly string[], notes: string[]): string[] {
  const outer = stripPrefixes(names);
  const removed = new Map<string, number>();
  const inner = stripPrefixes(outer.keys.map((key) => stripParts(key, removed)));
  const prefix = outer.prefix + inner.prefix;
  if (prefix !== "") notes.push(`prefix ${quote(prefix)} stripped from the tensor names`);
  for (const [part, count] of removed)
    notes.push(`${quote(`${part}.`)} stripped from within ${count} tensor ${count === 1 ? "name" : "names"}`);
  return inner.keys;
}

/** A name without the wrappers' parts; `removed` counts the names that each was in. */
function stripParts(key: string, removed: Map<string, number>): string {
  const parts = key.split(".");
  const isAdded = (part: string, at: number) =>
    at < parts.length - 1 && (WRAPPER_PARTS.has(part) || (at > 0 && INNER_PARTS.has(part)));
  for (const part of new Set(parts.filter(isAdded))) removed.set(part, (removed.get(part) ?? 0) + 1);
  return parts.filter((part, at) => !isAdded(part, at)).join(".");
}

/** Strips the known prefixes again and again, each only where ALL names carry it, or all but heads. */
function stripPrefixes(names: readonly string[]): { keys: string[]; prefix: string } {
  let keys = [...names];
  let prefix = "";
  for (;;) {
    const next = [...WRAPPER_PREFIXES, BASE_PREFIX].find((candidate) => isCommon(candidate, keys));
    if (next === undefined) return { keys, prefix };
    keys = keys.map((key) => (key.startsWith(next) ? key.slice(next.length) : key));
    prefix += next;
  }
}

function isCommon(prefix: string, keys: readonly string[]): boolean {
  return keys.some((key) => key.startsWith(prefix)) && keys.every((key) => key.startsWith(prefix) || HEADS.test(key));
}

/** [1, 1, T, T] of booleans, bytes or floats (`bias`), or one number (`masked_bias`). */
function isMaskBuffer(key: string, shape: readonly number[]): boolean {
  if (!MASK_BUFFER.test(key)) return false;
  const [a, b, rows, columns] = shape;
  const isMask = shape.length === 4 && a === 1 && b === 1 && rows === columns;
  return isMask || shape.every((dimension) => dimension === 1);
}

function refuseForeign(file: string, name: string, key: string): void {
  const found = FOREIGN_NAMES.find(({ pattern }) => pattern.test(key));
  if (!found) return;
  throw new NfcError("unsupported", `${file}: tensor ${quote(name)} is ${found.whose}, not GPT-2's`, {
    hint: found.hint ?? DEFAULT_FOREIGN_HINT,
  });
}
