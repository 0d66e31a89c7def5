// Fits finished text to the width of a terminal: lines break at spaces, tables fold at their columns, names shorten in the middle.

/** The rule below a table's heading, from which the table's columns can be read. */
const RULE = /^-+(?: {2}-+)*$/;
/** Names in tables that have no room keep at least so many characters. */
const SHORTEST = 24;

/** Lines of at most `width` characters, but for single words that are longer. */
export function fitText(text: string, width: number): string {
  const lines = text.split("\n");
  const out: string[] = [];
  for (let i = 0; i < lines.length; ) {
    const table = readTable(lines, i);
    out.push(...(table ? fitTable(table, width) : wrapLine(lines[i] as string, width)));
    i += table?.lines.length ?? 1;
  }
  return out.join("\n");
}

/** A name with … in the middle where it is longer than `size` characters; its end tells more than its start. */
export function shortenMiddle(text: string, size: number): string {
  const characters = [...text];
  if (characters.length <= size) return text;
  const head = Math.floor((size - 1) / 3);
  return `${characters.slice(0, head).join("")}…${characters.slice(head + 1 - size).join("")}`;
}

/**
 * A line of at most `size` characters: without the details in parentheses, unless they end it, then without words of its
 * middle, for which … stands; its end tells how far it is.
 */
export function shortenLine(full: string, size: number): string {
  if (measure(full) <= size) return full;
  const line = full.replace(/ +\([^()]*\)(?= )/, "");
  if (measure(line) <= size) return line;
  const words = line.split(/ +/);
  const take = (from: readonly string[], room: number) => {
    let used = 0;
    const over = from.findIndex((word) => {
      used += measure(word) + 1;
      return used > room;
    });
    return over === -1 ? from.length : over;
  };
  const head = take(words, Math.floor(size / 3));
  const [start, rest] = [words.slice(0, head), words.slice(head)];
  const room = size - 1 - start.reduce((sum, word) => sum + measure(word) + 1, 0);
  const tail = take(rest.toReversed(), room);
  return shortenMiddle([...start, "…", ...rest.slice(rest.length - tail)].join(" "), size);
}

/** Breaks a line at spaces; what follows is indented below the text behind a label, a bullet or an indent. */
export function wrapLine(line: string, width: number): string[] {
  if (measure(line) <= width) return [line];
  const [label = ""] = /^\S[^:]{0,20}?\s{2,}(?=\S)|^ *(?:note: |[-*] )?/.exec(line) ?? [];
  const [indent = ""] = /^ */.exec(line) ?? [];
  const rest = line.slice(label.length);
  const longest = Math.max(...rest.split(/ +/).map(measure));
  if (label.trim() === "") return hangWords(indent, line.trim(), `${indent}  `, width);
  // A path that has no room beside its label gets a line of its own.
  if (label.length + longest > width) return [label.trimEnd(), ...hangWords("  ", rest, "  ", width)];
  return hangWords(label, rest, " ".repeat(label.length), width);
}

function hangWords(first: string, text: string, hang: string, width: number): string[] {
  return wrapWords(text, width - Math.max(first.length, hang.length)).map((part, i) => (i === 0 ? first : hang) + part);
}

