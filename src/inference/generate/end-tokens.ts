// Reads the tokens at which a model's text ends: generation_config.json's, else config.json's; one or several.
import { join } from "node:path";
import { readCompanionJson } from "../../checkpoint/companion-files.ts";
import { CONFIG_FILE, GENERATION_FILE } from "../../checkpoint/config-file.ts";
import { FieldReader } from "../../checkpoint/fields.ts";
import type { ModelConfig } from "../../model/config.ts";

const MAX_BYTES = 2 ** 20;

export interface EndTokenSource {
  /** The folder in which generation_config.json may lie. */
  folder: string | null;
  config: ModelConfig;
  rawConfig: Record<string, unknown>;
}

/** @throws NfcError "invalid-file" when eos_token_id is neither an id nor a list of ids */
export async function readEndTokens({ folder, config, rawConfig }: EndTokenSource): Promise<number[]> {
  const generation =
    folder === null ? undefined : await readCompanionJson(folder, GENERATION_FILE, { maxBytes: MAX_BYTES });
  const own = generation === undefined ? null : new FieldReader(generation, join(folder ?? "", GENERATION_FILE));
  const fields = own?.has("eos_token_id") ? own : new FieldReader(rawConfig, join(folder ?? "", CONFIG_FILE));
  const value = fields.value("eos_token_id") ?? config.eos_token_id ?? [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  if (!ids.every((id): id is number => Number.isSafeInteger(id)))
    throw fields.wrong("eos_token_id", "a token id or a list of them");
  return ids;
}
