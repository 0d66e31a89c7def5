// Makes attention smaller: ties Q and K, or lowers the rank of its scores; then lowers the rank of its values.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { getDefaultRank } from "../model/head-widths.ts";
import { VARIANT_TRAITS } from "../model/variants.ts";
import type { Cut, CutTools } from "./cut.ts";
import { type FactorStrategy, lowerRanks } from "./low-rank-layers.ts";
import { type TieSettings, tieLayers } from "./tie-layers.ts";
import { lowerValueRanks } from "./value-layers.ts";

/** Numbers of each head: the same in all layers, or one entry a layer. */
export type Ranks = number | readonly number[];

export interface AttentionSettings extends TieSettings {
  /** Numbers of q and of k in each head of a variant that may have fewer than D: D/2 unless given. */
  qkRank?: Ranks | undefined;
  /** Numbers of v in each head: D unless given. */
  voRank?: Ranks | undefined;
}

export function cutAttention(checkpoint: Checkpoint, settings: AttentionSettings, tools: CutTools): Cut {
  const scores = cutScores(checkpoint, settings, tools);
  if (settings.voRank === undefined) return scores;
  const ranks = spreadRanks(settings.voRank, checkpoint.config.n_layer);
  const values = lowerValueRanks(scores.model, { ranks }, tools);
  return {
    model: values.model,
    async finish() {
      const facts = [scores.finish(), values.finish()];
      await Promise.allSettled(facts); // so that nothing is in the making any more, whichever failed
      return Object.assign({}, ...(await Promise.all(facts)));
    },
  };
}

function cutScores(checkpoint: Checkpoint, settings: AttentionSettings, tools: CutTools): Cut {
  const { variant, strategy } = settings;
  if (!VARIANT_TRAITS[variant].narrow) return tieLayers(checkpoint, settings, tools);
  const { config } = checkpoint;
  const ranks = spreadRanks(settings.qkRank ?? getDefaultRank(config), config.n_layer);
  return lowerRanks(checkpoint, { strategy: strategy as FactorStrategy, ranks }, tools);
}

function spreadRanks(ranks: Ranks, layers: number): readonly number[] {
  return typeof ranks === "number" ? Array<number>(layers).fill(ranks) : ranks;
}
