// Says in one line what a cut of nfc.json has taken away.
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { formatThousands } from "./render/format.ts";

type CutRecord = NonNullable<NfcRecord["cuts"]>[number];

/** One line for a cut; cuts that later versions of nfc may make are named. */
export function describeCut(cut: CutRecord): string {
  return (DESCRIBE[cut.axis] ?? (({ axis }) => axis))(cut);
}

const DESCRIBE: Readonly<Record<string, (cut: CutRecord) => string>> = {
  layers: ({ from, to, kept, chosen }) =>
    `layers ${show(from)} -> ${show(to)}: ${listRanges(kept)} stay${HOW_CHOSEN[String(chosen)] ?? ""}`,
  mlp: ({ from, to, chosen, errors }) =>
    `hidden units ${show(from)} -> ${show(to)}${HOW_CHOSEN[String(chosen)] ?? ""}${showErrors(errors)}`,
  values: ({ strategy, ranks, errors }) =>
    `v of rank ${listRanks(ranks)}, factored by ${show(strategy)}${showErrors(errors)}`,
  repair: ({ applied, before, after, heldOut }) =>
    `repair ${applied ? "made" : "not made"}: KL to the source on ${show(heldOut)} held-out tokens ${showNumber(before)} -> ${showNumber(after)}`,
  vocabulary: ({ from, to }) => `vocabulary ${show(from)} -> ${show(to)} tokens`,
};

const HOW_CHOSEN: Readonly<Record<string, string>> = {
  measured: ", chosen on the calibration text",
  spaced: ", evenly spaced",
  weights: ", chosen by their weights",
};

/** Two digits of what four decimals would hide. */
const showNumber = (value: unknown) =>
  typeof value === "number" ? (Math.abs(value) < 0.001 ? value.toPrecision(2) : value.toFixed(4)) : "?";
const show = (value: unknown) =>
  typeof value === "number" ? formatThousands(value) : typeof value === "string" ? value : "?";

/** 0, 1, 3-5 */
function listRanges(layers: unknown): string {
  if (!Array.isArray(layers)) return "?";
  const ranges: [number, number][] = [];
  for (const layer of layers as number[]) {
    const last = ranges.at(-1);
    if (last && layer === last[1] + 1) last[1] = layer;
    else ranges.push([layer, layer]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}

/** 32 where all layers have that rank, else the rank of each. */
function listRanks(ranks: unknown): string {
  if (!Array.isArray(ranks)) return "?";
  return new Set(ranks).size === 1 ? show(ranks[0]) : ranks.map(show).join(", ");
}

/** @param errors by layer, or by layer and head */
function showErrors(errors: unknown): string {
  if (!Array.isArray(errors) || errors.length === 0) return "";
  const numbers = errors.flat() as number[];
  const mean = numbers.reduce((sum, error) => sum + error, 0) / numbers.length;
  return `, error of their output ${mean.toFixed(3)} (worst ${Math.max(...numbers).toFixed(3)})`;
}
