// A report as Markdown, for a pull request or a model card. Names from files can neither break the tables nor run.

import {
  breakdownRows,
  changeCells,
  errorCell,
  exportRows,
  groupRows,
  overviewRows,
  perplexityRows,
  tieRows,
} from "../rows.ts";
import type { ExportSummary, ModelSummary, Report, TieSummary } from "../schema.ts";
import { makeTaskRows } from "../scores.ts";
import { escapeControls, formatBytes, formatCommand, formatThousands } from "./format.ts";
import { type ReportTextOptions, reportLine } from "./report-text.ts";

const CHANGE_HEADING = ["parameters before", "after", "difference", "%", "MB before", "after", "difference"];

/** The report as GitHub-flavoured Markdown; its headings start at level 3. */
export function renderReportMarkdown(report: Report, options: ReportTextOptions = {}): string {
  const { before, after, title } = report;
  const blocks = [
    `### ${title === null ? `${code(before.source)} -&gt; ${code(after.source)}` : escapeText(title)}`,
    `**${reportLine(report).replaceAll(">", "&gt;")}**`,
    changeTable("group", groupLines(report)),
    breakdownTable(report),
    ...(options.layers ? [changeTable("layer", layerLines(report))] : []),
    tieText(report.tie, options.heads ?? false),
    perplexityTable(report),
    taskTable(report),
    ...report.exports.map(exportTable),
    report.findings.map(({ text }) => `- ${escapeText(text)}`).join("\n"),
    table(["", "before", "after"], [["model", code(before.source), code(after.source)], ...overviewRows(report)], "l"),
    provenanceText("before", before),
    provenanceText("after", after),
  ];
  return `${blocks.filter((block) => block !== "").join("\n\n")}\n`;
}

/**
 * A name as inline code. Backticks serve where nothing in the name can end them or split a table cell; otherwise every
 * character but letters and digits becomes an entity.
 */
