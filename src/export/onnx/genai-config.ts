// Makes genai_config.json, from which onnxruntime-genai learns the names and sizes of an exported graph.
import type { ModelConfig } from "../../model/config.ts";
import { listCacheParts } from "../../model/head-widths.ts";

/** Lies at the folder's root; `filename` is resolved from there. */
export const GENAI_CONFIG_FILE = "genai_config.json";

/**
 * The width of all keys and values, which genai_config.json states once, as head_size; null where they differ: by layer,
 * or keys from values.
 */
export function findCacheWidth(config: ModelConfig): number | null {
  const all = Array.from({ length: config.n_layer }, (_, layer) => listCacheParts(config, layer)).flat();
  const widths = new Set(all.map(({ width }) => width));
  const [width = null] = widths.size === 1 ? widths : [];
  return width;
}

/**
 * The configuration for one of the folder's graphs; null where the cache has several widths (`findCacheWidth`). The type is "decoder": genai's "gpt2" means another cache, of one
 * tensor a layer. The cache grows by Concat, so past and present must not share a buffer.
 * @param file the graph, below the folder
 * @param tokens all end tokens (the model's one unless given), and the padding of config.json (the first end token)
 */
export function makeGenaiConfig(
  config: ModelConfig,
  file: string,
  tokens: { end?: readonly number[]; pad?: number | undefined } = {},
): Record<string, unknown> | null {
  const head_size = findCacheWidth(config);
  if (head_size === null) return null;
  const { n_embd, n_head, n_layer, n_positions, vocab_size, bos_token_id, eos_token_id } = config;
  const end = tokens.end ?? (eos_token_id === undefined ? [] : [eos_token_id]);
  return {
    model: {
      type: "decoder",
      vocab_size,
      context_length: n_positions,
      ...(bos_token_id !== undefined && { bos_token_id }),
      ...(end.length > 0 && { eos_token_id: end.length > 1 ? end : end[0], pad_token_id: tokens.pad ?? end[0] }),
      decoder: {
        filename: file,
        session_options: { log_id: "onnxruntime-genai", provider_options: [] },
        hidden_size: n_embd,
        head_size,
        num_attention_heads: n_head,
        num_key_value_heads: n_head,
        num_hidden_layers: n_layer,
        inputs: {
          input_ids: "input_ids",
          attention_mask: "attention_mask",
          position_ids: "position_ids",
          past_key_names: "past_key_values.%d.key",
          past_value_names: "past_key_values.%d.value",
        },
        outputs: {
          logits: "logits",
          present_key_names: "present.%d.key",
          present_value_names: "present.%d.value",
        },
      },
    },
    search: { max_length: n_positions, do_sample: false, num_beams: 1, past_present_share_buffer: false },
  };
}
