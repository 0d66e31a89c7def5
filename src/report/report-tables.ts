// The tables of a report, as blocks that every renderer takes.
import { VARIANT_TRAITS } from "../model/variants.ts";
import { describeRanks, nameGroup } from "./attention-words.ts";
import type { Line, Table } from "./render/blocks.ts";
import {
  formatBytes,
  formatCount,
  formatMegabytes,
  formatMetric,
  formatPercent,
  formatSigned,
  formatSignedMegabytes,
  formatSignedPercent,
  formatThousands,
} from "./render/format.ts";
import type {
  Amount,
  Change,
  ExportSummary,
  GroupChange,
  ModelSummary,
  Perplexity,
  Report,
  ReportedScore,
  TieSummary,
} from "./report-schema.ts";

type Unit = "parameters" | "bytes";

/** A row of parameters and bytes: level 1 is a part of the level 0 above it. */
interface Row extends Record<Unit, Change> {
  label: string;
  level: 0 | 1;
}

const UNIT_TITLES: Readonly<Record<Unit, string>> = { parameters: "Parameters", bytes: "MB (10^6 bytes)" };

/** The groups in their order, those of attention under a line with their sum. */
export function groupRows({ groups, before, after }: Pick<Report, "groups" | "before" | "after">): Row[] {
  const variants = [before.variant, after.variant];
  const attention = groups.filter(isAttention);
  return groups.flatMap((row): Row[] => {
    const line = { label: nameGroup(row.group, variants), parameters: row.parameters, bytes: row.bytes };
    if (!isAttention(row)) return [{ ...line, level: 0 }];
    const part: Row = { ...line, level: 1 };
    if (row !== attention[0]) return [part];
    const sum = { parameters: sumChanges(attention, "parameters"), bytes: sumChanges(attention, "bytes") };
    return [{ label: "attention", level: 0, ...sum }, part];
  });
}

function isAttention({ group }: GroupChange): boolean {
  return group.startsWith("attention.");
}

function sumChanges(rows: readonly GroupChange[], unit: Unit): Change {
  const before = rows.reduce((sum, row) => sum + row[unit].before, 0);
  const after = rows.reduce((sum, row) => sum + row[unit].after, 0);
  return {
    before,
    after,
    difference: after - before,
    percent: before === 0 ? null : (100 * (after - before)) / before,
  };
}

/** A table of parameters and one of bytes, each with its sum. */
export function makeUnitTables(suffix: string, rows: readonly Row[], { total }: Report): Table[] {
  return (["parameters", "bytes"] as const).map((unit) => ({
    kind: "table",
    heading: [UNIT_TITLES[unit] + suffix, "before", "after", "difference", "%"],
    rows: [
      ...rows.map((row) => ["  ".repeat(row.level) + row.label, ...changeCells(row[unit], unit)]),
      makeSumRow(["total", ...changeCells(total[unit], unit)]),
    ],
    align: "lr",
    footRows: 1,
  }));
}

function makeSumRow(cells: readonly string[]): Line[] {
  return cells.map((strong) => ({ strong }));
}

/** The same by layer: h.0 as tensors are named, and a row for what lies outside the blocks. */
export function makeLayerTables(report: Report): Table[] {
  const rows = report.layers.map(({ layer, parameters, bytes }): Row => {
    return { label: layer === null ? "outside the layers" : `h.${layer}`, level: 0, parameters, bytes };
  });
  return makeUnitTables(" by layer", rows, report);
}

/** Before, after, difference, percent; in numbers of parameters or in MB. */
function changeCells(change: Change, unit: Unit): string[] {
  const [plain, withSign] =
    unit === "parameters" ? [formatThousands, formatSigned] : [formatMegabytes, formatSignedMegabytes];
  return [plain(change.before), plain(change.after), withSign(change.difference), percentCell(change)];
}

/** Empty where nothing changed, "new" where there was nothing before. */
function percentCell({ difference, percent }: Pick<Change, "difference" | "percent">): string {
  if (difference === 0) return "";
  return percent === null ? "new" : formatSignedPercent(percent);
}

