// Fits the texts around a command's flags, which are written in lines of 120 characters, to the width of the terminal.
import { wrapLine, wrapWords } from "../report/render/fit.ts";

/** Before what goes on from an example. */
const INDENT = "      ";

/** A help with its paragraphs set anew; commander has set the flags already. */
export function fitHelp(help: string, width: number): string {
  return joinParagraphs(help.split("\n"))
    .flatMap((line) => {
      if (/^ *\$ /.test(line)) return wrapCommand(line, width);
      return /^\S/.test(line) ? wrapWords(line, width) : wrapLine(line, width);
    })
    .join("\n");
}

/** Lines without an indent go on in the next one, unless they end a sentence or a heading. */
function joinParagraphs(lines: readonly string[]): string[] {
  const joined: string[] = [];
  for (const line of lines) {
    const last = joined.at(-1);
    if (last !== undefined && /^\S.*[^.:;]$/.test(last) && /^\S/.test(line))
      joined[joined.length - 1] = `${last} ${line}`;
    else joined.push(line);
  }
  return joined;
}

/** An example over several lines, which a shell reads as one; its remark follows on a line of its own. */
function wrapCommand(line: string, width: number): string[] {
  if (line.length <= width) return [line];
  const [command = "", remark] = line.split(/\s+(?=# )/);
  const parts = wrapWords(command.trim(), width - " \\".length - INDENT.length);
  const lines = parts.map((part, i) => `${i === 0 ? "  " : INDENT}${part}${i < parts.length - 1 ? " \\" : ""}`);
  return remark === undefined ? lines : [...lines, `${INDENT}${remark}`];
}
