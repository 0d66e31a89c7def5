// Checks the options of the attention cut against one another and against the source.
import { NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { getHeadSize } from "../model/head-widths.ts";
import { VARIANT_TRAITS } from "../model/variants.ts";
import type { ConvertOptions } from "./convert-options.ts";

/** @throws NfcError "usage" for a rank that the variant or the model does not have, and for a tie where nothing is tied */
export function checkRanks(config: ModelConfig, { variant, strategy, qkRank }: ConvertOptions): void {
  const { narrow = false } = VARIANT_TRAITS[variant];
  if (narrow && strategy !== "calibrated" && strategy !== "spectral")
    throw new NfcError("usage", `--tie ${strategy} makes one matrix of Q and K, but a ${variant} model keeps both`, {
      hint: "leave out --tie, or take --tie spectral or --tie calibrated",
    });
  if (qkRank === undefined) return;
  if (!narrow)
    throw new NfcError("usage", `--qk-rank is for --variant low-rank: a ${variant} model has no such rank`, {
      hint: "leave out --qk-rank, or take --variant low-rank",
    });
  const size = getHeadSize(config);
  if (qkRank < 1 || qkRank > size)
    throw new NfcError("usage", `--qk-rank ${qkRank} is not from 1 to ${size}, the width of the model's heads`);
}