/** Lines of words with one space between them, each of at most `width` characters unless it is one word. */
export function wrapWords(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter((each) => each !== "")) {
    const last = lines.at(-1);
    if (last !== undefined && measure(last) + 1 + measure(word) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

interface Column {
  width: number;
  right: boolean;
}

interface FoundTable {
  lines: string[];
  /** The cells of each line; null for a rule. */
  rows: (string[] | null)[];
  columns: Column[];
}

/** The table whose heading is line `start`, as `alignTable` has set it. */
function readTable(lines: readonly string[], start: number): FoundTable | null {
  const rule = lines[start + 1];
  if (rule === undefined || !RULE.test(rule) || !lines[start]) return null;
  const ends = [...rule.matchAll(/-+/g)].map(({ index, 0: dashes }) => [index, index + dashes.length] as const);
  const isRow = (line: string) =>
    line === rule ||
    (measure(line) > (ends[0]?.[1] ?? 0) && ends.slice(1).every(([at]) => cut(line, at - 2, at).trim() === ""));
  let end = start + 2;
  while (end < lines.length && isRow(lines[end] as string)) end++;
  const own = lines.slice(start, end);
  const cells = own.map((line) => (line === rule ? null : ends.map(([from, to]) => cut(line, from, to))));
  const columns = ends.map(([from, to], c) => {
    const full = cells.flatMap((row) => (row?.[c]?.trim() ? [row[c]] : []));
    const right =
      full.every((cell) => !cell.endsWith(" ") && measure(cell) === to - from) &&
      full.some((cell) => cell.startsWith(" "));
    return { width: to - from, right };
  });
  const rows = cells.map((row) => row?.map((cell, c) => (columns[c]?.right ? cell.trim() : cell.trimEnd())) ?? null);
  return { lines: own, rows, columns };
}

/** Narrows names and headings; where that is not enough, the columns go below each other, each time beside the first. */
function fitTable(table: FoundTable, width: number): string[] {
  const total = (columns: readonly Column[]) => columns.reduce((sum, column) => sum + column.width + 2, -2);
  if (total(table.columns) <= width) return table.lines;
  const narrow = narrowColumns(table, width);
  if (total(narrow) <= width)
    return drawTable(
      table,
      narrow,
      narrow.map((_, c) => c),
    );
  const [key = { width: 0, right: false }] = table.columns;
  const first = { ...key, width: Math.min(key.width, Math.max(SHORTEST, Math.floor(width / 3))) };
  const fitting = table.columns.map((column, c) => {
    const room = width - first.width - 2;
    return c === 0 ? first : { ...column, width: Math.min(column.width, Math.max(room, SHORTEST)) };
  });
  const parts: number[][] = [];
  for (const c of fitting.keys()) {
    const part = parts.at(-1);
    if (c === 0) continue;
    const grown = [...(part ?? [0]), c];
    if (part && total(grown.map((each) => fitting[each] as Column)) <= width) part.push(c);
    else parts.push([0, ...takeOwner(table, part, c), c]);
  }
  return parts.flatMap((part, i) => [...(i === 0 ? [] : [""]), ...drawTable(table, fitting, part)]);
}

/** A column under a mere sign, such as "%", means nothing without the one before it, which goes along with it. */
function takeOwner({ rows }: FoundTable, part: number[] | undefined, column: number): number[] {
  const isSign = !/[\p{L}\p{N}]/u.test(rows[0]?.[column] ?? "");
  return isSign && part && part.length > 2 ? part.splice(-1) : [];
}

/** Columns as narrow as their words, then as their shortened names, the widest first, until the table fits. */
function narrowColumns({ rows, columns }: FoundTable, width: number): Column[] {
  const narrow = columns.map((column) => ({ ...column }));
  const excess = () => narrow.reduce((sum, column) => sum + column.width + 2, -2) - width;
  const longestWord = (c: number) =>
    Math.max(
      ...rows.flatMap((row, r) => {
        const cell = row?.[c] ?? "";
        return columns[c]?.right && r > 0 ? measure(cell.trim()) : cell.trim().split(/ +/).map(measure);
      }),
    );
  for (const least of [longestWord, (c: number) => Math.min(longestWord(c), SHORTEST)])
    for (const c of [...narrow.keys()].sort((a, b) => (columns[b]?.width ?? 0) - (columns[a]?.width ?? 0))) {
      const column = narrow[c] as Column;
      column.width = Math.max(Math.min(least(c), column.width), column.width - Math.max(0, excess()));
    }
  return narrow;
}

/** The chosen columns; cells that are wider than theirs take several lines. */
function drawTable({ rows }: FoundTable, columns: readonly Column[], chosen: readonly number[]): string[] {
  const rule = chosen.map((c) => "-".repeat(columns[c]?.width ?? 0)).join("  ");
  return rows.flatMap((row) => {
    if (row === null) return [rule];
    const cells = chosen.map((c) => wrapCell(row[c] ?? "", columns[c]?.width ?? 0));
    const height = Math.max(...cells.map((lines) => lines.length));
    return Array.from({ length: height }, (_, i) =>
      cells
        .map((lines, at) => {
          const { width, right } = columns[chosen[at] as number] as Column;
          const text = lines[i] ?? "";
          const space = " ".repeat(Math.max(0, width - measure(text)));
          return right ? space + text : text + space;
        })
        .join("  ")
        .trimEnd(),
    );
  });
}

function wrapCell(cell: string, width: number): string[] {
  if (measure(cell) <= width) return [cell];
  const [indent = ""] = /^ */.exec(cell) ?? [];
  const words = cell.split(/ +/).map((word) => shortenMiddle(word, width - indent.length));
  return wrapWords(words.join(" "), width - indent.length).map((line) => indent + line);
}

function cut(line: string, from: number, to: number): string {
  return [...line].slice(from, to).join("");
}

function measure(text: string): number {
  return [...text].length;
}
