// A comparison of models as plain text and as Markdown. Names from files can neither move a cursor nor break a table.
import { alignTable, escapeControls, formatMegabytes, formatSignedPercent, formatThousands } from "../render/format.ts";
import { code, escapeText, table } from "../render/report-markdown.ts";
import { TENSOR_GROUPS } from "../weigh/header-tensors.ts";
import type { ComparedModel, Comparison } from "./comparison-schema.ts";

/** Heading and cells; the first cell names the model, raw. */
export interface ComparisonTable {
  heading: string[];
  rows: string[][];
}

/** Weights, size and change of every model, and a column for each text or task that any of them was measured on. */
export function makeModelTable({ models }: Comparison): ComparisonTable {
  const key = ({ measure, on }: ComparedModel["quality"][number]) => `${measure}, ${on}`;
  const measures = [...new Set(models.flatMap(({ quality }) => quality.map(key)))];
  const rows = models.map(({ source, weights, variant, parameters, bytes, change, quality }) => [
    source,
    weights,
    variant ?? "",
    parameters === null ? "" : formatThousands(parameters),
    formatPercentCell(change?.parameters),
    formatMegabytes(bytes),
    formatPercentCell(change?.bytes),
    ...measures.map((measure) => {
      const found = quality.findLast((one) => key(one) === measure);
      return found === undefined ? "" : formatScoreCell(found);
    }),
  ]);
  return { heading: ["model", "weights", "variant", "parameters", "%", "MB", "%", ...measures], rows };
}

const formatPercentCell = (value: number | null | undefined) => (value == null ? "" : formatSignedPercent(value));

const formatScoreCell = ({ measure, value }: ComparedModel["quality"][number]) =>
  value.toFixed(measure === "perplexity" ? 2 : 4);

/** A column for each group that any model has, in their order. */
export function makeGroupTable({ models }: Comparison, unit: "parameters" | "MB"): ComparisonTable {
  const amount = ({ groups }: ComparedModel, name: string) => groups.find(({ group }) => group === name);
  const shown = TENSOR_GROUPS.filter((group) =>
    models.some((model) => (unit === "MB" ? amount(model, group)?.bytes : amount(model, group)?.parameters)),
  );
  const cell = (model: ComparedModel, group: string) => {
    const found = amount(model, group);
    if (unit === "MB") return formatMegabytes(found?.bytes ?? 0);
    return found?.parameters === null ? "" : formatThousands(found?.parameters ?? 0);
  };
  const rows = models.map((model) => [model.source, ...shown.map((group) => cell(model, group))]);
  return { heading: [unit === "MB" ? "MB (10^6 bytes)" : "parameters", ...shown], rows };
}

const ALIGN = "lllr";

/** Lines that end in a newline each. */
export function renderComparisonText(comparison: Comparison): string {
  const lines = ({ heading, rows }: ComparisonTable, align: string) =>
    alignTable(
      [heading, ...rows].map((row) => row.map(escapeControls)),
      { align, rulesBefore: [1] },
    );
  const blocks = [
    ...(comparison.title === null ? [] : [[escapeControls(comparison.title)]]),
    lines(makeModelTable(comparison), ALIGN),
    lines(makeGroupTable(comparison, "parameters"), "lr"),
    lines(makeGroupTable(comparison, "MB"), "lr"),
    comparison.models.flatMap(({ source, notes }) =>
      notes.map((note) => `note: ${escapeControls(`${source}: ${note}`)}`),
    ),
  ];
  return `${blocks
    .filter((block) => block.length > 0)
    .map((block) => block.join("\n"))
    .join("\n\n")}\n`;
}

/** GitHub-flavoured Markdown; its heading is of level 3. */
export function renderComparisonMarkdown(comparison: Comparison): string {
  const { title, models } = comparison;
  const cells = ({ heading, rows }: ComparisonTable, align: string) =>
    table(
      heading.map(escapeText),
      rows.map(([source = "", ...rest]) => [code(source), ...rest.map((cell) => escapeText(cell))]),
      align,
    );
  const notes = models.flatMap((model) => model.notes.map((note) => `- ${code(model.source)}: ${escapeText(note)}`));
  const blocks = [
    `### ${title === null ? "Models" : escapeText(title)}`,
    cells(makeModelTable(comparison), ALIGN),
    cells(makeGroupTable(comparison, "parameters"), "lr"),
    cells(makeGroupTable(comparison, "MB"), "lr"),
    notes.join("\n"),
  ];
  return `${blocks.filter((block) => block !== "").join("\n\n")}\n`;
}
