// Renders blocks as HTML, with types that keep text and markup apart, so that no name becomes an element.
import { UNPRINTABLE } from "../../io/printable.ts";
import { type Block, type Line, renderLine, type Table, toPlain } from "./blocks.ts";
import { nameNeed } from "./narrow.ts";

/** Markup that is safe to put into a page. */
export class Markup {
  readonly html: string;

  constructor(html: string) {
    this.html = html;
  }
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Unprintable characters become a box, because direction marks would reorder the text. */
export function escapeHtml(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
    .replace(UNPRINTABLE, (character) => (character === "\t" || character === "\n" ? character : "\u25a1"));
}

type Part = string | number | Markup | readonly Part[];

const render = (part: Part): string =>
  part instanceof Markup ? part.html : Array.isArray(part) ? part.map(render).join("") : escapeHtml(String(part));

/** A template whose values are escaped unless they are markup already. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((out, string, i) => out + render(parts[i - 1] as Part) + string));
}

export const NOTHING = new Markup("");

/** A block of a page. Names in tables stand as plain text. */
export function renderBlock(block: Block): Markup {
  switch (block.kind) {
    case "heading":
      return new Markup(`<h${block.level}>${toHtml(block.text)}</h${block.level}>`);
    case "paragraph":
      return new Markup(`<p>${toHtml(block.text)}</p>`);
    case "table":
      return renderTable(block);
    case "list":
    case "notes":
      return new Markup(`<ul>${block.items.map((item) => `<li>${toHtml(item)}</li>`).join("")}</ul>`);
    case "code":
      return html`<pre><code>${block.lines.join("\n")}</code></pre>`;
    case "group":
      return html`${block.blocks.map(renderBlock)}`;
  }
}

/** A table that folds, by the rules of narrow.ts, where it is too wide. */
function renderTable({ heading, rows, align }: Table): Markup {
  // The style has the first column on the left and all others on the right.
  const sideOf = (column: number) => (column > 0 && align[column] === "l" ? ' class="left"' : "");
  const names = (heading ?? []).map((cell, c) => `<th scope="col"${sideOf(c)}>${toPlainHtml(cell)}</th>`);
  const nameOf = (column: number) => {
    const name = heading?.[column];
    return name === undefined ? "" : ` data-name="${toPlainHtml(name)}"`;
  };
  const lines = rows.map(
    (row) =>
      `<tr>${row.map((cell, c) => `<td${sideOf(c)}${nameOf(c)}>${c === 0 ? breakPath(cell) : toPlainHtml(cell)}</td>`).join("")}</tr>`,
  );
  return new Markup(
    `<div class="scroll ${nameNeed(measureTable(heading ?? [], rows))}"><table><thead><tr>${names.join("")}</tr></thead><tbody>${lines.join("")}</tbody></table></div>`,
  );
}

/** CSS pixels of a character of the font size and of the space between columns, on the safe side. */
const CHARACTER = 8;
const GAP = 12;

/** A row's name may break after each slash, because paths of models are long. */
const breakPath = (cell: Line) => toPlainHtml(cell).replaceAll("/", "/<wbr>");

/** About how wide a table is; its headings break at spaces, paths in its first column after slashes, other cells do not. */
function measureTable(heading: readonly Line[], rows: readonly (readonly Line[])[]): number {
  const columns = Math.max(heading.length, ...rows.map((row) => row.length));
  const text = (cell: Line | undefined) => (cell === undefined ? "" : renderLine(cell, toPlain));
  const widths = Array.from({ length: columns }, (_, c) => {
    const words = text(heading[c]).split(" ");
    const cells = rows.map((row) => text(row[c])).flatMap((cell) => (c === 0 ? cell.split(/(?<=\/)/) : cell));
    return Math.max(...[...words, ...cells].map(({ length }) => length));
  });
  return widths.reduce((sum, characters) => sum + CHARACTER * characters + GAP, 0);
}

function toHtml(line: Line): string {
  return renderLine(line, (span) => {
    if (typeof span === "string") return escapeHtml(span);
    return "code" in span ? `<code>${toCodeHtml(span.code)}</code>` : `<strong>${escapeHtml(span.strong)}</strong>`;
  });
}

/** Flags of a command stay whole, where browsers would break the line after their hyphens. */
function toCodeHtml(code: string): string {
  return escapeHtml(code).replace(/(?<= )--?[\w-]+/g, `<span class="flag">$&</span>`);
}

function toPlainHtml(line: Line): string {
  return renderLine(line, (span) => escapeHtml(toPlain(span)));
}
