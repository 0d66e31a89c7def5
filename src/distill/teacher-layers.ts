// Finds the layer of a teacher that each layer of a student came from, by the cuts that nfc.json records.
import { join } from "node:path";
import { z } from "zod";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NFC_RECORD_FILE } from "../checkpoint/nfc-record.ts";
import { parseJsonWith } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import { type LayerMap, listLayers } from "./transfer-match.ts";

/** A cut of layers in nfc.json, as far as it says which layers were kept. */
const layersCutSchema = z
  .looseObject({ from: z.int().positive(), kept: z.array(z.int().nonnegative()).nonempty() })
  .refine(({ from, kept }) => kept.every((layer, i) => layer < (kept[i + 1] ?? from)), "kept must ascend below from");

/**
 * Goes back through the cuts that nfc.json records, until the model had as many layers as the teacher.
 * @throws NfcError "invalid-file" for a record of a cut of layers that says something else
 */
export function findTeacherLayers(
  { config, record, source }: Pick<Checkpoint, "config" | "record" | "source">,
  teacher: ModelConfig,
): LayerMap {
  let [count, layers] = [config.n_layer, listLayers(config.n_layer)];
  if (count === teacher.n_layer) return layers;
  const cuts = (record?.cuts ?? []).filter(({ axis }) => axis === "layers");
  for (const cut of cuts.reverse()) {
    const { from, kept } = parseJsonWith(layersCutSchema, cut, `${join(source, NFC_RECORD_FILE)}: a cut of layers`);
    if (kept.length !== count) return null;
    layers = layers.map((layer) => kept[layer] as number);
    count = from;
    if (count === teacher.n_layer) return layers;
  }
  return null;
}
