// Progress on stderr: a spinner on a terminal, a line a phase (and every tenth of it) elsewhere, nothing with --quiet.
import ora, { type Ora } from "ora";
import { formatBytes, thousands } from "../export/format.ts";
import type { ProgressEvent } from "../progress.ts";
import type { Io, OutputFlags } from "./terminal.ts";

/** Lines per phase without a terminal. */
const STEPS = 10;

export class Progress {
  private readonly io: Io;
  private readonly quiet: boolean;
  private readonly spinner: Ora | null;
  private phase = "";
  private step = -1;

  constructor(io: Io, flags: OutputFlags) {
    this.io = io;
    this.quiet = flags.quiet ?? false;
    const terminal = io.stderr.isTTY === true && !this.quiet;
    this.spinner = terminal ? ora({ stream: io.stderr as NodeJS.WriteStream, discardStdin: false }) : null;
  }

  /** Handler for a library call's events. */
  readonly show = (event: ProgressEvent): void => {
    if (this.quiet) return;
    if (this.spinner) {
      this.spinner.text = describe(event);
      if (!this.spinner.isSpinning) this.spinner.start();
      return;
    }
    const step = event.total ? Math.floor((STEPS * event.done) / event.total) : 0;
    if (event.phase === this.phase && step === this.step) return;
    this.phase = event.phase;
    this.step = step;
    this.io.stderr.write(`${describe(event)}\n`);
  };

  stop(): void {
    this.spinner?.stop();
  }
}

/** "tying h.3 (4/12)", "writing 12.1 MB of 469.4 MB", "scoring 12,288 tokens" */
export function describe({ phase, done, total, unit, detail }: ProgressEvent): string {
  const head = detail ? `${phase} ${detail}` : phase;
  if (unit === "bytes") return `${head} ${formatBytes(done)}${total === null ? "" : ` of ${formatBytes(total)}`}`;
  if (unit === "tokens") return `${head} ${thousands(done)}${total === null ? "" : ` of ${thousands(total)}`} tokens`;
  return total === null ? head : `${head} (${done}/${total})`;
}
