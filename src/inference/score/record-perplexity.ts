// Notes a measured perplexity in a model's nfc.json, where the report finds it.
import { basename } from "node:path";
import { changeRecord, drawsNoise, mergeEntries } from "../../checkpoint/change-record.ts";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { type ExportEntry, LEAST_SCORED_TOKENS, type NfcRecord } from "../../checkpoint/nfc-record.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { sha256Files } from "../../io/sha256.ts";
import type { ExportedModel } from "../exported/exported-model.ts";
import type { Evaluation } from "./evaluate.ts";
import type { PrecisionScore } from "./precisions.ts";

type Entry = NonNullable<NfcRecord["perplexity"]>[number];
/** A score, with what a byte of its text takes where that is known (`TokenMeter`). */
export type MeteredScore = PrecisionScore & Pick<Evaluation, "bitsPerByte">;
type ExportPerplexity = NonNullable<ExportEntry["perplexity"]>;

/** The texts of a measurement, as records name them. */
export async function describeScoredText(texts: readonly string[]): Promise<Pick<Entry, "file" | "sha256">> {
  return { file: texts.map((text) => basename(text)).join(", "), sha256: await sha256Files(texts) };
}

/**
 * Adds or replaces the entry for this text. Gives the path of nfc.json, or null where the model has none, where it
 * cannot be written, for a text of almost no tokens, and for a perplexity past every number, which JSON cannot hold.
 */
export async function recordPerplexity(
  checkpoint: Checkpoint,
  texts: readonly string[],
  result: Evaluation,
  against?: Checkpoint,
): Promise<string | null> {
  const { record, folder } = checkpoint;
  if (record === null || folder === null || !isTelling(result)) return null;
  const entry: Entry = {
    ...(await describeScoredText(texts)),
    tokens: result.tokens,
    length: result.length,
    stride: result.stride,
    perplexity: result.perplexity,
    ...(result.bitsPerByte !== undefined && { bitsPerByte: result.bitsPerByte }),
    ...(result.against &&
      against &&
      Number.isFinite(result.against.perplexity) &&
      (await isSource(against, record)) && { source: result.against.perplexity }),
  };
  const same = (other: Entry) => isSameText(other, entry);
  return changeRecord(folder, (current) => {
    const old = current.perplexity?.find(same);
    const others = (current.perplexity ?? []).filter((other) => !same(other));
    const perplexity = [...others, { ...(old?.source !== undefined && { source: old.source }), ...entry }];
    return { ...current, perplexity };
  });
}

/**
 * Notes what files of an export were measured to lose; entries of files that are gone go. What a measurement says of a
 * reference is noted when that is the float32 model: the fp32 file, or `against` if the export was made from it. Gives the
 * path of nfc.json as `recordPerplexity` does; null also for files that draw their noise.
 */
export async function recordExports(
  model: ExportedModel,
  texts: readonly string[],
  scores: readonly MeteredScore[],
  against?: Checkpoint,
): Promise<string | null> {
  const { record, folder } = model;
  if (record === null || drawsNoise(record) || !scores.some(isTelling)) return null;
  const comparable = against === undefined || (await isOrigin(against, record));
  const text = await describeScoredText(texts);
  return changeRecord(folder, (current) => {
    const there = current.exports?.filter(({ precision }) => model.files.has(precision)) ?? [];
    return mergeEntries({ ...current, exports: there }, [...model.files.values()], (precision, old) => {
      const score = scores.find((each) => each.precision === precision);
      const perplexity = score && makeExportPerplexity(score, text, comparable, old?.perplexity);
      return perplexity ? { perplexity } : {};
    });
  });
}

/**
 * The entry of a measured file; null for a text of almost no tokens, and for a perplexity past every number.
 * @param comparable whether the reference was the float32 model
 * @param old an earlier entry, which keeps its say where the new measurement has none
 */
export function makeExportPerplexity(
  { tokens, length, stride, perplexity, bitsPerByte, referencePerplexity, kl, agreement, logitError }: MeteredScore,
  text: Pick<Entry, "file" | "sha256">,
  comparable = true,
  old?: ExportPerplexity,
): ExportPerplexity | null {
  if (!isTelling({ tokens, perplexity })) return null;
  const entry = { ...text, tokens, length, stride, perplexity, ...(bitsPerByte !== undefined && { bitsPerByte }) };
  if (comparable && referencePerplexity !== null && Number.isFinite(referencePerplexity))
    return { ...entry, source: referencePerplexity, kl, agreement, logitError };
  const known = old && isSameText(old, entry) ? old : { kl: null, agreement: null, logitError: null };
  return { ...known, ...entry };
}

/** Whether a measurement says something of the model, in numbers that JSON can hold. */
function isTelling({ tokens, perplexity }: { tokens: number; perplexity: number }): boolean {
  return tokens >= LEAST_SCORED_TOKENS && Number.isFinite(perplexity);
}

function isSameText(a: Omit<Entry, "file">, b: Omit<Entry, "file">): boolean {
  const key = ({ sha256, tokens, length, stride }: Omit<Entry, "file">) => [sha256, tokens, length, stride].join();
  return key(a) === key(b);
}

/** Whether `against` is the very checkpoint that the model was made from. */
async function isSource(against: Checkpoint, record: NfcRecord): Promise<boolean> {
  const { files } = await describeSource(against);
  const hashes = (list: NfcRecord["source"]["files"]) =>
    list
      .map(({ sha256 }) => sha256)
      .sort()
      .join();
  return hashes(files) === hashes(record.source.files);
}

/** Whether an export was made from `against`: it continues its record by a step, or has it as its source. */
async function isOrigin(against: Checkpoint, record: NfcRecord): Promise<boolean> {
  if (against.config.variant !== record.variant) return false;
  const past = (known: NfcRecord, steps: number) => {
    const history = known.history.slice(0, steps).map(({ command, ...step }) => step);
    return JSON.stringify([known.source, known.tie, history]);
  };
  const steps = record.history.length - 1;
  if (against.record === null) return steps === 0 && isSource(against, record);
  return against.record.history.length === steps && past(against.record, steps) === past(record, steps);
}
