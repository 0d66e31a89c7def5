// Says in one line what a cut of nfc.json has taken away.
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { formatRanges } from "../numeric/ranges.ts";
import { listByLayer } from "./attention-words.ts";
import { formatThousands } from "./render/format.ts";

type CutRecord = NonNullable<NfcRecord["cuts"]>[number];

/** One line for a cut; cuts that later versions of nfc may make are named. */
export function describeCut(cut: CutRecord): string {
  const describe = Object.hasOwn(DESCRIBE, cut.axis) ? DESCRIBE[cut.axis] : undefined;
  return describe ? describe(cut) : cut.axis;
}

const DESCRIBE: Readonly<Record<string, (cut: CutRecord) => string>> = {
  layers: ({ from, to, kept, chosen }) =>
    `layers ${show(from)} -> ${show(to)}: ${showRanges(kept)} stay${showChoice(chosen)}`,
  mlp: ({ from, to, chosen, errors }) =>
    `hidden units ${show(from)} -> ${show(to)}${showChoice(chosen)}${showErrors(errors)}`,
  values: ({ strategy, ranks, errors }) =>
    `v of rank ${listRanks(ranks)}, factored by ${strategy === "spectral" ? "spectral" : "calibrated"}${showErrors(errors)}`,
  repair: ({ applied, before, after, heldOut }) =>
    `repair ${applied ? "made" : "not made"}: KL to the source on ${show(heldOut)} held-out tokens ${showNumber(before)} -> ${showNumber(after)}`,
  vocabulary: ({ from, to }) => `vocabulary ${show(from)} -> ${show(to)} tokens`,
};

const HOW_CHOSEN: Readonly<Record<string, string>> = {
  measured: ", chosen on the calibration text",
  spaced: ", evenly spaced",
  weights: ", chosen by their weights",
};

const showChoice = (value: unknown) =>
  typeof value === "string" && Object.hasOwn(HOW_CHOSEN, value) ? HOW_CHOSEN[value] : "";
/** Two digits of what four decimals would hide. */
const showNumber = (value: unknown) =>
  typeof value === "number" ? (Math.abs(value) < 0.001 ? value.toPrecision(2) : value.toFixed(4)) : "?";
const show = (value: unknown) => (typeof value === "number" ? formatThousands(value) : "?");

/** The content comes from nfc.json, which checks no more of a cut than its axis. */
function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "number");
}

/** 0, 1, 3-5 */
function showRanges(layers: unknown): string {
  return isNumbers(layers) ? formatRanges(layers, ", ") : "?";
}

/** 32 where all layers have that rank, else the rank of each. */
function listRanks(ranks: unknown): string {
  return Array.isArray(ranks) ? listByLayer(ranks.map(show)) : "?";
}

/** @param errors by layer, or by layer and head */
function showErrors(errors: unknown): string {
  const numbers = Array.isArray(errors) ? errors.flat() : [];
  if (!isNumbers(numbers)) return "";
  const mean = numbers.reduce((sum, error) => sum + error, 0) / numbers.length;
  const worst = numbers.reduce((most, error) => Math.max(most, error));
  return `, error of their output ${mean.toFixed(3)} (worst ${worst.toFixed(3)})`;
}
