// Scores on tasks in a report: classifiers' own and measured ones, as rows, and GLUE's mean.
import { describe, expect, it } from "vitest";
import { computeTaskMean } from "../../src/report/collect-quality.ts";
import { renderReportPage } from "../../src/report/page/page.ts";
import { createReport, type TaskMeasurement } from "../../src/report/report.ts";
import { renderReportMarkdown, renderReportText } from "../../src/report/report-blocks.ts";
import { formatReport, parseReport } from "../../src/report/report-schema.ts";
import { makeTaskTable } from "../../src/report/report-tables.ts";
import { fakeCheckpoint, recordOf, TINY } from "../support/fake-checkpoint.ts";

const config = { ...TINY, variant: "symmetric" } as const;

/** A report on two models, of which `after` notes the accuracy of a fine-tuning where it is given. */
function reportWith(tasks: readonly TaskMeasurement[], accuracy?: number) {
  const before = fakeCheckpoint(TINY);
  const record = recordOf(before, config);
  const step = { step: "finetune", task: "sst2", dev: { metrics: { accuracy } } };
  const noted = accuracy === undefined ? record : { ...record, history: [step] };
  return createReport(before, fakeCheckpoint(config, { source: "out/nf", record: noted }), { tasks });
}

const page = (report: ReturnType<typeof reportWith>) =>
  renderReportPage({ report, noise: null, training: null, attention: null });

const one = (mean: number) => ({ mean, spread: null, seeds: 1 });
const MEASURED: TaskMeasurement[] = [
  { task: "cola", metric: "matthews", before: { mean: 0.092, spread: 0.027, seeds: 3 } },
  { task: "sst2", metric: "accuracy", before: one(0.8) },
  { task: "cola", metric: "matthews", after: { mean: 0.107, spread: 0.04, seeds: 3 } },
  { task: "sst2", metric: "accuracy", after: one(0.79) },
  { task: "rte", metric: "accuracy", after: one(0.5) },
];

describe("measured scores in a report", () => {
  it("each task is a row with its difference in points", () => {
    expect(makeTaskTable(reportWith(MEASURED))?.rows).toEqual([
      [{ code: "cola" }, "matthews", "0.092 ± 0.027", "0.107 ± 0.040", "+0.015"],
      [{ code: "sst2" }, "accuracy", "80.00 %", "79.00 %", "-1.00"],
      [{ code: "rte" }, "accuracy", "", "50.00 %", ""],
    ]);
  });

  it("the mean covers the tasks that both models were measured on, as in GLUE", () => {
    const mean = computeTaskMean(reportWith(MEASURED).tasks);
    expect(mean?.tasks).toBe(2);
    expect(mean?.before).toBeCloseTo((9.2 + 80) / 2);
    expect(mean?.after).toBeCloseTo((10.7 + 79) / 2);
    expect(computeTaskMean([])).toBeNull();
  });

  it("scores stand in the text, the Markdown, the page and its headline, and fit the schema", () => {
    const report = reportWith(MEASURED);
    expect(renderReportText(report)).toMatch(/^cola +matthews +0\.092 ± 0\.027 +0\.107 ± 0\.040 +\+0\.015$/m);
    expect(renderReportMarkdown(report)).toContain("| `sst2` | accuracy | 80.00 % | 79.00 % | -1.00 |");
    expect(page(report)).toContain("<dt>GLUE, points</dt><dd>+0.25</dd>");
    expect(page(report)).toContain("44.60 → 44.85, mean of 2 tasks");
    expect(parseReport(JSON.parse(formatReport(report)), "report").tasks).toEqual(report.tasks);
  });
});

describe("the scores of a classifier", () => {
  it("a classifier shows the score that its nfc.json notes, unless another was measured", () => {
    expect(reportWith([], 0.75).tasks).toEqual([{ task: "sst2", metric: "accuracy", before: null, after: one(0.75) }]);
    expect(page(reportWith([], 0.75))).toContain("<dt>sst2, accuracy</dt><dd>75.00 %</dd>");
    const measured = [{ task: "sst2", metric: "accuracy", after: one(0.8) }];
    expect(reportWith(measured, 0.75).tasks[0]?.after).toEqual(one(0.8));
  });

  it("a model without scores shows none", () => {
    const report = reportWith([]);
    expect(report.tasks).toEqual([]);
    expect(renderReportText(report)).not.toContain("Task");
    expect(page(report)).not.toMatch(/GLUE|accuracy/);
  });
});
