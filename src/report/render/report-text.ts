// A report as plain text for a terminal: aligned columns, no colours; names are made harmless.

import {
  breakdownRows,
  changeCells,
  errorCell,
  exportRows,
  groupRows,
  overviewRows,
  perplexityRows,
  tieRows,
  type Unit,
} from "../rows.ts";
import type { ExportSummary, ModelSummary, Report, TieSummary } from "../schema.ts";
import { makeTaskRows } from "../scores.ts";
import {
  alignTable,
  escapeControls,
  formatBytes,
  formatCommand,
  formatSignedPercent,
  formatThousands,
} from "./format.ts";

export interface ReportTextOptions {
  /** One line for every layer. */
  layers?: boolean | undefined;
  /** Tie errors of every layer and head. */
  heads?: boolean | undefined;
}

/** Errors of heads side by side: the heads of GPT-2 small, in under 120 columns. */
const HEADS_PER_TABLE = 12;

const UNIT_TITLES: Record<Unit, string> = { parameters: "Parameters", bytes: "MB (10^6 bytes)" };
const CHANGE_HEADING = ["before", "after", "difference", "%"];

/** The report as lines that end in a newline each. */
export function renderReportText(report: Report, options: ReportTextOptions = {}): string {
  const blocks = [
    headingBlock(report),
    groupTable(report, "parameters"),
    groupTable(report, "bytes"),
    breakdownBlock(report),
    ...(options.layers ? [layerTable(report, "parameters"), layerTable(report, "bytes")] : []),
    tieBlock(report.tie, options.heads ?? false),
    perplexityBlock(report),
    taskBlock(report),
    ...report.exports.map(exportBlock),
    report.findings.map(({ text }) => `note: ${escapeControls(text)}`),
    provenanceBlock("before", report.before),
    provenanceBlock("after", report.after),
  ];
  return `${blocks
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n")}\n`;
}

function headingBlock(report: Report): string[] {
  const { title, before, after } = report;
  const rows = [
    ["", "before", "after"],
    ["model", escapeControls(before.source), escapeControls(after.source)],
    ...overviewRows(report),
  ];
  return [
    ...(title === null ? [] : [escapeControls(title), ""]),
    ...alignTable(rows, { align: "l", rulesBefore: [1] }),
  ];
}

function groupTable({ groups, total }: Report, unit: Unit): string[] {
  const rows = [
    [UNIT_TITLES[unit], ...CHANGE_HEADING],
    ...groupRows(groups).map((row) => ["  ".repeat(row.level) + row.label, ...changeCells(row[unit], unit)]),
    ["total", ...changeCells(total[unit], unit)],
  ];
  return alignTable(rows, { align: "lr", rulesBefore: [1, rows.length - 1] });
}

function layerTable({ layers, total }: Report, unit: Unit): string[] {
  const rows = [
    [`${UNIT_TITLES[unit]} by layer`, ...CHANGE_HEADING],
    ...layers.map((row) => [layerLabel(row.layer), ...changeCells(row[unit], unit)]),
    ["total", ...changeCells(total[unit], unit)],
  ];
  return alignTable(rows, { align: "lr", rulesBefore: [1, rows.length - 1] });
}

/** h.0 as tensors are named; null is what lies outside the blocks. */
function layerLabel(layer: number | null): string {
  return layer === null ? "outside the layers" : `h.${layer}`;
}

function breakdownBlock(report: Report): string[] {
  const rows = breakdownRows(report);
  const { tying } = report.breakdown;
  if (tying === null) return [];
  const heading = ["Where the difference comes from", "parameters", "%", "MB"];
  const table = alignTable([heading, ...rows], { align: "lr", rulesBefore: [1, rows.length] });
  return [
    ...table,
    `Q and K of every head are one projection: ${tying.formula} = ${formatThousands(Math.abs(tying.parameters))}`,
  ];
}

function tieBlock(tie: TieSummary | null, heads: boolean): string[] {
  if (tie === null) return [];
  const lines = [
    `Tie: ${escapeControls(tie.strategy)}${calibrationText(tie)}`,
    `Relative error of the heads: ${errorCell(tie.min)} to ${errorCell(tie.max)}, median ${errorCell(tie.median)}`,
  ];
  if (!heads) return lines;
  const summary = alignTable([["layer", "min", "median", "max", "worst head"], ...tieRows(tie)], {
    align: "r",
    rulesBefore: [1],
  });
  return [...lines, "", ...summary, ...headTables(tie)];
}

