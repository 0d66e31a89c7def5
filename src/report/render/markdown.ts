// Renders blocks as GitHub-flavored Markdown. Names from files can neither break a table nor become markup.
import { escapeTerminal } from "../../io/printable.ts";
import { type Block, type Line, renderLine, type Span, type Table } from "./blocks.ts";

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

/** Blocks with a blank line between them. */
export function renderMarkdown(blocks: readonly Block[]): string {
  return `${joinBlocks(blocks)}\n`;
}

function joinBlocks(blocks: readonly Block[]): string {
  return blocks
    .map(renderBlock)
    .filter((text) => text !== "")
    .join("\n\n");
}

function renderBlock(block: Block): string {
  switch (block.kind) {
    case "heading":
      return `${"#".repeat(block.level)} ${toMarkdown(block.text)}`;
    case "paragraph":
      return toMarkdown(block.text);
    case "table":
      return renderTable(block);
    case "list":
    case "notes":
      return block.items.map((item) => `- ${toMarkdown(item)}`).join("\n");
    case "code":
      return [`\`\`\`${block.language}`, ...block.lines, "```"].join("\n");
    case "group":
      return joinBlocks(block.blocks);
  }
}

function renderTable({ heading, rows, align }: Table): string {
  const names = heading ?? [];
  const rule = names.map((_, column) => ((align[column] ?? align.at(-1)) === "r" ? "---:" : "---"));
  const lines = [names.map(renderCell), rule, ...rows.map((row) => row.map(renderCell))];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Spaces before a label become entities, because Markdown would drop the indent. */
function renderCell(cell: Line): string {
  return toMarkdown(cell).replace(/^ +/, (spaces) => "&nbsp;".repeat(spaces.length));
}

function toMarkdown(line: Line): string {
  return renderLine(line, renderSpan);
}

function renderSpan(span: Span): string {
  if (typeof span === "string") return escapeMarkdown(span);
  if ("code" in span) return formatCode(span.code);
  return span.strong === "" ? "" : `**${escapeMarkdown(span.strong)}**`;
}

/** Escapes the characters that have a meaning in Markdown, HTML, tables or GitHub's mentions. */
export function escapeMarkdown(text: string): string {
  return escapeTerminal(text)
    .replace(/[\\`*_{}[\]#|~!$]/g, "\\$&")
    .replace(/[&<>]/g, (character) => ENTITIES[character] as string)
    .replaceAll("@", "`@`");
}

/**
 * A name as inline code. Backticks serve where nothing in the name can end them or split a table cell; otherwise every
 * character but letters and digits becomes an entity.
 */
export function formatCode(raw: string): string {
  const name = escapeTerminal(raw);
  if (/^[^\s`|\\]([^`|\\]*[^\s`|\\])?$/.test(name)) return `\`${name}\``;
  const entities = Array.from(name, (character) =>
    /^[\p{L}\p{N} ./:-]$/u.test(character) ? character : `&#${character.codePointAt(0)};`,
  );
  return `<code>${entities.join("")}</code>`;
}
