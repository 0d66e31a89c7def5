// What an exported model is fed at each step: padded prompts, attention mask, positions and the KV cache.
import { int64Tensor, type Tensor } from "../graph/session.ts";
import type { ModelConfig } from "../model/config.ts";

type Feeds = Record<string, Tensor>;

/** The first step: prompts padded on the left, mask 0 on padding, positions counted from each prompt's first token. */
export function promptFeeds(prompts: readonly (readonly number[])[], config: ModelConfig, padId = 0): Feeds {
  const length = Math.max(...prompts.map((prompt) => prompt.length));
  const pads = prompts.map((prompt) => length - prompt.length);
  const grid = (cell: (row: number, column: number) => number) => {
    const cells = prompts.flatMap((_, row) => Array.from({ length }, (__, column) => cell(row, column)));
    return int64Tensor(cells, [prompts.length, length]);
  };
  return {
    input_ids: grid((row, column) => prompts[row]?.[column - (pads[row] as number)] ?? padId),
    attention_mask: grid((row, column) => (column < (pads[row] as number) ? 0 : 1)),
    position_ids: grid((row, column) => Math.max(0, column - (pads[row] as number))),
    ...emptyCache(prompts.length, config),
  };
}

/** past_key_values of length 0: [B, H, 0, D] each. */
function emptyCache(batch: number, config: ModelConfig): Feeds {
  const shape = [batch, config.n_head, 0, config.n_embd / config.n_head];
  const cache: Feeds = {};
  for (let layer = 0; layer < config.n_layer; layer++)
    for (const part of ["key", "value"])
      cache[`past_key_values.${layer}.${part}`] = { dtype: "float32", data: new Float32Array(0), shape };
  return cache;
}

/** The present tensors of one step as the past of the next. */
export function cacheOf(outputs: Feeds): Feeds {
  const present = Object.entries(outputs).filter(([name]) => name.startsWith("present."));
  return Object.fromEntries(present.map(([name, tensor]) => [name.replace("present.", "past_key_values."), tensor]));
}

/** The step after `feeds`: each row continues with `ids[row]` (all of one length), its cache given. */
export function stepFeeds(feeds: Feeds, ids: readonly (readonly number[])[], cache: Feeds): Feeds {
  const count = ids[0]?.length as number;
  const rowsOf = ({ data, shape }: Tensor) => {
    const width = shape[1] as number;
    return ids.map((_, row) => Array.from({ length: width }, (__, column) => Number(data[row * width + column])));
  };
  const mask = rowsOf(feeds.attention_mask as Tensor).map((row) => [...row, ...Array<number>(count).fill(1)]);
  const positions = rowsOf(feeds.position_ids as Tensor).map((row) =>
    ids[0]?.map((_, i) => (row.at(-1) as number) + 1 + i),
  );
  return {
    input_ids: int64Tensor(ids.flat(), [ids.length, count]),
    attention_mask: int64Tensor(mask.flat(), [ids.length, mask[0]?.length as number]),
    position_ids: int64Tensor(positions.flat() as number[], [ids.length, count]),
    ...cache,
  };
}
