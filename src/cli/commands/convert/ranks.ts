// The ranks of attention on the command line of convert, and in what it prints.
import { InvalidArgumentError } from "commander";
import type { RankChoice } from "../../../convert/attention/ranks.ts";
import type { ModelConfig } from "../../../model/config.ts";
import { listByLayer } from "../../../report/attention-words.ts";
import { readPercent } from "../../percent.ts";

/** A number, such as 32, or a percentage of a head's width that layers have on average, such as 50%. */
export function parseRank(text: string): RankChoice {
  const percent = readPercent(text);
  if (percent !== null) return { share: percent / 100 };
  if (/^\s*\d{1,9}\s*$/.test(text)) return Number(text);
  throw new InvalidArgumentError("not a whole number, such as 32, nor a percentage, such as 50%");
}

/** The ranks of q and k where heads have fewer than GPT-2's: "q and k of rank 32, 28, 36"; null elsewhere. */
export function formatRanks({ qk_ranks }: ModelConfig): string | null {
  return qk_ranks ? `q and k of rank ${listByLayer(qk_ranks)}` : null;
}
