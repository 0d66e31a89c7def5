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

/** Prefixes before every name, of torch.compile, DistributedDataParallel, Lightning and saved wrappers. */
const WRAPPER_PREFIXES = ["_orig_mod.", "module.", "model.", "state_dict."];

/** The base model's attribute in GPT2LMHeadModel and nanoGPT; heads stand beside it. */
const BASE_PREFIX = "transformer.";
const HEADS = /^(lm_head|score|classifier|multiple_choice_head|v_head|qa_outputs)\./;

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
  const { keys, prefix } = stripPrefixes(entries.map(([name]) => name));
  if (prefix !== "") notes.push(`prefix ${quote(prefix)} stripped from the tensor names`);
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
  return { tensors: named, notes };
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

/** Strips the known prefixes again and again, each only where ALL names carry it; heads need not carry `transformer.`. */
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
  const exempt = (key: string) => prefix === BASE_PREFIX && HEADS.test(key);
  return keys.some((key) => key.startsWith(prefix)) && keys.every((key) => key.startsWith(prefix) || exempt(key));
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
