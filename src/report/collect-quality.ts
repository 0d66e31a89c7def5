// Collects the quality of the two models and of exports: measurements, else the numbers in nfc.json.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ExportedModel } from "../inference/exported/exported-model.ts";
import { countParameters } from "../model/parameters.ts";
import { nameModelFile, type Precision } from "../model/precision.ts";
import {
  describeText,
  type FileSize,
  findNotedTask,
  isRecordedSource,
  isTelling,
  listPerplexities,
  readRecordedQuality,
} from "./recorded-quality.ts";
import type { ExportSummary, Perplexity, ReportedScore, TaskScores } from "./report-schema.ts";

/** Perplexities of the two models of a report on one text; `kl` and `agreement` compare `after` with `before`. */
export interface Measurement {
  /** The name of the text. */
  file: string;
  sha256?: string | undefined;
  /** Tokens scored. */
  tokens: number;
  before?: number | undefined;
  after?: number | undefined;
  kl?: number | undefined;
  agreement?: number | undefined;
}

/** One row for every text and number of tokens, sorted by name; measurements win over records. Almost no text has none. */
export function collectPerplexities(
  before: Checkpoint,
  after: Checkpoint,
  measurements: readonly Measurement[],
): Perplexity[] {
  const rows = new Map<string, Perplexity>();
  for (const measurement of [...readNotedPerplexities(before, after), ...measurements.filter(isTelling)]) {
    const key = `${measurement.file} ${measurement.sha256 ?? ""} ${measurement.tokens}`;
    const old = rows.get(key);
    rows.set(key, {
      file: measurement.file,
      sha256: measurement.sha256 ?? null,
      tokens: measurement.tokens,
      before: measurement.before ?? old?.before ?? null,
      after: measurement.after ?? old?.after ?? null,
      kl: measurement.kl ?? old?.kl ?? null,
      agreement: measurement.agreement ?? old?.agreement ?? null,
    });
  }
  return [...rows.values()].sort((a, b) => (a.file === b.file ? a.tokens - b.tokens : a.file < b.file ? -1 : 1));
}

/** The perplexities in both records. That of `after`'s source counts for `before` if they look like the same model. */
function readNotedPerplexities(before: Checkpoint, after: Checkpoint): Measurement[] {
  const related = isRecordedSource(before, after);
  return [
    ...listPerplexities(before.record).map((entry) => ({ ...describeText(entry), before: entry.perplexity })),
    ...listPerplexities(after.record).map((entry) => ({
      ...describeText(entry),
      after: entry.perplexity,
      before: related ? entry.source : undefined,
    })),
  ];
}

/** Scores of either model on a task of GLUE, as `readGlueScores` reads them. */
export interface TaskMeasurement {
  task: string;
  metric: string;
  before?: ReportedScore | undefined;
  after?: ReportedScore | undefined;
}

/** One row for every task and metric; measurements win over records. */
export function collectTaskScores(
  before: Checkpoint,
  after: Checkpoint,
  measurements: readonly TaskMeasurement[],
): TaskScores[] {
  const rows = new Map<string, TaskScores>();
  for (const { task, metric, ...scores } of [
    ...readNotedScores(before, "before"),
    ...readNotedScores(after, "after"),
    ...measurements,
  ]) {
    const key = `${task} ${metric}`;
    const old = rows.get(key);
    rows.set(key, {
      ...{ task, metric },
      before: scores.before ?? old?.before ?? null,
      after: scores.after ?? old?.after ?? null,
    });
  }
  return [...rows.values()];
}

/** The score of a classifier on its own task. */
function readNotedScores({ record }: Checkpoint, side: "before" | "after"): TaskMeasurement[] {
  const noted = record && findNotedTask(record);
  if (!noted?.own) return [];
  const { metric, value } = noted.own;
  return [{ task: noted.task, metric, [side]: { mean: value, spread: null, seeds: 1 } }];
}

/** GLUE's average: the mean of the tasks' own metrics, times 100, over the tasks that both models have a score of. */
export function computeTaskMean(rows: readonly TaskScores[]): { tasks: number; before: number; after: number } | null {
  const both = rows.flatMap(({ before, after }) =>
    before && after ? [{ before: before.mean, after: after.mean }] : [],
  );
  if (both.length === 0) return null;
  const mean = (side: "before" | "after") => (100 * both.reduce((sum, row) => sum + row[side], 0)) / both.length;
  return { tasks: both.length, before: mean("before"), after: mean("after") };
}

type Summarized = Pick<ExportedModel, "source" | "config" | "record"> & { files: ReadonlyMap<Precision, FileSize> };

/** Bytes of a parameter in float32. */
const FLOAT32_BYTES = 4;

/** The size of every file of an export, and its perplexity in nfc.json. */
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
