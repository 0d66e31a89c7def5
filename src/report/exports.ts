// The exports of a report: size and recorded quality of every ONNX file in some folders.

import type { ExportEntry } from "../checkpoint/nfc-record.ts";
import type { ExportedFile, ExportedModel } from "../inference/exported/exported-model.ts";
import { countParameters } from "../model/parameters.ts";
import { nameModelFile, type Precision } from "../model/precision.ts";
import { describeText } from "./perplexity.ts";
import type { ExportSummary } from "./schema.ts";

type Size = Pick<ExportedFile, "precision" | "bytes">;
type Summarized = Pick<ExportedModel, "source" | "config" | "record"> & { files: ReadonlyMap<Precision, Size> };

/** Bytes of a parameter in float32. */
const FLOAT32_BYTES = 4;

export function summarizeExport({ source, config, files, record }: Summarized): ExportSummary {
  const parameters = countParameters(config);
  return {
    source,
    variant: config.variant,
    parameters,
    files: [...files.values()].map((file) => ({
      precision: file.precision,
      file: `onnx/${nameModelFile(file.precision)}`,
      bytes: file.bytes,
      ratio: file.bytes / (FLOAT32_BYTES * parameters),
      quality: readRecordedQuality(file, record?.exports ?? []),
    })),
  };
}

/** What nfc.json says of a file's perplexity. */
export function readRecordedQuality(
  { precision, bytes }: Size,
  entries: readonly ExportEntry[],
): ExportSummary["files"][number]["quality"] {
  const entry = findEntry({ precision, bytes }, entries)?.perplexity;
  if (entry === undefined) return null;
  const { perplexity, kl, agreement, logitError, source } = entry;
  return { ...describeText(entry), float32: source ?? null, perplexity, kl, agreement, logitError };
}

/** What it says of a file's scores on tasks. */
export function readRecordedScores(file: Size, entries: readonly ExportEntry[]): NonNullable<ExportEntry["tasks"]> {
  return findEntry(file, entries)?.tasks ?? [];
}

/** A file's entry, unless it is that of a file of another size. */
export function findEntry({ precision, bytes }: Size, entries: readonly ExportEntry[]): ExportEntry | undefined {
  return entries.find((each) => each.precision === precision && each.bytes === bytes);
}
