// Lowers the rank of the scores of all layers in the background: the attention cut of the variant low-rank.
import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { deriveCheckpoint } from "../checkpoint/derived.ts";
import type { ModelConfig } from "../model/config.ts";
import { getHeadSize } from "../model/head-widths.ts";
import { findParameterKind } from "../model/parameters.ts";
import type { Calibration } from "./calibration.ts";
import type { Cut, CutTools } from "./cut.ts";
import { runLayers } from "./layer-run.ts";
import { factorScores, narrowScores } from "./low-rank.ts";
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
  const D = getHeadSize(config);
  const text = strategy === "calibrated" ? tools.text : null;
  const isNarrow = (layer: number) => (ranks[layer] as number) < D;
  const work = async (layer: number, run: Calibration | null) => narrowLayer(checkpoint, layer, { ranks, tools, run });
  const { layers, settled } = runLayers(checkpoint, { phase: "factoring", work }, { ...tools, text });
  return {
    model: deriveCheckpoint(checkpoint, config, (name) => {
      const layer = Number(name.split(".")[1]);
      if (findParameterKind(name) !== "attention input" || !isNarrow(layer)) return name;
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

/** Narrows one layer, whose q and k go to the scratch file; gives the error of each head. */
async function narrowLayer(
  checkpoint: Checkpoint,
  layer: number,
  { ranks, tools, run }: { ranks: readonly number[]; tools: CutTools; run: Calibration | null },
): Promise<number[]> {
  const { n_embd, n_head } = checkpoint.config;
  const rank = ranks[layer] as number;
  const statistics = (await run?.inputStatistics(layer)) ?? null;
  if (rank === n_embd / n_head) return Array<number>(n_head).fill(0);
  const { queryMoments = null, keyMoments = null, trust = 1 } = statistics ?? {};
  const projections = await readProjections(checkpoint, layer);
  const input = { n_embd, n_head, ...projections, queryMoments, keyMoments, trust };
  const { weight, bias, errors } = narrowScores(input, factorScores(input), rank);
  await tools.scratch.put(`h.${layer}.attn.c_attn.weight`, weight);
  if (bias) await tools.scratch.put(`h.${layer}.attn.c_attn.bias`, bias);
  return errors;
}
