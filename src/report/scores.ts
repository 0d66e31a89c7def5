// The scores of a report's two models on tasks: of classifiers by their nfc.json, of language models by nfc glue.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ReportedScore, TaskScores } from "./schema.ts";
import { findNotedTask } from "./weigh/noted-scores.ts";

/** Scores of either model on a task of GLUE, as `readGlueScores` reads them. */
export interface TaskMeasurement {
  task: string;
  metric: string;
  before?: ReportedScore;
  after?: ReportedScore;
}

/** One row for every task and metric; measurements win over records. */
export function collectTaskScores(
  before: Checkpoint,
  after: Checkpoint,
  measurements: readonly TaskMeasurement[],
): TaskScores[] {
  const rows = new Map<string, TaskScores>();
  for (const { task, metric, ...scores } of [
    ...readRecorded(before, "before"),
    ...readRecorded(after, "after"),
    ...measurements,
  ]) {
    const key = `${task} ${metric}`;
    rows.set(key, { task, metric, before: null, after: null, ...rows.get(key), ...scores });
  }
  return [...rows.values()];
}

function readRecorded({ record }: Checkpoint, side: "before" | "after"): TaskMeasurement[] {
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
