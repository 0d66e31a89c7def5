// A report as text for a terminal and as Markdown for a pull request: the same blocks, arranged for the width of each.
import {
  type Block,
  group,
  heading,
  type Line,
  list,
  notes,
  paragraph,
  type Span,
  type Table,
} from "./render/blocks.ts";
import { formatBytes, formatCommand, formatSignedPercent, formatThousands } from "./render/format.ts";
import { renderMarkdown } from "./render/markdown.ts";
import { renderText } from "./render/text.ts";
import type { ExportSummary, LayerChange, ModelSummary, Report, TieSummary } from "./schema.ts";
import {
  changeCells,
  errorCell,
  groupRows,
  makeBreakdownTable,
  makeExportTable,
  makeOverviewTable,
  makePerplexityTable,
  makeTaskTable,
  tieRows,
  type Unit,
} from "./tables.ts";

export interface ReportTextOptions {
  /** One line for every layer. */
  layers?: boolean | undefined;
  /** Tie errors of every layer and head. */
  heads?: boolean | undefined;
}

/** Errors of heads side by side: the heads of GPT-2 small, in under 120 columns. */
const HEADS_PER_TABLE = 12;

const UNIT_TITLES: Readonly<Record<Unit, string>> = { parameters: "Parameters", bytes: "MB (10^6 bytes)" };
const UNITS: readonly Unit[] = ["parameters", "bytes"];

/** The report as lines that end in a newline each, for a terminal. */
export function renderReportText(report: Report, options: ReportTextOptions = {}): string {
  const { title, tie, groups, layers, total } = report;
  return renderText([
    ...(title === null ? [] : [heading(3, title)]),
    makeOverviewTable(report),
    ...UNITS.map((unit) => makeUnitTable(unit, "", groupRows(groups), total)),
    ...makeBreakdown(report, "Where the difference comes from"),
    ...(options.layers ? UNITS.map((unit) => makeUnitTable(unit, " by layer", layers.map(nameLayer), total)) : []),
    ...(tie === null ? [] : [group(...describeTie(tie).map((line) => paragraph(...line)))]),
    ...(tie !== null && options.heads ? makeHeadTables(tie) : []),
    ...[makePerplexityTable(report, "Perplexity"), makeTaskTable(report, "Task")].filter((table) => table !== null),
    ...report.exports.map(makeExportBlocks),
    notes(report.findings.map(({ text }) => text)),
    makeProvenance("before", report.before, false),
    makeProvenance("after", report.after, false),
  ]);
}

/** The report as GitHub-flavored Markdown; its headings start at level 3. */
export function renderReportMarkdown(report: Report, options: ReportTextOptions = {}): string {
  const { title, tie, before, after, groups, layers, total } = report;
  return renderMarkdown([
    heading(3, title ?? [{ code: before.source }, " -> ", { code: after.source }]),
    paragraph({ strong: reportLine(report) }),
    makeWideTable("group", groupRows(groups), total),
    ...makeBreakdown(report, "where the difference comes from"),
    ...(options.layers ? [makeWideTable("layer", layers.map(nameLayer), total)] : []),
    ...(tie === null
      ? []
      : [
          paragraph(
            ...describeTie(tie)
              .flatMap((line) => [...line, ". "])
              .slice(0, -1),
            ".",
          ),
        ]),
    ...(tie !== null && options.heads ? [makeHeadTable(tie)] : []),
    ...[makePerplexityTable(report, "perplexity on"), makeTaskTable(report, "task")].filter((table) => table !== null),
    ...report.exports.map(makeExportBlocks),
    notes(report.findings.map(({ text }) => text)),
    makeOverviewTable(report),
    makeProvenance("before", before, true),
    makeProvenance("after", after, true),
  ]);
}

type Row = Record<Unit, Report["total"][Unit]> & { label: string; level?: number };

/** h.0 as tensors are named; null is what lies outside the blocks. */
export function nameLayer({ layer, parameters, bytes }: LayerChange): Row {
  return { label: layer === null ? "outside the layers" : `h.${layer}`, parameters, bytes };
}

const indent = ({ label, level = 0 }: Row) => "  ".repeat(level) + label;

/** One unit: what fits a terminal. */
function makeUnitTable(unit: Unit, suffix: string, rows: readonly Row[], total: Report["total"]): Table {
  return {
    kind: "table",
    heading: [UNIT_TITLES[unit] + suffix, "before", "after", "difference", "%"],
    rows: [
      ...rows.map((row) => [indent(row), ...changeCells(row[unit], unit)]),
      ["total", ...changeCells(total[unit], unit)],
    ],
    align: "lr",
    footRows: 1,
  };
}

