// The entry point "./check": the size check, its result as text, Markdown, JSON and annotations, and its two files.

export type { Baseline } from "./baseline.ts";
export { type CheckedModel, type CheckOptions, type CheckResult, checkSizes } from "./check-sizes.ts";
export { renderAnnotations, renderCheckJson, renderCheckMarkdown, renderCheckText } from "./check-text.ts";
export type { SizeConfig, SizeEntry } from "./size-config.ts";
