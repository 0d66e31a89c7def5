// Checks the options of the attention cut against one another and against the source.
import { NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { getHeadSize } from "../model/head-widths.ts";
import { hasDistanceMean, VARIANT_TRAITS } from "../model/variants.ts";
import type { ConvertOptions } from "./convert-options.ts";

/** @throws NfcError "usage" for a rank that the variant or the model does not have, and for a tie where nothing is tied */
export function checkRanks(config: ModelConfig, { variant, strategy, qkRank, voRank }: ConvertOptions): void {
  const { narrow = false } = VARIANT_TRAITS[variant];
  if (narrow && strategy !== "calibrated" && strategy !== "spectral")
    throw new NfcError("usage", `--tie ${strategy} makes one matrix of Q and K, but a ${variant} model keeps both`, {
      hint: "leave out --tie, or take --tie spectral or --tie calibrated",
    });
  if (qkRank !== undefined && !narrow)
    throw new NfcError("usage", `--qk-rank is for --variant low-rank: a ${variant} model has no such rank`, {
      hint: "leave out --qk-rank, or take --variant low-rank",
    });
  const size = getHeadSize(config);
  checkRank("--qk-rank", qkRank, size);
  checkRank("--vo-rank", voRank, size);
  if (voRank === size)
    throw new NfcError("usage", `--vo-rank ${voRank} is the whole width of the model's heads: it would save nothing`, {
      hint: "leave it out, or take less",
    });
}

function checkRank(flag: string, rank: number | undefined, size: number): void {
  if (rank !== undefined && (rank < 1 || rank > size))
    throw new NfcError("usage", `${flag} ${rank} is not from 1 to ${size}, the width of the model's heads`);
}

/** Whether the attention cut runs the model over the calibration text. */
export function needsText({ strategy, variant, voRank }: ConvertOptions): boolean {
  return strategy === "calibrated" || hasDistanceMean(variant) || voRank !== undefined;
}
