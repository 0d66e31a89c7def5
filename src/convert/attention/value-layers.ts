// Lowers the rank of v and c_proj of all layers in the background: a cut that goes with every form of the scores.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor } from "../../checkpoint/derived.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countAttentionColumns } from "../../model/head-widths.ts";
import type { Cut, CutTools } from "../cut.ts";
import type { LayerStatistics } from "../statistics/calibration.ts";
import { isNarrow, narrowLayers } from "./narrow-layers.ts";
import { factorValues, narrowValues, type ValueLayer } from "./narrow-values.ts";
import { makeValueTensor } from "./tied-attention.ts";

/** What a narrower v changes in a layer. */
const NAMES = ["attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias"];

export interface ValueSettings {
  /** Numbers of v in each head, one entry a layer; a layer of rank D is left as it is. */
  ranks: readonly number[];
}

/**
 * The model with v of every head narrowed (the mathematics: `factor-form.ts`, `narrow-values.ts`), in the metric of the
 * text where there is one.
 * @param checkpoint of any form but GPT-2's own, whose v has D numbers a head
 */
export function lowerValueRanks(checkpoint: Checkpoint, { ranks }: ValueSettings, tools: CutTools): Cut {
  const config: ModelConfig = { ...checkpoint.config, vo_ranks: [...ranks] };
  const narrow = async (layer: number, rank: number, statistics: LayerStatistics | null) => {
    const input = await readValueLayer(checkpoint, layer, statistics);
    const { weight, bias, outWeight, outBias, errors } = narrowValues(input, factorValues(input), rank);
    for (const [at, values] of [weight, bias, outWeight, outBias].entries())
      if (values) await tools.scratch.put(nameScratch(`h.${layer}.${NAMES[at]}`), values);
    return errors;
  };
  const { layers, settled } = narrowLayers(checkpoint, { phase: "factoring values", ranks, narrow }, tools);
  return {
    model: deriveCheckpoint(checkpoint, config, ({ name, layer }) => {
      const isMade = NAMES.some((made) => name === `h.${layer}.${made}`);
      if (layer === null || !isMade || !isNarrow(config, ranks, layer)) return name;
      const read = async () => {
        await layers[layer];
        return tools.scratch.read(nameScratch(name));
      };
      const tensor = requireTensor(checkpoint, name);
      if (!name.includes(".c_attn.")) return makeTensor(tools.dtype ?? tensor.dtype, read);
      const kept = countScoreColumns(checkpoint.config, layer);
      return makeValueTensor(checkpoint, tensor, { kept, readV: read, dtype: tools.dtype });
    }),
    async finish() {
      await settled;
      const strategy = tools.text ? "calibrated" : "spectral";
      const calibration = tools.text?.record ?? null;
      return { cuts: [{ axis: "values", strategy, calibration, ranks, errors: await Promise.all(layers) }] };
    },
  };
}

/** The scratch file holds the scores under the tensor's own name. */
function nameScratch(name: string): string {
  return `values of ${name}`;
}

/** Columns of c_attn before those of v. */
function countScoreColumns(config: ModelConfig, layer: number): number {
  return countAttentionColumns(config, layer) - config.n_embd;
}

/** V, the last C columns of c_attn, and c_proj of one layer, and the moments of its mixed values where there is a text. */
export async function readValueLayer(
  checkpoint: Checkpoint,
  layer: number,
  statistics: LayerStatistics | null,
): Promise<ValueLayer> {
  const { config } = checkpoint;
  const { n_embd: C, n_head } = config;
  const read = (name: string) => checkpoint.readF32(`h.${layer}.attn.${name}`);
  const width = countAttentionColumns(config, layer);
  const weight = await read("c_attn.weight");
  const vWeight = new Float32Array(C * C);
  for (let row = 0; row < C; row++) vWeight.set(weight.subarray((row + 1) * width - C, (row + 1) * width), row * C);
  return {
    ...{ n_embd: C, n_head },
    vWeight,
    vBias: config.bias ? (await read("c_attn.bias")).slice(width - C) : null,
    outWeight: await read("c_proj.weight"),
    outBias: config.bias ? await read("c_proj.bias") : null,
    mixed: statistics && { moments: statistics.mixedMoments, means: statistics.mixedMeans },
    trust: statistics?.trust ?? 1,
  };
}
