// Reads a model's quality from nfc.json: perplexities by text, the score on a task, and both for every exported file.
import { basename, dirname, posix, resolve } from "node:path";
import { z } from "zod";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type ExportEntry, LEAST_SCORED_TOKENS, type NfcRecord, readNfcRecord } from "../checkpoint/nfc-record.ts";
import type { ExportedFile } from "../inference/exported/exported-model.ts";
import { countParameters } from "../model/parameters.ts";
import type { ExportSummary } from "./report-schema.ts";

/** Names of weights that every model has: the name of their folder tells models apart. */
const COMMON_NAME = /^model\.safetensors(\.index\.json)?$/;

/** Reads nfc.json in a file's folder, or for onnx/model.onnx above it. @throws NfcError where it is damaged */
export async function readRecordBeside(file: string): Promise<NfcRecord | null> {
  const own = dirname(resolve(file));
  return readNfcRecord(basename(own) === "onnx" ? dirname(own) : own);
}

/** The perplexities in a record, but for those of almost no text. */
export function listPerplexities(record: NfcRecord | null): NonNullable<NfcRecord["perplexity"]> {
  return (record?.perplexity ?? []).filter(isTelling);
}

/** Whether so many tokens tell something of a model. */
export function isTelling({ tokens }: { tokens: number }): boolean {
  return tokens >= LEAST_SCORED_TOKENS;
}

/** Perplexities on held-out text of the last training on text. */
export interface NotedTraining {
  before: number;
  after: number;
  /** Null without a teacher. */
  teacher: number | null;
}

export function findNotedTraining({ history }: Pick<NfcRecord, "history">): NotedTraining | null {
  const last = history.findLast((step) => trainingSchema.safeParse(step).success);
  return last ? trainingSchema.parse(last).held_out.perplexity : null;
}

const perplexity = z.number().positive();
const trainingSchema = z.object({
  held_out: z.object({
    perplexity: z.object({ before: perplexity, after: perplexity, teacher: perplexity.nullable() }),
  }),
});

export interface NotedTask {
  /** "sst2" */
  task: string;
  /** Values by name; null where a metric is undefined. */
  metrics: Record<string, number | null>;
  /** The task's own metric, which is the first; null where it is undefined. */
  own: { metric: string; value: number } | null;
}

/** The development set's score of the last fine-tuning on a task. */
export function findNotedTask({ history }: Pick<NfcRecord, "history">): NotedTask | null {
  const step = history.findLast((one) => typeof one.task === "string" && typeof one.dev === "object");
  const { metrics } = (step?.dev ?? {}) as { metrics?: Record<string, unknown> };
  if (step === undefined || typeof metrics !== "object" || metrics === null) return null;
  const numbers = Object.entries(metrics).map(
    ([name, value]) => [name, typeof value === "number" ? value : null] as const,
  );
  const [metric, value] = numbers[0] ?? [];
  const own = metric !== undefined && value != null ? { metric, value } : null;
  return { task: String(step.task), metrics: Object.fromEntries(numbers), own };
}

/** Development files whose score decides a task: every task's own, and MNLI's matched one. */
const DECIDING_FILES = ["dev.tsv", "dev_matched.tsv"];

/** The name of a score: its task, with the file where another one decides (MNLI's mismatched). */
export function nameScored({ task, file }: { task: string; file: string }): string {
  return DECIDING_FILES.includes(file) ? task : `${task}, ${file}`;
}

/** The name has the stride of overlapping windows, because they give another perplexity of the same text. */
export function describeText({ file, sha256, tokens, length, stride }: NonNullable<NfcRecord["perplexity"]>[number]): {
  file: string;
  sha256: string;
  tokens: number;
} {
  const overlapping = stride !== undefined && stride !== length;
  return { file: overlapping ? `${file}, stride ${stride}` : file, sha256, tokens };
}

/**
 * Whether `after` was made from `before`, as far as that shows without hashing weights: its nfc.json names a source of
 * the same name, the same number of parameters and the same size.
 */
export function isRecordedSource(before: Checkpoint, after: Checkpoint): boolean {
  const source = after.record?.source;
  if (source === undefined) return false;
  const bytes = source.files.reduce((sum, file) => sum + file.bytes, 0);
  return (
    source.parameters === countParameters(before.config) &&
    bytes === before.reader.byteLength &&
    nameModel(source.path) === nameModel(before.source)
  );
}

/** The last part of a path, whether it names a folder or the weights in it, without a revision (hf://owner/name@rev). */
function nameModel(path: string): string {
  const parts = posix.normalize(path.replaceAll("\\", "/")).split("/").filter(Boolean);
  const last = parts.at(-1) ?? "";
  const name = COMMON_NAME.test(last) ? (parts.at(-2) ?? last) : last;
  return name.replace(/@.*$/, "");
}

/** An exported file, as it is found among the entries of nfc.json. */
export type FileSize = Pick<ExportedFile, "precision" | "bytes">;

/** The perplexity of an exported file in nfc.json; null without one. */
export function readRecordedQuality(
  { precision, bytes }: FileSize,
  entries: readonly ExportEntry[],
): ExportSummary["files"][number]["quality"] {
  const entry = findEntry({ precision, bytes }, entries)?.perplexity;
  if (entry === undefined || !isTelling(entry)) return null;
  const { perplexity, kl, agreement, logitError, source } = entry;
  return { ...describeText(entry), float32: source ?? null, perplexity, kl, agreement, logitError };
}

/** A file's entry, unless it is that of a file of another size. */
export function findEntry({ precision, bytes }: FileSize, entries: readonly ExportEntry[]): ExportEntry | undefined {
  return entries.find((each) => each.precision === precision && each.bytes === bytes);
}
