// A report as blocks: text for a terminal and Markdown for a pull request show them all, the page shows some.

import { formatCommand } from "../io/printable.ts";
import { describeRounding } from "../model/quantization.ts";
import { findForm, nameLoss } from "./attention-words.ts";
import { type Block, group, heading, type Line, list, notes, paragraph, type Span } from "./render/blocks.ts";
import { formatBytes, formatSignedPercent, formatThousands } from "./render/format.ts";
import { renderMarkdown } from "./render/markdown.ts";
import { renderText } from "./render/text.ts";
import type { ExportSummary, ModelSummary, Report, TieSummary } from "./report-schema.ts";
import {
  errorCell,
  groupRows,
  makeBreakdownTable,
  makeExportTable,
  makeHeadTables,
  makeLayerTables,
  makeOverviewTable,
  makePerplexityTable,
  makeTaskTable,
  makeUnitTables,
} from "./report-tables.ts";

export interface ReportTextOptions {
  /** One line for every layer. */
  layers?: boolean | undefined;
  /** Tie errors of every layer and head. */
  heads?: boolean | undefined;
}

/** The report as lines that end in a newline each, for a terminal. */
export function renderReportText(report: Report, options: ReportTextOptions = {}): string {
  return renderText(makeReportBlocks(report, options));
}

/** The report as GitHub-flavored Markdown; its heading is of level 3. */
export function renderReportMarkdown(report: Report, options: ReportTextOptions = {}): string {
  return renderMarkdown(makeReportBlocks(report, options));
}

function makeReportBlocks(report: Report, options: ReportTextOptions): Block[] {
  const { title, tie, before, after } = report;
  return [
    heading(3, title ?? [{ code: before.source }, " -> ", { code: after.source }]),
    paragraph({ strong: reportLine(report) }),
    makeOverviewTable(report),
    ...makeUnitTables("", groupRows(report), report),
    ...makeBreakdown(report),
    ...(options.layers ? makeLayerTables(report) : []),
    ...(tie === null ? [] : [describeTie(tie, after)]),
    ...(tie !== null && options.heads ? makeHeadTables(tie) : []),
    ...makeQualityBlocks(report),
    notes(report.findings.map(({ text }) => text)),
    ...makeProvenance("before", before),
    ...makeProvenance("after", after),
  ];
}

/** Perplexities, scores on tasks, and exports. */
export function makeQualityBlocks(report: Report): Block[] {
  const tables = [makePerplexityTable(report), makeTaskTable(report)].filter((table) => table !== null);
  return [...tables, ...report.exports.map(makeExportBlocks)];
}

function makeBreakdown(report: Report): Block[] {
  const table = makeBreakdownTable(report);
  if (table === null) return [];
  const { tying, heads } = report.breakdown;
  const sum = ({ formula, parameters }: { formula: string; parameters: number }): Span => {
    return { code: `${formula} = ${formatThousands(Math.abs(parameters))}` };
  };
  const formula = heads?.formula ?? null;
  return [
    group(
      table,
      ...(tying ? [paragraph("Q and K of every head are one projection: ", sum(tying))] : []),
      ...(heads && formula ? [paragraph("The heads differ from GPT-2's by ", sum({ ...heads, formula }))] : []),
    ),
  ];
}

function describeTie({ strategy, calibration, min, max, median }: TieSummary, after: ModelSummary): Block {
  const { noun } = nameLoss(findForm(after.variant, after.provenance?.history));
  const text: Span[] =
    calibration === null
      ? []
      : [
          " (calibration text ",
          { code: calibration.file },
          `, ${formatThousands(calibration.tokens)} tokens, sha256 `,
          { code: calibration.sha256 },
          ")",
        ];
  const errors = `Relative error of the heads: ${errorCell(min)} to ${errorCell(max)}, median ${errorCell(median)}`;
  return group(paragraph(noun === "tie" ? "Tie: " : "Low rank: ", { code: strategy }, ...text), paragraph(errors));
}

function makeExportBlocks(summary: ExportSummary): Block {
  const { table, text } = makeExportTable(summary);
  const { source, variant, parameters } = summary;
  const measured = text === null ? "" : `, measured on ${text}`;
  const facts = `: ${variant}, ${formatThousands(parameters)} parameters${measured}`;
  return group(paragraph("Exported, ", { code: source }, facts), table, ...describeOthers(summary));
}

function describeOthers({ others }: ExportSummary): Block[] {
  if (!others || others.names.length === 0) return [];
  const sizes = `${formatBytes(others.bytes)}, ${formatBytes(others.brotli)} after brotli`;
  return [paragraph(`A browser also downloads ${others.names.join(", ")}: ${sizes}`)];
}

/** Who made a model, from what, by which commands, and what was assumed when it was opened; empty where nothing is known. */
export function makeProvenance(
  label: string,
  { provenance, notes: opened }: Pick<ModelSummary, "provenance" | "notes">,
): Block[] {
  if (provenance === null)
    return opened.length === 0 ? [] : [group(paragraph(`${label}, as it was opened:`), list(opened))];
  const { tool, source, command, cuts, history, quantization } = provenance;
  const files = source.files.map(({ name, bytes, sha256 }): Line => {
    return [{ code: name }, `, ${formatBytes(bytes)}, sha256 `, { code: sha256 }];
  });
  const made = command.length === 0 ? [] : [{ code: formatCommand(command) }];
  const then = history.map(({ step, command: own }): Line => {
    return Array.isArray(own) ? [`then ${step}: `, { code: formatCommand(own.map(String)) }] : `then ${step}`;
  });
  const rounding = quantization === null ? [] : [`trained for ${describeRounding(quantization)}`];
  const maker = `${label}, made by ${tool.name} ${tool.version} from `;
  return [
    group(
      paragraph(maker, { code: source.path }, ` (${formatThousands(source.parameters)} parameters):`),
      list([...files, ...made, ...cuts.map(({ text }) => text), ...then, ...rounding, ...opened]),
    ),
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
