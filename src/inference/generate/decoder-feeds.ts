// Makes the inputs of an exported model at each step: padded prompts, attention mask, positions and the KV cache.
import type { Tensor, Tensors } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { listCacheParts } from "../../model/head-widths.ts";

type Feeds = Record<string, Tensor>;
export type CacheDtype = "float32" | "float16";

/** The position of padding in transformers and transformers.js: what it computes moves the scales of int8 products. */
const PADDED_POSITION = 1;

/** The first step: prompts padded on the left, mask 0 on padding, positions counted from each prompt's first token. */
export function makePromptFeeds(
  prompts: readonly (readonly number[])[],
  config: ModelConfig,
  { padId = 0, cacheDtype = "float32" }: { padId?: number; cacheDtype?: CacheDtype } = {},
): Feeds {
  const { ids, pads } = padLeft(prompts, padId);
  return { ...makeIdFeeds(ids, pads, 0), ...makeEmptyCache(prompts.length, config, cacheDtype) };
}

/** Prompts as rows of one length, and the number of padding ids at the start of each. */
export function padLeft(prompts: readonly (readonly number[])[], padId = 0): { ids: number[][]; pads: number[] } {
  const length = Math.max(...prompts.map((prompt) => prompt.length));
  const pads = prompts.map((prompt) => length - prompt.length);
  return { ids: prompts.map((prompt, row) => [...Array<number>(pads[row] as number).fill(padId), ...prompt]), pads };
}

/** T new ids a row, after `past` positions in the cache; the first pads[row] of all past + T positions are padding. */
export function makeIdFeeds(ids: readonly (readonly number[])[], pads: readonly number[], past: number): Feeds {
  const [batch, count] = [ids.length, ids[0]?.length as number];
  const total = past + count;
  const inputs = new BigInt64Array(batch * count);
  const positions = new BigInt64Array(batch * count);
  const mask = new BigInt64Array(batch * total).fill(1n);
  for (const [row, values] of ids.entries()) {
    const pad = pads[row] as number;
    mask.fill(0n, row * total, row * total + Math.min(pad, total));
    for (let i = 0; i < count; i++) {
      inputs[row * count + i] = BigInt(values[i] as number);
      positions[row * count + i] = BigInt(past + i < pad ? PADDED_POSITION : past + i - pad);
    }
  }
  return {
    input_ids: { dtype: "int64", data: inputs, shape: [batch, count] },
    attention_mask: { dtype: "int64", data: mask, shape: [batch, total] },
    position_ids: { dtype: "int64", data: positions, shape: [batch, count] },
  };
}

/** past_key_values of length 0: [B, H, 0, D] each, D as `listCacheParts` gives it. */
export function makeEmptyCache(batch: number, config: ModelConfig, dtype: CacheDtype): Feeds {
  const data = dtype === "float16" ? new Uint16Array(0) : new Float32Array(0);
  const cache: Feeds = {};
  for (let layer = 0; layer < config.n_layer; layer++) {
    for (const { part, width } of listCacheParts(config, layer))
      cache[`past_key_values.${layer}.${part}`] = { dtype, data, shape: [batch, config.n_head, 0, width] };
  }
  return cache;
}

/** The present tensors of one step as the past of the next. */
export function takeCache(outputs: Tensors): Feeds {
  const present = Object.entries(outputs).filter(([name]) => name.startsWith("present."));
  return Object.fromEntries(present.map(([name, tensor]) => [name.replace("present.", "past_key_values."), tensor]));
}

/** The step after `feeds`: each row continues with `ids[row]` (all of one length), its cache given. */
export function makeStepFeeds(feeds: Feeds, ids: readonly (readonly number[])[], cache: Feeds): Feeds {
  const { data, shape } = feeds.attention_mask as Tensor;
  const past = shape[1] as number;
  const pads = ids.map((_, row) => (data as BigInt64Array).indexOf(1n, row * past) - row * past);
  return { ...makeIdFeeds(ids, pads, past), ...cache };
}
