// Names the outputs of commands to which none is named. All lie in the current folder.
import { basename, dirname, resolve } from "node:path";
import { isHubReference, parseHubReference } from "../../checkpoint/hub/hub.ts";

const WEIGHTS = /\.safetensors(\.index\.json)?$/;

/**
 * "gpt2-nfc" for gpt2.safetensors, gpt2/, gpt2/model.safetensors or hf://openai-community/gpt2.
 * @throws NfcError "usage" for a malformed hf:// reference
 */
export function nameOutput(source: string, suffix: string): string {
  return `${nameModel(source) || "model"}-${suffix}`;
}

function nameModel(source: string): string {
  if (isHubReference(source)) return basename(parseHubReference(source).name);
  const name = basename(resolve(source));
  if (!WEIGHTS.test(name)) return name;
  const stem = name.replace(WEIGHTS, "");
  const folder = basename(dirname(source));
  // Every folder of a model calls its weights so.
  return stem === "model" && !["", ".", ".."].includes(folder) ? folder : stem;
}
