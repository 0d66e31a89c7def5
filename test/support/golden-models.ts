// The reference implementation's models (../shared/golden) as checkpoints on disk, with their ids and logits.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import type { Variant } from "../../src/model/variants.ts";
import { SHARED } from "./fixture.ts";
import { type RawTensor, tinyHfConfig, writeCheckpoint } from "./make-checkpoint.ts";

export const GOLDEN = join(SHARED, "golden");

export interface GoldenModel {
  folder: string;
  /** [B][T] */
  ids: Int32Array[];
  /** PyTorch's at the mean of the noise: [B·T, V] */
  logits: Float32Array;
}

/** Writes the model of a variant below `folder`. */
export async function goldenModel(variant: Variant, folder: string): Promise<GoldenModel> {
  const reader = await openSafetensors(join(GOLDEN, `${variant}.safetensors`));
  const { config } = JSON.parse(await readFile(join(GOLDEN, `${variant}.json`), "utf8"));
  const { n_layer, n_head, n_embd, n_positions, vocab_size } = config;
  const tensors: RawTensor[] = [];
  for (const { name, dtype, shape } of reader.tensors.values())
    if (name.startsWith("param."))
      tensors.push({ name: name.slice("param.".length), dtype, shape, bytes: await reader.readBytes(name) });
  const raw = { ...tinyHfConfig({ variant }), n_layer, n_head, n_embd, n_positions, vocab_size };
  await writeCheckpoint(folder, { tensors, config: raw });
  const bytes = await reader.readBytes("ids");
  const ids = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const [batch = 0] = reader.tensors.get("ids")?.shape ?? [];
  const length = ids.length / batch;
  const logits = await reader.readF32("mean_logits");
  await reader.close();
  return { folder, ids: Array.from({ length: batch }, (_, b) => ids.slice(b * length, (b + 1) * length)), logits };
}

/** The largest absolute difference; NaN anywhere gives NaN. */
export function worstOf(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);
}
