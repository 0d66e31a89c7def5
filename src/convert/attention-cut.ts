// Makes attention smaller: ties Q and K, or lowers the rank of its scores.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { getDefaultRank } from "../model/head-widths.ts";
import { VARIANT_TRAITS } from "../model/variants.ts";
import type { Cut, CutTools } from "./cut.ts";
import { type FactorStrategy, lowerRanks } from "./low-rank-layers.ts";
import { type TieSettings, tieLayers } from "./tie-layers.ts";

export interface AttentionSettings extends TieSettings {
  /** Numbers of q and of k in each head of a variant that may have fewer than D: D/2 unless given. */
  qkRank?: number | undefined;
}

export function cutAttention(checkpoint: Checkpoint, settings: AttentionSettings, tools: CutTools): Cut {
  if (!VARIANT_TRAITS[settings.variant].narrow) return tieLayers(checkpoint, settings, tools);
  const { config } = checkpoint;
  const { qkRank = getDefaultRank(config) } = settings;
  const ranks = Array<number>(config.n_layer).fill(qkRank);
  return lowerRanks(checkpoint, { strategy: settings.strategy as FactorStrategy, ranks }, tools);
}
