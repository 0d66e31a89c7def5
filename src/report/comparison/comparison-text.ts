// A comparison of models as plain text and as Markdown. Names from files can neither move a cursor nor break a table.
import { alignTable, megabytes, printable, signedPercent, thousands } from "../render/format.ts";
import { code, escapeText, table } from "../render/report-markdown.ts";
import { TENSOR_GROUPS } from "../weigh/header-tensors.ts";
import type { ComparedModel, Comparison } from "./comparison-schema.ts";

/** Heading and cells; the first cell names the model, raw. */
export interface ComparisonTable {
  heading: string[];
  rows: string[][];
}

/** Weights, size and change of every model, and a column for each text or task that any of them was measured on. */
export function modelTable({ models }: Comparison): ComparisonTable {
  const key = ({ measure, on }: ComparedModel["quality"][number]) => `${measure}, ${on}`;
  const measures = [...new Set(models.flatMap(({ quality }) => quality.map(key)))];
  const rows = models.map(({ source, weights, variant, parameters, bytes, change, quality }) => [
    source,
    weights,
    variant ?? "",
    parameters === null ? "" : thousands(parameters),
    percentCell(change?.parameters),
    megabytes(bytes),
    percentCell(change?.bytes),
    ...measures.map((measure) => {
      const found = quality.findLast((one) => key(one) === measure);
      return found === undefined ? "" : scoreCell(found);
    }),
  ]);
  return { heading: ["model", "weights", "variant", "parameters", "%", "MB", "%", ...measures], rows };
}

const percentCell = (value: number | null | undefined) => (value == null ? "" : signedPercent(value));

const scoreCell = ({ measure, value }: ComparedModel["quality"][number]) =>
  value.toFixed(measure === "perplexity" ? 2 : 4);

/** A column for each group that any model has, in their order. */
export function groupTable({ models }: Comparison, unit: "parameters" | "MB"): ComparisonTable {
  const amount = ({ groups }: ComparedModel, name: string) => groups.find(({ group }) => group === name);
  const shown = TENSOR_GROUPS.filter((group) =>
    models.some((model) => (unit === "MB" ? amount(model, group)?.bytes : amount(model, group)?.parameters)),
  );
  const cell = (model: ComparedModel, group: string) => {
    const found = amount(model, group);
    if (unit === "MB") return megabytes(found?.bytes ?? 0);
    return found?.parameters === null ? "" : thousands(found?.parameters ?? 0);
  };
  const rows = models.map((model) => [model.source, ...shown.map((group) => cell(model, group))]);
  return { heading: [unit === "MB" ? "MB (10^6 bytes)" : "parameters", ...shown], rows };
}

const ALIGN = "lllr";

/** Lines that end in a newline each. */
export function comparisonText(comparison: Comparison): string {
  const lines = ({ heading, rows }: ComparisonTable, align: string) =>
    alignTable(
      [heading, ...rows].map((row) => row.map(printable)),
      { align, rulesBefore: [1] },
    );
  const blocks = [
    ...(comparison.title === null ? [] : [[printable(comparison.title)]]),
    lines(modelTable(comparison), ALIGN),
    lines(groupTable(comparison, "parameters"), "lr"),
    lines(groupTable(comparison, "MB"), "lr"),
    comparison.models.flatMap(({ source, notes }) => notes.map((note) => `note: ${printable(`${source}: ${note}`)}`)),
  ];
  return `${blocks
    .filter((block) => block.length > 0)
    .map((block) => block.join("\n"))
    .join("\n\n")}\n`;
}

/** GitHub-flavoured Markdown; its heading is of level 3. */
export function comparisonMarkdown(comparison: Comparison): string {
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
    cells(modelTable(comparison), ALIGN),
    cells(groupTable(comparison, "parameters"), "lr"),
    cells(groupTable(comparison, "MB"), "lr"),
    notes.join("\n"),
  ];
  return `${blocks.filter((block) => block !== "").join("\n\n")}\n`;
}
