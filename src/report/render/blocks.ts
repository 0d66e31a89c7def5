// The blocks that every report is made of. Their text is raw: the renderer of each target escapes it.

/** Plain text; a name, path or command, which Markdown sets as code; or text in bold where the target has it. */
export type Span = string | { code: string } | { strong: string };

/** Text of one line. */
export type Line = Span | readonly Span[];

export interface Table {
  kind: "table";
  /** Null for a table without a heading, which only a terminal shows. */
  heading: readonly Line[] | null;
  rows: readonly (readonly Line[])[];
  /** One letter a column, "l" or "r"; the last one holds for further columns. Pages align by their style. */
  align: string;
  /** How many of the last rows a terminal sets apart by a rule, as it does sums. */
  footRows?: number | undefined;
}

export type Block =
  | { kind: "heading"; level: number; text: Line }
  | { kind: "paragraph"; text: Line }
  | Table
  | { kind: "list"; items: readonly Line[] }
  /** Facts that a reader should not overlook. */
  | { kind: "notes"; items: readonly Line[] }
  /** Lines of a program or configuration in some language. */
  | { kind: "code"; language: string; lines: readonly string[] }
  /** Blocks that belong together: a terminal puts no blank line between them. */
  | { kind: "group"; blocks: readonly Block[] };

export function heading(level: number, text: Line): Block {
  return { kind: "heading", level, text };
}

export function paragraph(...text: readonly Span[]): Block {
  return { kind: "paragraph", text };
}

export function list(items: readonly Line[]): Block {
  return { kind: "list", items };
}

export function notes(items: readonly Line[]): Block {
  return { kind: "notes", items };
}

export function group(...blocks: readonly Block[]): Block {
  return { kind: "group", blocks };
}

/** The spans of a line, each turned into text by `render`, one after the other. */
export function renderLine(line: Line, render: (span: Span) => string): string {
  return Array.isArray(line) ? line.map(render).join("") : render(line as Span);
}

/** The text of a span, whatever it is. */
export function toPlain(span: Span): string {
  if (typeof span === "string") return span;
  return "code" in span ? span.code : span.strong;
}
