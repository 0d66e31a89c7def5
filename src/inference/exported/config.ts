// Makes the configuration of an exported model from config.json alone, since an ONNX file shows no more than sizes.

import { checkHeads, completeConfig, type ParsedConfig, requireSize, type Size } from "../../checkpoint/config-file.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { resolveTokenIds } from "../../checkpoint/token-ids.ts";
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";

/**
 * The configuration that config.json states, and GPT-2's defaults for what it leaves out. `n_inner`, `activation` and
 * `bias` describe the inside of the graph, which is run as it is.
 * @throws NfcError "invalid-file" for a size that is missing, "mismatch" where nfc.json names another variant
 */
export function resolveExportedConfig(parsed: ParsedConfig, record: NfcRecord | null): ModelConfig {
  const { file, variant } = parsed;
  const size = (key: Size) => requireSize(parsed, key, `add the ${key} of the model`);
  const sizes = {
    ...{ n_layer: size("n_layer"), n_head: size("n_head"), n_embd: size("n_embd") },
    ...{ n_positions: size("n_positions"), vocab_size: size("vocab_size") },
  };
  checkHeads(parsed, sizes, "correct n_head or n_embd");
  if (record && variant !== undefined && record.variant !== variant)
    throw new NfcError("mismatch", `${file}: the variant is ${variant}, but nfc.json says ${record.variant}`, {
      hint: "files of different models are mixed in one folder: restore the set that belongs together",
    });
  return completeConfig(parsed, sizes, {
    ...(record && { variant: record.variant }),
    ...resolveTokenIds(parsed, sizes.vocab_size, []),
  });
}
