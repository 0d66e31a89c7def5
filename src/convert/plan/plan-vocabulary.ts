// Counts the tokens that a plan may take away: those that a text of the kind that the model is for does not need.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import { sha256File, sha256Files } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import { formatThousands } from "../../report/render/format.ts";
import type { CountedVocabulary } from "../cuts/vocabulary-choice.ts";
import { countVocabulary } from "../cuts/vocabulary-count.ts";
import type { PlanVocabulary } from "./plan-file.ts";

/** By what the vocabulary is cut: a text, and what it uses. */
export interface VocabularyText {
  text: readonly [string, ...string[]];
  field?: string | undefined;
  counted: CountedVocabulary;
}

export interface PlanVocabularyOptions extends LongCall {
  text: readonly [string, ...string[]];
  field?: string | undefined;
  /** Lists the parts of the text that models are measured on: some files, and the ids that are taken of them. */
  listMeasured: () => Promise<readonly MeasuredPart[]>;
}

export interface MeasuredPart {
  files: readonly string[];
  ids: readonly number[];
}

/**
 * A part of the held-out text whose files are all among those that tokens are chosen by is not counted: a model would else
 * be measured on text whose tokens were kept for that.
 * @throws NfcError as `countVocabulary`; "usage" where no smaller vocabulary is left
 */
export async function readPlanVocabulary(
  checkpoint: Checkpoint,
  { text, field, listMeasured, signal, onProgress }: PlanVocabularyOptions,
): Promise<{ vocabulary: VocabularyText; record: PlanVocabulary }> {
  const hash = (paths: readonly string[]) => Promise.all(paths.map((path) => sha256File(path, signal)));
  const own = await hash(text);
  const without: number[] = [];
  for (const { files, ids } of await listMeasured())
    if ((await hash(files)).every((sha256) => own.includes(sha256))) without.push(...ids);
  const counted = await countVocabulary(checkpoint, { text, field, without, signal, onProgress });
  const { used, least } = counted;
  const { vocab_size: rows } = checkpoint.config;
  if (listVocabularySizes(rows, counted).length === 0)
    throw new NfcError(
      "usage",
      `${text.join(", ")}: uses ${describeUse({ from: rows, used, least })}: nothing is left to cut`,
      {
        hint: "leave out --vocab-from and the axis vocab, or give text of one kind",
      },
    );
  const shared = field !== undefined && { field };
  return {
    vocabulary: { text, field, counted },
    record: { files: [...text], sha256: await sha256Files(text, signal), from: rows, used, least, ...shared },
  };
}

/** Shares of the vocabulary that are tried, below what the text uses. */
const SHARES = [3 / 4, 1 / 2, 3 / 8, 1 / 4];

/** Sizes to try: all tokens that the text uses, and shares of the vocabulary that drop some of them. */
export function listVocabularySizes(rows: number, { used, least }: { used: number; least: number }): number[] {
  const shares = SHARES.map((share) => Math.floor(share * rows)).filter((size) => size < used && size >= least);
  return [...(used < rows ? [used] : []), ...new Set(shares)];
}

/** "3,831 of 4,096 tokens, and 260 stay in any case" */
export function describeUse({ from, used, least }: Pick<PlanVocabulary, "from" | "used" | "least">): string {
  const all = used === from ? `all ${formatThousands(from)}` : `${formatThousands(used)} of ${formatThousands(from)}`;
  return `${all} tokens, and ${formatThousands(least)} stay in any case`;
}
