// A checkpoint with some of the tokens of another: rows of its embedding and of its head, in the old order.
import { countBytes } from "../formats/dtype.ts";
import type { ModelConfig } from "../model/config.ts";
import { type Checkpoint, requireTensor } from "./checkpoint.ts";
import { deriveCheckpoint, type MadeTensor } from "./derived.ts";
import type { KeptIds } from "./kept-ids.ts";
import { mapNamedIds } from "./named-ids.ts";

/** Parameters that have a row for each token. */
const BY_TOKEN = ["wte.weight", "lm_head.weight"];

/** The model that knows the kept tokens alone, and gives its probabilities among them. Memory does not grow with it. */
export function selectTokens(checkpoint: Checkpoint, kept: KeptIds): Checkpoint {
  const map = (id: number) => kept.find(id) ?? id;
  const { bos_token_id, eos_token_id, ...others } = checkpoint.config;
  const config: ModelConfig = { ...others, vocab_size: kept.size };
  for (const [key, id] of Object.entries({ bos_token_id, eos_token_id })) {
    const place = id === undefined ? undefined : kept.find(id);
    if (place !== undefined) config[key as "bos_token_id" | "eos_token_id"] = place;
  }
  const model = deriveCheckpoint(checkpoint, config, ({ name }) =>
    BY_TOKEN.includes(name) ? selectRows(checkpoint, name, kept) : name,
  );
  return { ...model, rawConfig: mapNamedIds(checkpoint.rawConfig, map), selection: kept.format() };
}

/** Rows of a matrix [V, C], as [K, C]. */
function selectRows(checkpoint: Checkpoint, name: string, kept: KeptIds): MadeTensor {
  const { dtype, shape } = requireTensor(checkpoint, name);
  const rowBytes = countBytes(dtype, shape.slice(1));
  return { dtype, chunks: () => streamRows(checkpoint.chunks(name), kept, rowBytes) };
}

/** The bytes of the kept rows among those of all rows, whatever their pieces. */
async function* streamRows(
  chunks: AsyncIterable<Uint8Array>,
  { ids }: KeptIds,
  rowBytes: number,
): AsyncGenerator<Uint8Array> {
  let at = 0; // bytes before the piece
  let next = 0; // the first kept row that has not ended
  for await (const chunk of chunks) {
    const end = at + chunk.byteLength;
    const parts: Uint8Array[] = [];
    for (let id = ids[next]; id !== undefined && id * rowBytes < end; id = ids[next]) {
      const [first, last] = [id * rowBytes, (id + 1) * rowBytes];
      parts.push(chunk.subarray(Math.max(0, first - at), Math.min(last, end) - at));
      if (last > end) break;
      next++;
    }
    if (parts.length > 0) yield Buffer.concat(parts);
    at = end;
  }
}
