// Scores of classifiers as rows of a table.
import { escapeTerminal } from "../../../io/printable.ts";
import { formatMetric } from "../../../report/render/format.ts";
import type { TaskScore } from "../../../tasks/classify.ts";

/** A heading and one row for each metric of each model: the interval is that of a task's own metric. */
export function formatScores(rows: readonly { name: string; score: TaskScore }[]): string[][] {
  const lines = [["model", "metric", "score", "95 % interval", "loss"]];
  for (const { name, score } of rows)
    for (const [i, [metric, value]] of Object.entries(score.metrics).entries()) {
      const interval =
        i === 0 && score.interval
          ? `${formatMetric(metric, score.interval[0])} to ${formatMetric(metric, score.interval[1])}`
          : "";
      lines.push([
        i === 0 ? escapeTerminal(name) : "",
        metric,
        formatMetric(metric, value),
        interval,
        i === 0 ? score.loss.toFixed(4) : "",
      ]);
    }
  return lines;
}

/** Counts of a confusion matrix, actual classes down, predicted across. */
export function formatConfusion(labels: readonly string[], counts: readonly (readonly number[])[]): string[][] {
  return [
    ["actual \\ predicted", ...labels.map(escapeTerminal)],
    ...counts.map((row, id) => [escapeTerminal(labels[id] ?? String(id)), ...row.map(String)]),
  ];
}