export function code(raw: string): string {
  const name = escapeControls(raw);
  if (/^[^\s`|\\]([^`|\\]*[^\s`|\\])?$/.test(name)) return `\`${name}\``;
  const entities = Array.from(name, (character) =>
    /^[\p{L}\p{N} ./:-]$/u.test(character) ? character : `&#${character.codePointAt(0)};`,
  );
  return `<code>${entities.join("")}</code>`;
}

/** Text with everything escaped that Markdown, a table or GitHub's mentions would take for their own. */
export function escapeText(text: string): string {
  return escapeControls(text)
    .replace(/[\\`*_{}[\]<>#|~!$&]/g, "\\$&")
    .replaceAll("@", "`@`");
}

/** @param align one letter per column, "l" or "r"; the last one holds for further columns */
export function table(heading: readonly string[], rows: readonly (readonly string[])[], align: string): string {
  const rule = heading.map((_, column) => ((align[column] ?? align.at(-1)) === "r" ? "---:" : "---"));
  return [heading, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function changeTable(first: string, rows: readonly string[][]): string {
  return table([first, ...CHANGE_HEADING], rows, "lr");
}

/** Parts of attention are indented by a space that Markdown keeps. */
function groupLines({ groups, total }: Report): string[][] {
  return [
    ...groupRows(groups).map((row) => [
      "&nbsp;&nbsp;".repeat(row.level) + row.label,
      ...changeCells(row.parameters, "parameters"),
      ...changeCells(row.bytes, "bytes").slice(0, 3),
    ]),
    totalLine(total),
  ].map((cells) => cells.map(escapeLess));
}

function layerLines({ layers, total }: Report): string[][] {
  return [
    ...layers.map((row) => [
      row.layer === null ? "outside the layers" : `h.${row.layer}`,
      ...changeCells(row.parameters, "parameters"),
      ...changeCells(row.bytes, "bytes").slice(0, 3),
    ]),
    totalLine(total),
  ].map((cells) => cells.map(escapeLess));
}

function totalLine(total: Report["total"]): string[] {
  const cells = [...changeCells(total.parameters, "parameters"), ...changeCells(total.bytes, "bytes").slice(0, 3)];
  return ["total", ...cells].map((cell) => (cell === "" ? "" : `**${cell}**`));
}

/** "<0.001" of the MB columns. */
function escapeLess(cell: string): string {
  return cell.replace("<", "&lt;");
}

function breakdownTable(report: Report): string {
  const { tying } = report.breakdown;
  if (tying === null) return "";
  const rows = breakdownRows(report).map((cells) => cells.map(escapeLess));
  const sum = `${tying.formula} = ${formatThousands(Math.abs(tying.parameters))}`;
  return `${table(["where the difference comes from", "parameters", "%", "MB"], rows, "lr")}\n\nQ and K of every head are one projection: ${code(sum)}`;
}

function tieText(tie: TieSummary | null, heads: boolean): string {
  if (tie === null) return "";
  const { strategy, calibration } = tie;
  const text =
    calibration === null
      ? ""
      : ` (calibration text ${code(calibration.file)}, ${formatThousands(calibration.tokens)} tokens, sha256 ${code(calibration.sha256)})`;
  const line = `Tie: ${code(strategy)}${text}. Relative error of the heads: ${errorCell(tie.min)} to ${errorCell(tie.max)}, median ${errorCell(tie.median)}.`;
  if (!heads) return line;
  const summary = tieRows(tie).map((cells, index) => {
    return [...cells, (tie.layers[index]?.errors ?? []).map(errorCell).join(" ")];
  });
  return `${line}\n\n${table(["layer", "min", "median", "max", "worst head", "errors by head"], summary, "rrrrrl")}`;
}

function perplexityTable({ perplexity }: Report): string {
  if (perplexity.length === 0) return "";
  const { heading, rows } = perplexityRows(perplexity);
  const cells = rows.map(([file = "", ...rest]) => [code(file), ...rest]);
  return table(["perplexity on", ...heading.slice(1)], cells, "lr");
}

function taskTable({ tasks }: Report): string {
  if (tasks.length === 0) return "";
  const { heading, rows } = makeTaskRows(tasks);
  return table(
    heading,
    rows.map(([task = "", ...rest]) => [code(task), ...rest.map(escapeText)]),
    "llr",
  );
}

function exportTable(summary: ExportSummary): string {
  const { heading, rows, text } = exportRows(summary);
  const { source, variant, parameters } = summary;
  const cells = rows.map(([precision = "", file = "", ...rest]) => {
    return [precision, code(file), ...rest.map((cell) => escapeText(cell))];
  });
  const measured = text === null ? "" : `, measured on ${escapeText(text)}`;
  const line = `Exported, ${code(source)}: ${variant}, ${formatThousands(parameters)} parameters${measured}`;
  return `${line}\n\n${table(heading, cells, "llrrrrrrl")}`;
}

function provenanceText(side: "before" | "after", { provenance, notes }: ModelSummary): string {
  const opened = notes.map((note) => `- ${escapeText(note)}`);
  if (provenance === null) return opened.length === 0 ? "" : [`${side}, as it was opened:`, "", ...opened].join("\n");
  const { tool, source, command, history } = provenance;
  return [
    `${side}, made by ${escapeText(`${tool.name} ${tool.version}`)} from ${code(source.path)} (${formatThousands(source.parameters)} parameters):`,
    "",
    ...(command.length === 0 ? [] : [`- ${code(formatCommand(command))}`]),
    ...source.files.map(({ name, bytes, sha256 }) => `- ${code(name)}, ${formatBytes(bytes)}, sha256 ${code(sha256)}`),
    ...(history.length === 0 ? [] : [`- then: ${history.map(({ step }) => escapeText(step)).join(", ")}`]),
    ...opened,
  ].join("\n");
}
