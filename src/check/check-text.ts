// The result of a check as text, as Markdown for pull requests, as JSON, and as annotations for GitHub.
import { group, heading, type Line, list, paragraph, type Table } from "../report/render/blocks.ts";
import { formatBytes, formatSignedPercent, formatThousands } from "../report/render/format.ts";
import { renderMarkdown } from "../report/render/markdown.ts";
import { renderText } from "../report/render/text.ts";
import type { CheckedModel, CheckResult } from "./check-sizes.ts";

/** Table, then what failed, what grew, and what is worth knowing. */
export function renderCheckText(result: CheckResult): string {
  const lines: string[] = [];
  for (const { name, failures, notes, groups } of result.models) {
    for (const text of [...failures, ...notes]) lines.push(`${name}: ${text}`);
    const changed = groups.map(({ group, before, now }) => `${group} ${formatChange(before, now)}`);
    if (failures.length === 0 && changed.length > 0) lines.push(`${name}: changed: ${changed.join(", ")}`);
  }
  if (result.updated) lines.push(`${result.baseline}: written`);
  return renderText([group(makeTable(result), ...lines.map((line) => paragraph(line)))]);
}

/** Begins with a marker, by which a comment is found again and replaced. */
export function renderCheckMarkdown(result: CheckResult, key: string): string {
  const faults = result.models.flatMap(({ name, failures }) =>
    failures.map((failure): Line => [{ code: name }, `: ${failure}`]),
  );
  const verdict: Line = result.passed
    ? "Model sizes: as they should be"
    : ["Model sizes: ", { strong: "not" }, " as they should be"];
  const body = renderMarkdown([heading(3, verdict), makeTable(result), list(faults)]);
  return `<!-- nfc-size:${key.replace(/[^\w.-]/g, "_")} -->\n\n${body}`;
}

function makeTable({ models }: CheckResult): Table {
  const names = ["model", "size", "limit", "before", "change", "parameters", ""];
  return { kind: "table", heading: names, rows: models.map(makeRow), align: "lrrrrrl" };
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

function makeRow({ name, passed, size, sizeLimit, baselineSize, parameters, unreadable }: CheckedModel): Line[] {
  return [
    { code: name },
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
