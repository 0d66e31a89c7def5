// Lowers the rank of the scores of all layers in the background: the attention cut of the variant low-rank.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint } from "../../checkpoint/derived.ts";
import type { ModelConfig } from "../../model/config.ts";
import { findParameterKind } from "../../model/parameters.ts";
import type { Cut, CutTools } from "../cut.ts";
import type { LayerStatistics } from "../statistics/calibration.ts";
import { factorScores, narrowScores, type ScoreLayer } from "./low-rank.ts";
import { isNarrow, narrowLayers } from "./narrow-layers.ts";
import { makeTiedTensor, readProjections } from "./tied-attention.ts";

/** How the metric of a factoring is found: from text, or all inputs alike. */
export type FactorStrategy = "calibrated" | "spectral";

export interface LowRankSettings {
  strategy: FactorStrategy;
  /** Numbers of q and of k in each head, one entry a layer; a layer of rank D is left as it is. */
  ranks: readonly number[];
}

/** The model with q and k of every head narrowed (the mathematics: `factor-form.ts`, `low-rank.ts`). */
export function lowerRanks(checkpoint: Checkpoint, { strategy, ranks }: LowRankSettings, tools: CutTools): Cut {
  const config: ModelConfig = { ...checkpoint.config, variant: "low-rank", qk_ranks: [...ranks] };
  const text = strategy === "calibrated" ? tools.text : null;
  const narrow = async (layer: number, rank: number, statistics: LayerStatistics | null) => {
    const input = await readScoreLayer(checkpoint, layer, statistics);
    const { weight, bias, errors } = narrowScores(input, factorScores(input), rank);
    await tools.scratch.put(`h.${layer}.attn.c_attn.weight`, weight);
    if (bias) await tools.scratch.put(`h.${layer}.attn.c_attn.bias`, bias);
    return errors;
  };
  const { layers, settled } = narrowLayers(checkpoint, { phase: "factoring", ranks, narrow }, { ...tools, text });
  return {
    model: deriveCheckpoint(checkpoint, config, ({ name, layer }) => {
      const isInput = findParameterKind(name) === "attention input";
      if (layer === null || !isInput || !isNarrow(config, ranks, layer)) return name;
      const read = async () => {
        await layers[layer];
        return tools.scratch.read(name);
      };
      return makeTiedTensor(checkpoint, requireTensor(checkpoint, name), read, tools.dtype);
    }),
    async finish() {
      await settled;
      return { tie: { strategy, calibration: text?.record ?? null, errors: await Promise.all(layers) } };
    },
  };
}

/** Q and K of one layer, and their moments where there is a text. */
export async function readScoreLayer(
  checkpoint: Checkpoint,
  layer: number,
  statistics: LayerStatistics | null,
): Promise<ScoreLayer> {
  const { n_embd, n_head } = checkpoint.config;
  const { queryMoments = null, keyMoments = null, trust = 1 } = statistics ?? {};
  return { n_embd, n_head, ...(await readProjections(checkpoint, layer)), queryMoments, keyMoments, trust };
}
