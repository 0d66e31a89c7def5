// A check's result for people: a table for terminals, Markdown for pull requests, annotations for GitHub.
import {
  alignTable,
  escapeControls,
  formatBytes,
  formatSignedPercent,
  formatThousands,
} from "../report/render/format.ts";
import { code, escapeText, table } from "../report/render/report-markdown.ts";
import type { CheckedModel, CheckResult } from "./check-sizes.ts";

const HEADING = ["model", "size", "limit", "before", "change", "parameters", ""];
const ALIGN = "lrrrrrl";

/** Table, then what failed, what grew, and what is worth knowing. */
export function renderCheckText(result: CheckResult): string {
  const rows = [HEADING, ...result.models.map((model) => formatRow(model).map(escapeControls))];
  const lines = alignTable(rows, { align: ALIGN, rulesBefore: [1] });
  for (const { name, failures, notes, groups } of result.models) {
    for (const failure of failures) lines.push(`${name}: ${failure}`);
    for (const note of notes) lines.push(`${name}: ${note}`);
    const changed = groups.map(({ group, before, now }) => `${group} ${formatChange(before, now)}`);
    if (failures.length === 0 && changed.length > 0) lines.push(`${name}: changed: ${changed.join(", ")}`);
  }
  if (result.updated) lines.push(`${result.baseline}: written`);
  return lines.map(escapeControls).join("\n");
}

/** Begins with a marker, by which a comment is found again and replaced. */
export function renderCheckMarkdown(result: CheckResult, key: string): string {
  const rows = result.models.map((model) =>
    formatRow(model).map((cell, i) => (i === 0 ? code(cell) : escapeText(cell))),
  );
  const faults = result.models.flatMap(({ name, failures }) =>
    failures.map((failure) => `- ${code(name)}: ${escapeText(failure)}`),
  );
  return `${[
    `<!-- nfc-size:${key.replace(/[^\w.-]/g, "_")} -->`,
    `### Model sizes: ${result.passed ? "as they should be" : "**not** as they should be"}`,
    table(HEADING, rows, ALIGN),
    ...(faults.length > 0 ? [faults.join("\n")] : []),
  ].join("\n\n")}\n`;
}

/** size-limit's shape: an array of { name, passed, size, sizeLimit }, and what else is known. */
export function renderCheckJson({ models }: CheckResult): object[] {
  return models.map(({ name, passed, size, sizeLimit, path, parameters, baselineSize, groups, failures, notes }) => ({
    ...{ name, passed, size, sizeLimit: sizeLimit ?? undefined, path, parameters, baselineSize },
    ...{ groups, failures, notes },
  }));
}

/** GitHub's workflow commands; their escapes keep names from starting commands of their own. */
export function renderAnnotations({ models, config }: CheckResult): string[] {
  const data = (text: string) => text.replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
  const property = (text: string) => data(text).replace(/:/g, "%3A").replace(/,/g, "%2C");
  return models.flatMap(({ name, failures }) =>
    failures.map((failure) => `::error file=${property(config)},title=${property(name)}::${data(failure)}`),
  );
}

function formatRow({ name, passed, size, sizeLimit, baselineSize, parameters, unreadable }: CheckedModel): string[] {
  return [
    name,
    size === null ? "" : formatBytes(size),
    sizeLimit === null ? "" : formatBytes(sizeLimit),
    baselineSize === null ? "" : formatBytes(baselineSize),
    size === null || baselineSize === null ? "" : formatChange(baselineSize, size),
    parameters === null ? "" : formatThousands(parameters),
    passed ? "ok" : unreadable ? "unreadable" : "FAILED",
  ];
}

function formatChange(before: number, now: number): string {
  if (before === now) return "0";
  const sign = now > before ? "+" : "-";
  const percent = before === 0 ? "" : ` (${formatSignedPercent((100 * (now - before)) / before)})`;
  return `${sign}${formatBytes(Math.abs(now - before))}${percent}`;
}
