// Finds the keys of a configuration by which other programs load code, so that nothing written makes them run it.
import { NfcError } from "../errors.ts";
import { isJsonObject, quote } from "./fields.ts";

/**
 * Keys that name Python code or compiled kernels: transformers imports the modules of `auto_map` and `custom_pipelines`
 * (from a repository of anybody's, too), takes `custom_generate` in place of its decoder, and downloads the kernels of a
 * kernel configuration.
 */
const CODE_KEYS =
  /^(auto_map|custom_pipelines?|custom_generate|trust_remote_code|code_revision|use_kernels|kernel_config|kernel_mapping)$/;

/** Keys that choose an implementation: one of transformers' own by a plain word, or a repository's by its address. */
const IMPLEMENTATION_KEYS = /^_?(attn|experts)_implementation(_internal)?$/;

/** Configurations have a few levels; far more would overflow the stack of whatever walks them. */
const MAX_DEPTH = 100;

/** References to the module that nfc itself writes. */
const OWN_REFERENCE = /^modeling_nfc_gpt2\.\w+$/;

export interface Stripped {
  value: Record<string, unknown>;
  /** One line for each key that was dropped. */
  notes: string[];
}

/**
 * The object without the keys that load code, at any depth: parts of a configuration are loaded like the whole. The
 * object itself where it has none of them.
 * @param file names the object in the notes
 * @throws NfcError "invalid-file" for an object of more than a hundred levels
 */
export function stripForeignCode(value: Record<string, unknown>, file: string): Stripped {
  const notes: string[] = [];
  return { value: strip(value, file, notes, 0) as Record<string, unknown>, notes };
}

function strip(value: unknown, file: string, notes: string[], depth: number): unknown {
  if (depth > MAX_DEPTH) throw new NfcError("invalid-file", `${file}: nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    const items = value.map((item) => strip(item, file, notes, depth + 1));
    return items.every((item, i) => item === value[i]) ? value : items;
  }
  if (!isJsonObject(value)) return value;
  const kept: [string, unknown][] = [];
  for (const [key, inner] of Object.entries(value)) {
    if (!loadsCode(key, inner)) kept.push([key, strip(inner, file, notes, depth + 1)]);
    else if (inner && !isOwn(inner))
      notes.push(`${file}: ${key} ${quote(inner)} is left out: it makes other programs load code`);
  }
  const same = kept.length === Object.keys(value).length && kept.every(([key, inner]) => inner === value[key]);
  return same ? value : Object.fromEntries(kept);
}

function loadsCode(key: string, value: unknown): boolean {
  if (IMPLEMENTATION_KEYS.test(key)) return value !== null && !/^\w+$/.test(String(value));
  return CODE_KEYS.test(key);
}

/** True for nfc's own auto_map, whose module is written anew where it is wanted. */
function isOwn(value: unknown): boolean {
  return isJsonObject(value) && Object.values(value).every((item) => OWN_REFERENCE.test(String(item)));
}
