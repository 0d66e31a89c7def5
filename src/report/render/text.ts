// Renders blocks as plain text for a terminal: aligned columns, no colors, unprintable characters made visible.
import { escapeTerminal } from "../../io/printable.ts";
import { type Block, type Line, renderLine, type Table, toPlain } from "./blocks.ts";

/** Lines that end in a newline each, with a blank line between blocks. */
export function renderText(blocks: readonly Block[]): string {
  const texts = blocks.map((block) => renderLines(block).join("\n"));
  return `${texts.filter((text) => text !== "").join("\n\n")}\n`;
}

function renderLines(block: Block): string[] {
  switch (block.kind) {
    case "heading":
    case "paragraph":
      return [toText(block.text)];
    case "table":
      return renderTable(block);
    case "list":
      return block.items.map((item) => `  ${toText(item)}`);
    case "notes":
      return block.items.map((item) => `note: ${toText(item)}`);
    case "code":
      return block.lines.map((line) => `  ${escapeTerminal(line)}`);
    case "group":
      return block.blocks.flatMap(renderLines);
  }
}

function renderTable({ heading, rows, align, footRows = 0 }: Table): string[] {
  const all = heading === null ? rows : [heading, ...rows];
  const cells = all.map((row) => row.map(toText));
  return alignTable(cells, {
    align,
    rulesBefore: [...(heading === null ? [] : [1]), ...(footRows > 0 ? [cells.length - footRows] : [])],
  });
}

function toText(line: Line): string {
  return renderLine(line, (span) => escapeTerminal(toPlain(span)));
}

export interface TableOptions {
  /** One letter per column: "l" or "r"; the last one holds for further columns. */
  align: string;
  /** Rows from this index on come below a line; 1 underlines a heading. */
  rulesBefore?: readonly number[];
}

/** Rows of cells as lines of equal column widths, two spaces apart, without trailing spaces. */
export function alignTable(rows: readonly (readonly string[])[], options: TableOptions): string[] {
  const { align, rulesBefore = [] } = options;
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, measureWidth(cell));
  }
  const rule = widths.map((size) => "-".repeat(size)).join("  ");
  return rows.flatMap((row, index) => {
    const cells = row.map((cell, column) => padCell(cell, widths[column] ?? 0, align[column] ?? align.at(-1) ?? "l"));
    const line = cells.join("  ").trimEnd();
    return rulesBefore.includes(index) ? [rule, line] : [line];
  });
}

function padCell(cell: string, size: number, align: string): string {
  const space = " ".repeat(size - measureWidth(cell));
  return align === "r" ? space + cell : cell + space;
}

function measureWidth(cell: string): number {
  return [...cell].length;
}
