// Progress on stderr: a spinner on a terminal, a few lines a phase elsewhere, nothing with --quiet.
import type { Ora } from "ora";
import { formatBytes, thousands } from "../export/format.ts";
import type { ProgressEvent } from "../progress.ts";
import type { Io, OutputFlags } from "./terminal.ts";

/** Without a terminal: at most so many lines a phase, and one a second. */
const STEPS = 10;
const INTERVAL_MS = 1000;

export class Progress {
  private readonly io: Io;
  private readonly quiet: boolean;
  private readonly spinner: Ora | null;
  private phase = "";
  private step = -1;
  private shown = 0;

  private constructor(io: Io, quiet: boolean, spinner: Ora | null) {
    this.io = io;
    this.quiet = quiet;
    this.spinner = spinner;
  }

  /** The spinner is loaded only where there is a terminal for it. */
  static async open(io: Io, { quiet = false }: OutputFlags): Promise<Progress> {
    if (quiet || io.stderr.isTTY !== true) return new Progress(io, quiet, null);
    const { default: ora } = await import("ora");
    return new Progress(io, quiet, ora({ stream: io.stderr as NodeJS.WriteStream, discardStdin: false }));
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
    const now = performance.now();
    if (event.phase === this.phase && (step === this.step || now - this.shown < INTERVAL_MS)) return;
    this.shown = now;
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
