// Checks the options of the attention cut against one another and against the source.
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";
import { getHeadSize } from "../../model/head-widths.ts";
import { hasDistanceMean, isPlainGpt2, VARIANT_TRAITS } from "../../model/variants.ts";
import type { ConvertOptions } from "../convert-options.ts";
import type { RankChoice } from "./ranks.ts";

/** @throws NfcError "usage" for a rank that the variant or the model does not have, and for a tie where nothing is tied */
export function checkRanks(config: ModelConfig, { variant, strategy, qkRank, voRank }: ConvertOptions): void {
  const { narrow = false, paired = false } = VARIANT_TRAITS[variant];
  if ((narrow || paired) && strategy !== "calibrated" && strategy !== "spectral")
    throw new NfcError(
      "usage",
      `--tie ${strategy} makes one matrix of Q and K, which is not what a ${variant} model has`,
      {
        hint: "leave out --tie, or take --tie spectral or --tie calibrated",
      },
    );
  if (qkRank !== undefined && !narrow)
    throw new NfcError("usage", `--qk-rank is for --variant low-rank: a ${variant} model has no such rank`, {
      hint: "leave out --qk-rank, or take --variant low-rank",
    });
  const size = getHeadSize(config);
  if (voRank !== undefined && isPlainGpt2(variant))
    throw new NfcError("usage", `--vo-rank does not go with --variant ${variant}, whose v is as wide as GPT-2's`, {
      hint: `leave out --vo-rank, or take --variant low-rank (with --qk-rank ${size} only v is cut)`,
    });
  checkRank("--qk-rank", qkRank, config);
  checkRank("--vo-rank", voRank, config);
  if (voRank === size || (typeof voRank === "object" && "share" in voRank && voRank.share === 1))
    throw new NfcError("usage", "--vo-rank of the whole width of the model's heads would save nothing", {
      hint: `leave it out, or take less than ${size}`,
    });
}

function checkRank(flag: string, choice: RankChoice | undefined, config: ModelConfig): void {
  if (choice === undefined) return;
  const size = getHeadSize(config);
  const within = (rank: number) => Number.isInteger(rank) && rank >= 1 && rank <= size;
  const refuse = (fact: string, hint: string) => new NfcError("usage", `${flag} ${fact}`, { hint });
  const range = `take a whole number from 1 to ${size}, the width of the model's heads`;
  if (typeof choice === "number") {
    if (!within(choice)) throw refuse(`${choice} is not from 1 to ${size}`, range);
  } else if ("share" in choice) {
    const percent = formatShare(choice.share);
    if (!(choice.share > 0 && choice.share <= 1)) throw refuse(`${percent} is not above 0 % and up to 100 %`, range);
    if (choice.share * size < 1)
      throw refuse(
        `${percent} of ${size} is less than 1`,
        size === 1 ? "leave it out" : `take at least ${formatShare(Math.ceil(100 / size) / 100)}`,
      );
  } else if (choice.length !== config.n_layer || !choice.every(within))
    throw refuse(`[${choice.join(", ")}] is not a rank from 1 to ${size} for each of ${config.n_layer} layers`, range);
}

function formatShare(share: number): string {
  return `${Number((100 * share).toFixed(2))}%`;
}

/** Whether the attention cut runs the model over the calibration text. */
export function needsText(options: Omit<ConvertOptions, "output">): boolean {
  return needsTieText(options) || options.voRank !== undefined;
}

/** The same of the tie alone. */
export function needsTieText({ strategy, variant }: Pick<ConvertOptions, "strategy" | "variant">): boolean {
  return variant !== "dense" && (strategy === "calibrated" || hasDistanceMean(variant));
}
