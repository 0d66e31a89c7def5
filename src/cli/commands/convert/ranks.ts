// The ranks of attention on the command line of convert, and in what it prints.
import { InvalidArgumentError } from "commander";
import type { RankChoice } from "../../../convert/ranks.ts";
import type { ModelConfig } from "../../../model/config.ts";
import { readPercent } from "../../percent.ts";

/** A number, such as 32, or a percentage of a head's width that layers have on average, such as 50%. */
export function parseRank(text: string): RankChoice {
  const percent = readPercent(text);
  if (percent !== null) return { share: percent / 100 };
  if (/^\s*\d{1,9}\s*$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Give a whole number, such as 32, or a percentage, such as 50%.");
}

/** What a model's heads have less of than GPT-2's, or null: "q and k of rank 32, v of rank 20, 28, 36". */
export function formatRanks({ qk_ranks, vo_ranks }: ModelConfig): string | null {
  const list = (ranks: readonly number[]) => (new Set(ranks).size === 1 ? `${ranks[0]}` : ranks.join(", "));
  const parts = [
    ...(qk_ranks ? [`q and k of rank ${list(qk_ranks)}`] : []),
    ...(vo_ranks ? [`v of rank ${list(vo_ranks)}`] : []),
  ];
  return parts.length === 0 ? null : parts.join("; ");
}