/** Both units side by side. */
function makeWideTable(first: string, rows: readonly Row[], total: Report["total"]): Table {
  const cells = (change: Report["total"]) => [
    ...changeCells(change.parameters, "parameters"),
    ...changeCells(change.bytes, "bytes").slice(0, 3),
  ];
  return {
    kind: "table",
    heading: [first, "parameters before", "after", "difference", "%", "MB before", "after", "difference"],
    rows: [
      ...rows.map((row) => [indent(row), ...cells(row)]),
      ["total", ...cells(total)].map((strong) => ({ strong })),
    ],
    align: "lr",
    footRows: 1,
  };
}

function makeBreakdown(report: Report, title: string): Block[] {
  const table = makeBreakdownTable(report, title);
  const { tying } = report.breakdown;
  if (table === null || tying === null) return [];
  const sum = `${tying.formula} = ${formatThousands(Math.abs(tying.parameters))}`;
  return [group(table, paragraph("Q and K of every head are one projection: ", { code: sum }))];
}

/** Two sentences without their full stops. */
function describeTie({ strategy, calibration, min, max, median }: TieSummary): Span[][] {
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
  return [["Tie: ", { code: strategy }, ...text], [errors]];
}

const TIE_HEADING = ["layer", "min", "median", "max", "worst head"];

/** The errors of the layers, and those of all their heads in one more column. */
function makeHeadTable(tie: TieSummary): Table {
  const rows = tieRows(tie).map((cells, i) => [...cells, (tie.layers[i]?.errors ?? []).map(errorCell).join(" ")]);
  return { kind: "table", heading: [...TIE_HEADING, "errors by head"], rows, align: "rrrrrl" };
}

/** The errors of the layers, then every head's: a line for each layer, in several tables where there are many heads. */
function makeHeadTables(tie: TieSummary): Table[] {
  const heads = Math.max(...tie.layers.map(({ errors }) => errors.length));
  const tables: Table[] = [{ kind: "table", heading: TIE_HEADING, rows: tieRows(tie), align: "r" }];
  for (let first = 0; first < heads; first += HEADS_PER_TABLE) {
    const columns = Array.from({ length: Math.min(HEADS_PER_TABLE, heads - first) }, (_, column) => first + column);
    const rows = tie.layers.map(({ layer, errors }) => {
      return [String(layer), ...columns.map((head) => (errors[head] === undefined ? "" : errorCell(errors[head])))];
    });
    const names = columns.map((head) => (head === first ? `head ${head}` : String(head)));
    tables.push({ kind: "table", heading: ["layer", ...names], rows, align: "r" });
  }
  return tables;
}

function makeExportBlocks(summary: ExportSummary): Block {
  const { table, text } = makeExportTable(summary);
  const { source, variant, parameters } = summary;
  const measured = text === null ? "" : `, measured on ${text}`;
  const facts = `: ${variant}, ${formatThousands(parameters)} parameters${measured}`;
  return group(paragraph("Exported, ", { code: source }, facts), table);
}

/** Who made a model, from what, and what was assumed when it was opened. In Markdown the command comes first. */
function makeProvenance(side: "before" | "after", { provenance, notes: opened }: ModelSummary, wide: boolean): Block {
  if (provenance === null)
    return opened.length === 0 ? group() : group(paragraph(`${side}, as it was opened:`), list(opened));
  const { source } = provenance;
  const files = source.files.map(({ name, bytes, sha256 }): Line => {
    const size = formatBytes(bytes);
    return wide ? [{ code: name }, `, ${size}, sha256 `, { code: sha256 }] : `sha256 ${sha256}  ${name} (${size})`;
  });
  const [command, then] = describeSteps(provenance);
  const items = wide ? [...command, ...files, ...then] : [...files, ...command, ...then];
  return group(paragraph(`${side}, `, ...describeMaker(provenance), wide ? ":" : ""), list([...items, ...opened]));
}

type Provenance = NonNullable<ModelSummary["provenance"]>;

/** The tool and the source of a model. */
export function describeMaker({ tool, source }: Provenance): Span[] {
  const from = ` (${formatThousands(source.parameters)} parameters)`;
  return [`made by ${tool.name} ${tool.version} from `, { code: source.path }, from];
}

/** The command that made a model, and the steps after it: a line each, or none. */
export function describeSteps({ command, history }: Provenance): [command: Line[], then: Line[]] {
  return [
    command.length === 0 ? [] : [{ code: formatCommand(command) }],
    history.length === 0 ? [] : [`then: ${history.map(({ step }) => step).join(", ")}`],
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