/** The variant, sizes, precision and files of both models. */
export function makeOverviewTable({ before, after }: Report): Table {
  const ranked = [before, after].some(({ config }) => describeRanks(config) !== null);
  const row = (label: string, value: (model: ModelSummary) => string) => [label, value(before), value(after)];
  return {
    kind: "table",
    heading: ["", "before", "after"],
    rows: [
      ["model", { code: before.source }, { code: after.source }],
      row("variant", ({ variant }) => variant),
      row("layers x heads", ({ config }) => `${config.n_layer} x ${config.n_head}`),
      ...(ranked ? [row("ranks", ({ config }) => describeRanks(config) ?? `${config.n_embd / config.n_head}`)] : []),
      row("width, MLP", ({ config }) => `${formatThousands(config.n_embd)}, ${formatThousands(config.n_inner)}`),
      row("positions", ({ config }) => formatThousands(config.n_positions)),
      row("vocabulary", ({ config }) => formatThousands(config.vocab_size)),
      row("precision", ({ dtypes }) => dtypes.map(({ dtype }) => dtype).join(", ")),
      row("token embedding", ({ embedding }) => `${formatPercent(embedding.percent)} of all`),
      row("head", headCell),
      row("files", ({ files }) => `${formatBytes(files.bytes)} in ${formatCount(files.names.length, "file")}`),
      ...(before.files.brotli === undefined ? [] : [row("brotli", ({ files }) => formatBytes(files.brotli ?? 0))]),
    ],
    align: "l",
  };
}

function headCell({ head }: ModelSummary): string {
  if (head.storage === "tied") return "the embedding, once";
  return `${head.storage === "copied" ? "stored twice" : "its own"}, ${formatBytes(head.bytes)}`;
}

/** The parts of the difference; null when neither tying nor heads have any. */
export function makeBreakdownTable({ breakdown, total, before, after }: Report): Table | null {
  const { tying, heads, noise, rest } = breakdown;
  if (tying === null && heads === null) return null;
  const row = (label: string, { parameters, bytes }: Amount) => {
    const percent = total.parameters.before === 0 ? null : (100 * parameters) / total.parameters.before;
    return [
      label,
      formatSigned(parameters),
      percentCell({ difference: parameters, percent }),
      formatSignedMegabytes(bytes),
    ];
  };
  const rows = [
    ...(tying ? [row(nameTying(tying.parameters, [before, after]), tying)] : []),
    ...(heads ? [row(nameHeads([before, after]), heads)] : []),
    row("noise parameters", noise),
    row("everything else", rest),
    makeSumRow(row("total", { parameters: total.parameters.difference, bytes: total.bytes.difference })),
  ];
  const heading = ["Where the difference comes from", "parameters", "%", "MB"];
  return { kind: "table", heading, rows, align: "lr", footRows: 1 };
}

function nameTying(parameters: number, models: readonly ModelSummary[]): string {
  if (models.some(({ variant }) => VARIANT_TRAITS[variant].paired)) return "one projection for Q and K";
  return `${parameters < 0 ? "tying" : "untying"} Q and K`;
}

function nameHeads(models: readonly ModelSummary[]): string {
  const ranks = models.some(({ config }) => describeRanks(config) !== null);
  const forms = models.some(({ variant }) => VARIANT_TRAITS[variant].paired);
  return ranks ? (forms ? "ranks and forms A of the heads" : "ranks of the heads") : "forms A of the heads";
}

/** Decimals of relative errors of heads, which lie between 0 and about 1. */
const ERROR_DECIMALS = 4;

export function errorCell(error: number): string {
  return error.toFixed(ERROR_DECIMALS);
}

/** Errors of heads side by side: the heads of GPT-2 small, in under 120 columns. */
const HEADS_PER_TABLE = 12;

/** The errors of the layers, then every head's: a line for each layer, in several tables where there are many heads. */
export function makeHeadTables({ layers }: TieSummary): Table[] {
  const heads = Math.max(...layers.map(({ errors }) => errors.length));
  const spreads = layers.map(({ layer, min, median, max, errors }) => {
    return [String(layer), ...[min, median, max].map(errorCell), String(errors.indexOf(max))];
  });
  const heading = ["layer", "min", "median", "max", "worst head"];
  const tables: Table[] = [{ kind: "table", heading, rows: spreads, align: "r" }];
  for (let first = 0; first < heads; first += HEADS_PER_TABLE) {
    const columns = Array.from({ length: Math.min(HEADS_PER_TABLE, heads - first) }, (_, column) => first + column);
    const rows = layers.map(({ layer, errors }) => {
      return [String(layer), ...columns.map((head) => (errors[head] === undefined ? "" : errorCell(errors[head])))];
    });
    const names = columns.map((head) => (head === first ? `head ${head}` : String(head)));
    tables.push({ kind: "table", heading: ["layer", ...names], rows, align: "r" });
  }
  return tables;
}