function calibrationText({ calibration }: TieSummary): string {
  if (calibration === null) return "";
  const { file, tokens, sha256 } = calibration;
  return ` (calibration text ${escapeControls(file)}, ${formatThousands(tokens)} tokens, sha256 ${sha256})`;
}

/** Every head's error: a line for each layer, in several tables where there are many heads. */
function headTables({ layers }: TieSummary): string[] {
  const heads = Math.max(...layers.map(({ errors }) => errors.length));
  const lines: string[] = [];
  for (let first = 0; first < heads; first += HEADS_PER_TABLE) {
    const columns = Array.from({ length: Math.min(HEADS_PER_TABLE, heads - first) }, (_, column) => first + column);
    const rows = layers.map(({ layer, errors }) => {
      return [String(layer), ...columns.map((head) => (errors[head] === undefined ? "" : errorCell(errors[head])))];
    });
    const heading = ["layer", ...columns.map((head) => (head === first ? `head ${head}` : String(head)))];
    lines.push("", ...alignTable([heading, ...rows], { align: "r", rulesBefore: [1] }));
  }
  return lines;
}

function perplexityBlock({ perplexity }: Report): string[] {
  if (perplexity.length === 0) return [];
  const { heading, rows } = perplexityRows(perplexity);
  const cells = rows.map(([file = "", ...rest]) => [escapeControls(file), ...rest]);
  const titled = ["Perplexity", ...heading.slice(1)];
  return alignTable([titled, ...cells], { align: "lr", rulesBefore: [1] });
}

function taskBlock({ tasks }: Report): string[] {
  if (tasks.length === 0) return [];
  const { heading, rows } = makeTaskRows(tasks);
  const cells = [["Task", ...heading.slice(1)], ...rows.map((row) => row.map(escapeControls))];
  return alignTable(cells, { align: "llr", rulesBefore: [1] });
}

function exportBlock(summary: ExportSummary): string[] {
  const { heading, rows, text } = exportRows(summary);
  const { source, variant, parameters } = summary;
  const measured = text === null ? "" : `, measured on ${escapeControls(text)}`;
  return [
    `Exported, ${escapeControls(source)}: ${variant}, ${formatThousands(parameters)} parameters${measured}`,
    ...alignTable([heading, ...rows.map((cells) => cells.map(escapeControls))], {
      align: "llrrrrrrl",
      rulesBefore: [1],
    }),
  ];
}

/** Who made a model, from what, and what was assumed when it was opened. */
function provenanceBlock(side: "before" | "after", { provenance, notes }: ModelSummary): string[] {
  const opened = notes.map((note) => `  ${escapeControls(note)}`);
  if (provenance === null) return opened.length === 0 ? [] : [`${side}, as it was opened:`, ...opened];
  const { tool, source, command, history } = provenance;
  return [
    `${side}, made by ${escapeControls(tool.name)} ${escapeControls(tool.version)} from ${escapeControls(source.path)} (${formatThousands(source.parameters)} parameters)`,
    ...source.files.map(
      ({ name, bytes, sha256 }) => `  sha256 ${sha256}  ${escapeControls(name)} (${formatBytes(bytes)})`,
    ),
    ...(command.length === 0 ? [] : [`  ${escapeControls(formatCommand(command))}`]),
    ...(history.length === 0 ? [] : [`  then: ${history.map(({ step }) => escapeControls(step)).join(", ")}`]),
    ...opened,
  ];
}

/** One line that sums a report up: "124,439,808 -> 117,352,704 parameters (-5.70 %), 497.8 MB -> 469.4 MB". */
export function reportLine({ total }: Report): string {
  const { parameters, bytes } = total;
  const percent = parameters.percent === null ? "" : ` (${formatSignedPercent(parameters.percent)})`;
  return (
    `${formatThousands(parameters.before)} -> ${formatThousands(parameters.after)} parameters${percent}, ` +
    `${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}`
  );
}
