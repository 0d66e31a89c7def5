// The rows of a report's tables as strings, for the plain text and the Markdown alike. Names stay raw: each escapes them.
import type { ParameterGroup } from "../model/parameters.ts";
import {
  formatBytes,
  formatCount,
  formatMegabytes,
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
  TieSummary,
} from "./schema.ts";

export type Unit = "parameters" | "bytes";

/** A line of the table by group: level 1 is a part of the level 0 above it. */
export interface GroupRow extends Record<Unit, Change> {
  label: string;
  level: 0 | 1;
}

/** How a group is called; those of attention below their sum. */
export const GROUP_LABELS: Readonly<Record<ParameterGroup, string>> = {
  embeddings: "embeddings",
  "attention.q": "q",
  "attention.k": "k",
  "attention.qk": "q = k",
  "attention.v": "v",
  "attention.out": "out",
  mlp: "MLP",
  norms: "norms",
  noise: "noise",
  head: "head",
};

/** The groups in their order, those of attention under a line with their sum. */
export function groupRows(groups: readonly GroupChange[]): GroupRow[] {
  const attention = groups.filter(isAttention);
  return groups.flatMap((row): GroupRow[] => {
    const line = { label: GROUP_LABELS[row.group], parameters: row.parameters, bytes: row.bytes };
    if (!isAttention(row)) return [{ ...line, level: 0 }];
    const part: GroupRow = { ...line, level: 1 };
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

/** Before, after, difference, percent; in numbers of parameters or in MB. */
export function changeCells(change: Change, unit: Unit): string[] {
  const [plain, withSign] =
    unit === "parameters" ? [formatThousands, formatSigned] : [formatMegabytes, formatSignedMegabytes];
  return [plain(change.before), plain(change.after), withSign(change.difference), percentCell(change)];
}

/** Nothing for nothing, "new" where there was nothing before. */
function percentCell({ difference, percent }: Change): string {
  if (difference === 0) return "";
  return percent === null ? "new" : formatSignedPercent(percent);
}

/** What the two models are: label, before, after. */
export function overviewRows({ before, after }: Report): [string, string, string][] {
  const row = (label: string, value: (model: ModelSummary) => string): [string, string, string] => [
    label,
    value(before),
    value(after),
  ];
  return [
    row("variant", ({ variant }) => variant),
    row("layers x heads", ({ config }) => `${config.n_layer} x ${config.n_head}`),
    row("width, MLP", ({ config }) => `${formatThousands(config.n_embd)}, ${formatThousands(config.n_inner)}`),
    row("positions", ({ config }) => formatThousands(config.n_positions)),
    row("vocabulary", ({ config }) => formatThousands(config.vocab_size)),
    row("precision", ({ dtypes }) => dtypes.map(({ dtype }) => dtype).join(", ")),
    row("token embedding", ({ embedding }) => `${formatPercent(embedding.percent)} of all`),
    row("head", headCell),
    row("files", ({ files }) => `${formatBytes(files.bytes)} in ${formatCount(files.names.length, "file")}`),
  ];
}

function headCell({ head }: ModelSummary): string {
  if (head.storage === "tied") return "the embedding, once";
  return `${head.storage === "copied" ? "stored twice" : "its own"}, ${formatBytes(head.bytes)}`;
}

/** The difference taken apart: label, parameters, MB. Empty when tying has no part in it. */
export function breakdownRows({ breakdown, total }: Report): string[][] {
  const { tying, noise, rest } = breakdown;
  if (tying === null) return [];
  const row = (label: string, { parameters, bytes }: Amount) => {
    const percent = total.parameters.before === 0 ? null : (100 * parameters) / total.parameters.before;
    return [
      label,
      formatSigned(parameters),
      percentCell({ before: 0, after: 0, difference: parameters, percent }),
      formatSignedMegabytes(bytes),
    ];
  };
  return [
    row(`${tying.parameters < 0 ? "tying" : "untying"} Q and K`, tying),
    row("noise parameters", noise),
    row("everything else", rest),
    row("total", { parameters: total.parameters.difference, bytes: total.bytes.difference }),
  ];
}

/** Decimals of relative errors of heads, which lie between 0 and about 1. */
const ERROR_DECIMALS = 4;

export function errorCell(error: number): string {
  return error.toFixed(ERROR_DECIMALS);
}

/** Layer, minimum, median, maximum, and the head with the largest error. */
export function tieRows(tie: TieSummary): string[][] {
  return tie.layers.map(({ layer, min, median, max, errors }) => {
    return [String(layer), ...[min, median, max].map(errorCell), String(errors.indexOf(max))];
  });
}

/** Text, tokens, before, after, difference; then KL and agreement where any row has them. */
export function perplexityRows(rows: readonly Perplexity[]): { heading: string[]; rows: string[][] } {
  const compared = rows.some(({ kl, agreement }) => kl !== null || agreement !== null);
  return {
    heading: ["text", "tokens", "before", "after", "%", ...(compared ? ["KL (nats)", "top-1 agreement"] : [])],
    rows: rows.map(({ file, tokens, before, after, kl, agreement }) => [
      file,
      formatThousands(tokens),
      before === null ? "" : before.toFixed(2),
      after === null ? "" : after.toFixed(2),
      before === null || after === null ? "" : formatSignedPercent((100 * (after - before)) / before),
      ...(compared ? [kl === null ? "" : kl.toFixed(4), agreement === null ? "" : formatPercent(100 * agreement)] : []),
    ]),
  };
}

/**
 * Precision, file, MB, ratio to the float32 weights; what was measured, where any file was; and on which text, where
 * that is not the same for all: else `text` has it.
 */
export function exportRows({ files }: Pick<ExportSummary, "files">): {
  heading: string[];
  rows: string[][];
  text: string | null;
} {
  const texts = new Set(files.flatMap(({ quality }) => (quality ? [textCell(quality)] : [])));
  const heading = [
    ...["precision", "file", "MB", "of float32"],
    ...(texts.size > 0 ? ["perplexity", "%", "KL (nats)", "top-1 agreement"] : []),
    ...(texts.size > 1 ? ["on"] : []),
  ];
  const rows = files.map(({ precision, file, bytes, ratio, quality }) => {
    const measured = quality ? [...qualityCells(quality), textCell(quality)] : Array<string>(5).fill("");
    return [precision, file, formatMegabytes(bytes), ratio.toFixed(RATIO_DECIMALS), ...measured].slice(
      0,
      heading.length,
    );
  });
  return { heading, rows, text: texts.size === 1 ? ([...texts][0] as string) : null };
}

type Quality = NonNullable<ExportSummary["files"][number]["quality"]>;

const RATIO_DECIMALS = 3;

function qualityCells({ float32, perplexity, kl, agreement }: Quality): string[] {
  return [
    perplexity.toFixed(2),
    float32 === null ? "" : formatSignedPercent((100 * (perplexity - float32)) / float32),
    kl === null ? "" : kl.toFixed(4),
    agreement === null ? "" : formatPercent(100 * agreement),
  ];
}

const textCell = ({ file, tokens }: Quality) => `${file} (${formatCount(tokens, "token")})`;
