// A model of a few tokens whose logits are a known function of the last two: its "cache" holds the ids that it has read.
import type { Tensor, Tensors } from "../../src/graph/session.ts";
import { Decoder } from "../../src/inference/generate/decoder.ts";
import type { ModelSession } from "../../src/inference/model-session.ts";
import { makeRandom } from "../../src/numeric/random.ts";
import { tinyModelConfig } from "./make-checkpoint.ts";

export const TABLE_VOCABULARY = 4;

/** Logits after `ids`, between -spread and spread */
export function tableLogits(seed: number, ids: readonly number[], spread = 1.2): number[] {
  const [a = 9, b = 9] = ids.slice(-2);
  const random = makeRandom(seed, 100 * a + b);
  return Array.from({ length: TABLE_VOCABULARY }, () => spread * (2 * random() - 1));
}

/** `runs` collects the ids that each pass was fed, and how many its cache held. */
export function tableDecoder(
  seed: number,
  { positions = 20, runs = [] }: { positions?: number; runs?: { past: number; ids: number[] }[] } = {},
): Decoder {
  const config = tinyModelConfig({ layers: 1, heads: 1, width: 1, positions, vocab: TABLE_VOCABULARY });
  const session: ModelSession = {
    ...{ source: `table ${seed}`, config, hasPositions: true, cacheDtype: "float32", logitsDtype: "float32" },
    async run(feeds: Tensors) {
      const past = Array.from(feeds["past_key_values.0.key"]?.data as Float32Array);
      const fresh = Array.from(feeds.input_ids?.data as BigInt64Array, Number);
      runs.push({ past: past.length, ids: fresh });
      const all = [...past, ...fresh];
      if (all.length > positions) throw new Error(`${all.length} positions, of ${positions}`);
      const logits = fresh.flatMap((_, i) => tableLogits(seed, all.slice(0, past.length + i + 1)));
      const present = { dtype: "float32" as const, data: Float32Array.from(all), shape: [1, 1, all.length, 1] };
      const shape = [1, fresh.length, TABLE_VOCABULARY];
      const outputs: Record<string, Tensor> = { logits: { dtype: "float32", data: Float32Array.from(logits), shape } };
      return { ...outputs, "present.0.key": present, "present.0.value": present };
    },
    async close() {},
  };
  return new Decoder(session);
}
