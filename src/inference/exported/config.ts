// The configuration of an exported model: config.json alone, since an ONNX file shows no more than sizes.

import type { ParsedConfig } from "../../checkpoint/config-file.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";

type Size = "n_layer" | "n_head" | "n_embd" | "n_positions" | "vocab_size";

/**
 * What config.json leaves out gets GPT-2's default. `n_inner`, `activation` and `bias` describe what is inside the
 * graph, which is run as it is.
 * @throws NfcError "invalid-file" for a size that is missing, "mismatch" where nfc.json names another variant
 */
export function resolveExportedConfig(parsed: ParsedConfig, record: NfcRecord | null): ModelConfig {
  const { file, n_inner, tie_word_embeddings, activation = "gelu_tanh", variant } = parsed;
  const size = (key: Size): number => {
    const value = parsed[key];
    if (value !== undefined) return value;
    throw new NfcError("invalid-file", `${file}: ${key} is missing`, { hint: `add the ${key} of the model` });
  };
  const sizes = {
    ...{ n_layer: size("n_layer"), n_head: size("n_head"), n_embd: size("n_embd") },
    ...{ n_positions: size("n_positions"), vocab_size: size("vocab_size") },
  };
  const { n_head, n_embd, vocab_size } = sizes;
  if (n_embd % n_head !== 0)
    throw new NfcError("invalid-file", `${file}: n_embd ${n_embd} is not divisible by n_head ${n_head}`, {
      hint: "correct n_head or n_embd",
    });
  if (record && variant !== undefined && record.variant !== variant)
    throw new NfcError("mismatch", `${file}: the variant is ${variant}, but nfc.json says ${record.variant}`, {
      hint: "files of different models are mixed in one folder: restore the set that belongs together",
    });
  const ids = { bos_token_id: parsed.bos_token_id, eos_token_id: parsed.eos_token_id };
  const known = Object.entries(ids).filter(([, id]) => id !== undefined && id < vocab_size);
  return {
    ...sizes,
    n_inner: n_inner ?? 4 * n_embd,
    layer_norm_epsilon: parsed.layer_norm_epsilon,
    activation,
    scale_attn_weights: parsed.scale_attn_weights,
    scale_attn_by_inverse_layer_idx: parsed.scale_attn_by_inverse_layer_idx,
    tied_head: tie_word_embeddings ?? true,
    bias: true,
    variant: record?.variant ?? variant ?? "dense",
    ...Object.fromEntries(known),
  };
}
