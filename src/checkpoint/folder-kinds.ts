// Recognizes folders that hold no single checkpoint: runs with several, adapters, shards of distributed trainers.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";

/** A folder of Hugging Face's Trainer. */
const TRAINER_CHECKPOINT = /^checkpoint-(\d+)$/;
const WEIGHTS = /\.safetensors(\.index\.json)?$/;
/** Folders that are looked into; a run has some tens of checkpoints. */
const MAX_FOLDERS = 1000;

/**
 * Refuses what trainers leave that must be merged before it is a model.
 * @throws NfcError "unsupported" for a PEFT adapter and for the shards of DeepSpeed and PyTorch's distributed checkpoints
 */
export function refuseTrainerFolder(folder: string, names: readonly string[]): void {
  const refuse = (what: string, hint: string): never => {
    throw new NfcError("unsupported", `${folder}: holds ${what}`, { hint });
  };
  const hasModel = names.some((name) => WEIGHTS.test(name) && !name.startsWith("adapter_model"));
  if (hasModel) return;
  if (names.some((name) => /^adapter_(config\.json|model\.)/.test(name)))
    refuse(
      "an adapter (PEFT), not a model",
      "merge it into its base model first (peft: merge_and_unload), then save it",
    );
  if (names.some((name) => /^(zero_to_fp32\.py|global_step\d+|mp_rank_\d+_model_states\.pt)$/.test(name)))
    refuse("shards of DeepSpeed", "merge them first: python zero_to_fp32.py FOLDER OUTPUT --safe_serialization");
  if (names.some((name) => /^pytorch_model_fsdp_\d+$|\.distcp$/.test(name)))
    refuse("shards of PyTorch's distributed checkpoints", "merge them first: accelerate merge-weights FOLDER OUTPUT");
}

/** The folders below `folder` that hold weights, the Trainer's in the order of their steps, and those of a Hub cache. */
export async function findInnerCheckpoints(folder: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names.slice(0, MAX_FOLDERS)) {
    const inner = await listNames(join(folder, name));
    if (TRAINER_CHECKPOINT.test(name) ? inner.length > 0 : inner.some((each) => WEIGHTS.test(each))) found.push(name);
    if (name !== "snapshots") continue;
    for (const commit of inner.slice(0, MAX_FOLDERS))
      if ((await listNames(join(folder, name, commit))).some((each) => WEIGHTS.test(each)))
        found.push(join(name, commit));
  }
  const step = (name: string) => Number(TRAINER_CHECKPOINT.exec(name)?.[1] ?? -1);
  return found.sort((a, b) => step(a) - step(b) || (a < b ? -1 : 1));
}

/** The names in a folder; none where it is a file, or may not be read, which is no fault here. */
function listNames(path: string): Promise<string[]> {
  return readdir(path).catch(() => []);
}
