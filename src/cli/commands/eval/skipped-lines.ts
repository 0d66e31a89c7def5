// The flag --skip-invalid leaves out the lines of a task's files that do not parse, and lists them.
import type { Command } from "commander";
import { formatCount } from "../../../report/render/format.ts";
import type { TaskReading } from "../../../tasks/task-file.ts";
import { type Io, note, type OutputFlags } from "../../terminal.ts";

const SHOWN = 10;

export function addSkipFlag(command: Command): Command {
  return command.option("--skip-invalid", "leave lines of the task's files out that do not parse (QQP has some)");
}

export class SkippedLines {
  /** Options for reading a task's files. */
  readonly reading: Pick<TaskReading, "onInvalid">;
  private readonly found = new Map<string, readonly number[]>();

  constructor({ skipInvalid = false }: { skipInvalid?: boolean }) {
    this.reading = skipInvalid ? { onInvalid: (file, lines) => void this.found.set(file, lines) } : {};
  }

  /** Prints a note for each file. */
  tell(io: Io, flags: OutputFlags): void {
    for (const [file, lines] of this.found) {
      const shown = lines.slice(0, SHOWN).join(", ");
      note(
        io,
        flags,
        `${file}: ${formatCount(lines.length, "line")} left out: ${shown}${lines.length > SHOWN ? ", …" : ""}`,
      );
    }
  }
}