/** The texts with tokens, before, after and difference; KL and agreement where any row has them. Null without texts. */
export function makePerplexityTable({ perplexity }: Report): Table | null {
  if (perplexity.length === 0) return null;
  const compared = perplexity.some(({ kl, agreement }) => kl !== null || agreement !== null);
  const rows = perplexity.map(({ file, tokens, before, after, kl, agreement }) => [
    { code: file },
    formatThousands(tokens),
    before === null ? "" : before.toFixed(2),
    after === null ? "" : after.toFixed(2),
    before === null || after === null ? "" : formatSignedPercent((100 * (after - before)) / before),
    ...(compared ? comparedCells({ kl, agreement }) : []),
  ]);
  const heading = ["Perplexity", "tokens", "before", "after", "%", ...(compared ? COMPARED : [])];
  return { kind: "table", heading, rows, align: "lr" };
}

/** Columns that compare the predictions of two models. */
const COMPARED = ["KL (nats)", "top-1 agreement"];

function comparedCells({ kl, agreement }: Pick<Perplexity, "kl" | "agreement">): string[] {
  return [kl === null ? "" : kl.toFixed(4), agreement === null ? "" : formatPercent(100 * agreement)];
}

/** Tasks with before, after and difference in points: of 100 for accuracy and F1, of 1 for correlations. Null without tasks. */
export function makeTaskTable({ tasks }: Pick<Report, "tasks">): Table | null {
  if (tasks.length === 0) return null;
  const rows = tasks.map(({ task, metric, before, after }) => [
    { code: task },
    metric,
    formatScore(metric, before),
    formatScore(metric, after),
    before === null || after === null ? "" : formatPoints(metric, after.mean - before.mean),
  ]);
  return { kind: "table", heading: ["Task", "metric", "before", "after", "difference"], rows, align: "llr" };
}

/** "80.39 %", or of several seeds "80.39 % ± 0.64 %". */
function formatScore(metric: string, score: ReportedScore | null): string {
  if (score === null) return "";
  const spread = score.spread === null ? "" : ` ± ${formatMetric(metric, score.spread)}`;
  return `${formatMetric(metric, score.mean)}${spread}`;
}

function formatPoints(metric: string, difference: number): string {
  const text = formatMetric(metric, difference).replace(" %", "");
  return difference > 0 ? `+${text}` : text;
}

/**
 * Precision, file, MB, MB after brotli where they were measured, ratio to the float32 weights; quality, where any file was measured. The text that it was measured
 * on is `text` where all have the same, and a column otherwise.
 */
export function makeExportTable({ files }: Pick<ExportSummary, "files">): { table: Table; text: string | null } {
  const texts = new Set(files.flatMap(({ quality }) => (quality ? [textCell(quality)] : [])));
  const compressed = files.some(({ brotli }) => brotli !== undefined);
  const heading = [
    ...["precision", "file", "MB", ...(compressed ? ["brotli"] : []), "of float32"],
    ...(texts.size > 0 ? ["perplexity", "%", ...COMPARED] : []),
    ...(texts.size > 1 ? ["on"] : []),
  ];
  const rows = files.map(({ precision, file, bytes, brotli, ratio, quality }) => {
    const measured = quality ? [...qualityCells(quality), textCell(quality)] : Array<string>(5).fill("");
    const sizes = [
      formatMegabytes(bytes),
      ...(compressed ? [brotli === undefined ? "" : formatMegabytes(brotli)] : []),
    ];
    const cells = [precision, { code: file }, ...sizes, ratio.toFixed(RATIO_DECIMALS), ...measured];
    return cells.slice(0, heading.length);
  });
  const [text = null] = texts.size === 1 ? texts : [];
  return { table: { kind: "table", heading, rows, align: compressed ? "llrrrrrrrl" : "llrrrrrrl" }, text };
}

type Quality = NonNullable<ExportSummary["files"][number]["quality"]>;

const RATIO_DECIMALS = 3;

function qualityCells({ float32, perplexity, kl, agreement }: Quality): string[] {
  const change = float32 === null ? "" : formatSignedPercent((100 * (perplexity - float32)) / float32);
  return [perplexity.toFixed(2), change, ...comparedCells({ kl, agreement })];
}

const textCell = ({ file, tokens }: Quality) => `${file} (${formatCount(tokens, "token")})`;
