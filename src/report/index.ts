// The entry point "./report": reports as text, Markdown, JSON and pages; several models side by side; recorded scores.

export { recordPerplexity } from "../inference/score/record-perplexity.ts";
export { type CompareOptions, compareModels } from "./comparison/compare-models.ts";
export { renderComparisonPage } from "./comparison/comparison-page.ts";
export type { ComparedModel, Comparison } from "./comparison/comparison-schema.ts";
export { renderComparisonMarkdown, renderComparisonText } from "./comparison/comparison-text.ts";
export { type Inspection, inspect } from "./inspect/inspect.ts";
export { renderInspection } from "./inspect/inspect-text.ts";
export { renderReportPage } from "./page/page.ts";
export {
  type AttentionPair,
  type LearnedNoise,
  type PageData,
  type Point,
  readAttentionPairs,
  readLearnedNoise,
  readTrainingCurves,
  type TrainingCurves,
} from "./page/page-data.ts";
export { createReport, type Measurement, type Report, type ReportOptions, type TaskMeasurement } from "./report.ts";
export { type ReportTextOptions, renderReportMarkdown, renderReportText } from "./report-blocks.ts";
export { formatReport, parseReport } from "./report-schema.ts";
