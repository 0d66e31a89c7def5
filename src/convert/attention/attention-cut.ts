// Makes attention smaller: ties Q and K, or lowers the rank of its scores; then lowers the rank of its values.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { settleAll } from "../../io/settle.ts";
import type { ModelConfig } from "../../model/config.ts";
import { getDefaultRank, getHeadSize } from "../../model/head-widths.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import type { Cut, CutTools } from "../cut.ts";
import { type FactorStrategy, lowerRanks } from "./low-rank-layers.ts";
import { allocateRanks, type RankChoice, type RankSpectrum } from "./ranks.ts";
import { type LayerSpectra, measureSpectra } from "./spectra.ts";
import { type TieSettings, tieLayers } from "./tie-layers.ts";
import { lowerValueRanks } from "./value-layers.ts";

export interface AttentionSettings extends TieSettings {
  /** Numbers of q and of k in each head of a variant that may have fewer than D: D/2 unless given. */
  qkRank?: RankChoice | undefined;
  /** Numbers of v in each head: D unless given. */
  voRank?: RankChoice | undefined;
}

/** @throws NfcError as `measureSpectra`, where ranks are shared out */
export async function cutAttention(checkpoint: Checkpoint, settings: AttentionSettings, tools: CutTools): Promise<Cut> {
  const { config } = checkpoint;
  const { variant, strategy, qkRank, voRank } = settings;
  const shared = [qkRank, voRank].some((choice) => typeof choice === "object" && "share" in choice);
  const spectra = shared ? await measureSpectra(checkpoint, tools) : null;
  const resolve = (choice: RankChoice, part: keyof LayerSpectra) =>
    resolveRanks(choice, config, spectra?.map((layer) => layer[part]) ?? []);
  const scores = VARIANT_TRAITS[variant].narrow
    ? lowerRanks(
        checkpoint,
        { strategy: strategy as FactorStrategy, ranks: resolve(qkRank ?? getDefaultRank(config), "scores") },
        tools,
      )
    : tieLayers(checkpoint, settings, tools);
  if (voRank === undefined) return scores;
  const values = lowerValueRanks(scores.model, { ranks: resolve(voRank, "values") }, tools);
  return {
    model: values.model,
    async finish() {
      return Object.assign({}, ...(await settleAll([scores.finish(), values.finish()])));
    },
  };
}

/** One rank a layer. A share of D is shared out by `allocateRanks`. */
function resolveRanks(choice: RankChoice, config: ModelConfig, spectra: readonly RankSpectrum[]): readonly number[] {
  if (typeof choice === "number") return Array<number>(config.n_layer).fill(choice);
  if (!("share" in choice)) return choice;
  const whole = spectra.reduce((sum, { parameters }) => sum + parameters, 0) * getHeadSize(config);
  return allocateRanks(spectra, Math.round(choice.share * whole));
}
