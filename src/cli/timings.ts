// --timings: where a command's time went, as a table on stderr when it ends.
import type { Command } from "commander";
import { recordTimings, type Timings } from "../io/timings.ts";
import { formatBytes } from "../report/render/format.ts";
import { alignTable } from "../report/render/text.ts";
import { fitTerminal, type Io } from "./terminal.ts";

const FLAG = "--timings";

export function addTimingsFlag(command: Command): Command {
  return command.option(FLAG, "show at the end where the time went: phases, seconds, bytes read and written");
}

/** Runs a command line, and with --timings prints the table, also where the command fails. */
export async function runTimed(io: Io, run: () => Promise<void>): Promise<void> {
  // Commander reads the flag too late: the recording has begun by then.
  if (!io.argv.includes(FLAG)) return run();
  const { result, read } = recordTimings(run);
  try {
    await result;
  } finally {
    io.stderr.write(fitTerminal(`${formatTimings(read()).join("\n")}\n`, io.stderr));
  }
}

function formatTimings({ seconds, phases, peakMemory }: Timings): string[] {
  const bytes = (count: number) => (count === 0 ? "" : formatBytes(count));
  const rows = phases.map((row) => [row.phase, row.seconds.toFixed(3), bytes(row.read), bytes(row.written)]);
  const [read, written] = (["read", "written"] as const).map((key) => phases.reduce((sum, row) => sum + row[key], 0));
  const total = ["in all", seconds.toFixed(3), bytes(read ?? 0), bytes(written ?? 0)];
  const table = alignTable([["phase", "seconds", "read", "written"], ...rows, total], {
    align: "lr",
    rulesBefore: [1, rows.length + 1],
  });
  return [...table, `peak memory ${formatBytes(peakMemory)}; phases side by side count each their own time`];
}
