// A comparison of models as plain text and as Markdown, and the tables that its page shows as well.
import { type Block, heading, notes, type Table } from "../render/blocks.ts";
import { formatMegabytes, formatSignedPercent, formatThousands } from "../render/format.ts";
import { renderMarkdown } from "../render/markdown.ts";
import { renderText } from "../render/text.ts";
import { TENSOR_GROUPS } from "../weigh/header-tensors.ts";
import type { ComparedModel, Comparison } from "./comparison-schema.ts";

/** Weights, size and change of every model, and a column for each text or task that any of them was measured on. */
export function makeModelTable({ models }: Comparison): Table {
  const key = ({ measure, on }: ComparedModel["quality"][number]) => `${measure}, ${on}`;
  const measures = [...new Set(models.flatMap(({ quality }) => quality.map(key)))];
  const compressed = models.some(({ brotli }) => brotli !== undefined);
  const rows = models.map(({ source, weights, variant, parameters, bytes, brotli, change, quality }) => [
    { code: source },
    weights,
    variant ?? "",
    parameters === null ? "" : formatThousands(parameters),
    formatPercentCell(change?.parameters),
    formatMegabytes(bytes),
    formatPercentCell(change?.bytes),
    ...(compressed ? [brotli === undefined ? "" : formatMegabytes(brotli)] : []),
    ...measures.map((measure) => {
      const found = quality.findLast((one) => key(one) === measure);
      return found === undefined ? "" : formatScoreCell(found);
    }),
  ]);
  const names = [
    "model",
    "weights",
    "variant",
    "parameters",
    "%",
    "MB",
    "%",
    ...(compressed ? ["brotli"] : []),
    ...measures,
  ];
  return { kind: "table", heading: names, rows, align: "lllr" };
}

const formatPercentCell = (value: number | null | undefined) => (value == null ? "" : formatSignedPercent(value));

const formatScoreCell = ({ measure, value }: ComparedModel["quality"][number]) =>
  value.toFixed(measure === "perplexity" ? 2 : 4);

/** A column for each group that any model has, in their order. */
export function makeGroupTable({ models }: Comparison, unit: "parameters" | "MB"): Table {
  const amount = ({ groups }: ComparedModel, name: string) => groups.find(({ group }) => group === name);
  const shown = TENSOR_GROUPS.filter((group) =>
    models.some((model) => (unit === "MB" ? amount(model, group)?.bytes : amount(model, group)?.parameters)),
  );
  const cell = (model: ComparedModel, group: string) => {
    const found = amount(model, group);
    if (unit === "MB") return formatMegabytes(found?.bytes ?? 0);
    return found?.parameters === null ? "" : formatThousands(found?.parameters ?? 0);
  };
  const rows = models.map((model) => [{ code: model.source }, ...shown.map((group) => cell(model, group))]);
  return { kind: "table", heading: [unit === "MB" ? "MB (10^6 bytes)" : "parameters", ...shown], rows, align: "lr" };
}

function makeBlocks(comparison: Comparison): Block[] {
  const { title, models } = comparison;
  return [
    heading(3, title ?? "Models"),
    makeModelTable(comparison),
    makeGroupTable(comparison, "parameters"),
    makeGroupTable(comparison, "MB"),
    notes(models.flatMap(({ source, notes: own }) => own.map((note) => [{ code: source }, `: ${note}`]))),
  ];
}

/** Lines that end in a newline each. */
export function renderComparisonText(comparison: Comparison): string {
  return renderText(makeBlocks(comparison));
}

/** GitHub-flavored Markdown; its heading is of level 3. */
export function renderComparisonMarkdown(comparison: Comparison): string {
  return renderMarkdown(makeBlocks(comparison));
}
