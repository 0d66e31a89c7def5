// The result of a check as text, as Markdown for pull requests, as JSON, and as annotations for GitHub.
import { type Block, heading, type Line, list } from "../report/render/blocks.ts";
import { formatBytes, formatSignedPercent, formatThousands } from "../report/render/format.ts";
import { renderMarkdown } from "../report/render/markdown.ts";
import { renderText } from "../report/render/text.ts";
import type { CheckedModel, CheckResult } from "./check-sizes.ts";

export function renderCheckText(result: CheckResult): string {
  return renderText(makeBlocks(result));
}

/** Begins with a marker by which CI finds its earlier comment and replaces it. */
export function renderCheckMarkdown(result: CheckResult, key: string): string {
  return `<!-- nfc-size:${key.replace(/[^\w.-]/g, "_")} -->\n\n${renderMarkdown(makeBlocks(result))}`;
}

/** The verdict, the table, and for each model its failures, notes and changes. */
function makeBlocks(result: CheckResult): Block[] {
  const { models, passed, updated, baseline } = result;
  const verdict: Line = ["Model sizes: ", ...(passed ? [] : [{ strong: "not" }, " "]), "as they should be"];
  const facts = models.flatMap((model): Line[] =>
    describeModel(model).map((text) => [{ code: model.name }, `: ${text}`]),
  );
  const compressed = models.some(({ brotliLimit }) => brotliLimit !== null);
  const brotli = compressed ? ["brotli", "limit", "before"] : [];
  const names = ["model", "size", "limit", "before", "change", ...brotli, "parameters", ""];
  const align = `lrrrr${"r".repeat(brotli.length)}rl`;
  return [
    heading(3, verdict),
    { kind: "table", heading: names, rows: models.map((model) => makeRow(model, compressed)), align },
    list([...facts, ...(updated ? [[{ code: baseline }, ": written"]] : [])]),
  ];
}

function describeModel({ failures, notes, groups }: CheckedModel): string[] {
  const changed = groups.map(({ group, before, now }) => `${group} ${formatChange(before, now)}`);
  return [
    ...failures,
    ...notes,
    ...(failures.length === 0 && changed.length > 0 ? [`changed: ${changed.join(", ")}`] : []),
  ];
}

/** The array of size-limit, { name, passed, size, sizeLimit }, with further keys. */
export function renderCheckJson({ models }: CheckResult): object[] {
  return models.map(({ name, passed, size, sizeLimit, path, parameters, baselineSize, ...more }) => ({
    ...{ name, passed, size, sizeLimit: sizeLimit ?? undefined, path, parameters, baselineSize },
    ...(more.brotliLimit !== null && {
      ...{ brotliSize: more.brotliSize, brotliLimit: more.brotliLimit, baselineBrotli: more.baselineBrotli },
    }),
    ...{ groups: more.groups, failures: more.failures, notes: more.notes },
  }));
}

/** Workflow commands of GitHub, escaped so that no name starts another command. */
export function renderAnnotations({ models, config }: CheckResult): string[] {
  const data = (text: string) => text.replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
  const property = (text: string) => data(text).replace(/:/g, "%3A").replace(/,/g, "%2C");
  return models.flatMap(({ name, failures }) =>
    failures.map((failure) => `::error file=${property(config)},title=${property(name)}::${data(failure)}`),
  );
}

function makeRow(model: CheckedModel, compressed: boolean): Line[] {
  const { name, passed, size, sizeLimit, baselineSize, parameters, unreadable } = model;
  const cell = (bytes: number | null) => (bytes === null ? "" : formatBytes(bytes));
  const brotli = [model.brotliSize, model.brotliLimit, model.baselineBrotli];
  return [
    { code: name },
    cell(size),
    cell(sizeLimit),
    cell(baselineSize),
    size === null || baselineSize === null ? "" : formatChange(baselineSize, size),
    ...(compressed ? brotli.map(cell) : []),
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
