// The words of a form of attention: its ranks, its parts, and what was lost when it was made.
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import type { ModelConfig } from "../model/config.ts";
import type { ParameterGroup } from "../model/parameters.ts";
import { isPlainGpt2, VARIANT_TRAITS, VARIANTS, type Variant } from "../model/variants.ts";
import { GROUP_NAMES } from "./weigh/header-tensors.ts";

type Ranks = Pick<ModelConfig, "n_head" | "n_embd"> & {
  qk_ranks?: readonly number[] | undefined;
  vo_ranks?: readonly number[] | undefined;
};

/** "q and k 8 to 16 of 64, v 32 of 64": numbers of a head; null where all are as in GPT-2. */
export function describeRanks({ n_head, n_embd, qk_ranks, vo_ranks }: Ranks): string | null {
  const part = (name: string, ranks: readonly number[] | undefined) => {
    if (!ranks) return [];
    const [least, most] = ranks.reduce(([low, high], rank) => [Math.min(low, rank), Math.max(high, rank)], [
      Number.POSITIVE_INFINITY,
      0,
    ] as [number, number]);
    return [`${name} ${least === most ? most : `${least} to ${most}`} of ${n_embd / n_head}`];
  };
  const parts = [...part("q and k", qk_ranks), ...part("v", vo_ranks)];
  return parts.length === 0 ? null : parts.join(", ");
}

/** "32" where all layers have that rank, else the rank of each: "32, 28, 36". */
export function listByLayer(ranks: readonly (number | string)[]): string {
  return new Set(ranks).size === 1 ? `${ranks[0]}` : ranks.join(", ");
}

/** The label of a group in tables on models of these variants: s of a pairwise model is not "q = k". */
export function nameGroup(group: ParameterGroup, variants: readonly Variant[]): string {
  if (group !== "attention.qk") return GROUP_NAMES[group].label;
  const tied = variants.filter((variant) => VARIANT_TRAITS[variant].tied);
  const paired = tied.filter((variant) => VARIANT_TRAITS[variant].paired);
  if (paired.length === 0) return GROUP_NAMES[group].label;
  return paired.length === tied.length ? "s and A" : "q = k, or s and A";
}

/** How queries and keys are stored, in a few words; null for GPT-2's own. */
export function describeSharing(variant: Variant): string | null {
  const { tied, paired, narrow } = VARIANT_TRAITS[variant];
  if (paired) return "one projection for Q and K";
  if (tied) return "Q and K tied";
  return narrow ? "Q and K of low rank" : null;
}

/** The variant that a model had before it was written out as plain GPT-2, by the steps of its nfc.json; else its own. */
export function findForm(variant: Variant, history: NfcRecord["history"] | undefined): Variant {
  if (!isPlainGpt2(variant)) return variant;
  const written = history?.findLast(({ expanded }) => expanded !== undefined)?.expanded;
  return VARIANTS.find((known) => known === written) ?? variant;
}

/** What the errors of nfc.json are errors of: "tie", or "rank" where q and k were cut to a low rank. */
export function nameLoss(form: Variant): { noun: "tie" | "rank"; gerund: string } {
  return VARIANT_TRAITS[form].narrow
    ? { noun: "rank", gerund: "the low rank" }
    : { noun: "tie", gerund: VARIANT_TRAITS[form].paired ? "one projection" : "tying" };
}
