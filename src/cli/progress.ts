// Progress on stderr: a spinner on a terminal, a few lines a phase elsewhere, nothing with --quiet.
import type { Ora } from "ora";
import type { ProgressEvent } from "../progress.ts";
import { shortenLine } from "../report/render/fit.ts";
import { formatBytes, formatThousands } from "../report/render/format.ts";
import type { Io, OutputFlags } from "./terminal.ts";

/** Without a terminal there are at most so many lines a phase, and one a second. */
const STEPS = 10;
/** Columns of the spinner itself, and one that stays free. */
const SPINNER = 3;
const INTERVAL_MS = 1000;
const UNKNOWN_INTERVAL_MS = 5000;
/** A phase that says nothing for so long gets a line with the seconds that have passed. */
const SILENCE_MS = 2000;
/** Where lines stay, the next such line comes after this time, and each further one after twice as long. */
const SILENT_INTERVAL_MS = 10_000;

/** The last line of a phase; a silent one gets the next after `wait` milliseconds. */
interface LastLine {
  step: number;
  time: number;
  wait: number;
}

export class Progress {
  private readonly io: Io;
  private readonly quiet: boolean;
  private readonly spinner: Ora | null;
  /** The last line of each phase; phases may run side by side. */
  private readonly lines = new Map<string, LastLine>();
  private last: { event: ProgressEvent; time: number } | null = null;
  private timer: NodeJS.Timeout | null = null;

  private constructor(io: Io, quiet: boolean, spinner: Ora | null) {
    this.io = io;
    this.quiet = quiet;
    this.spinner = spinner;
  }

  /** The spinner is loaded only where there is a terminal for it. */
  static async open(io: Io, { quiet = false }: OutputFlags): Promise<Progress> {
    // A pseudo terminal without a size has 0 columns: a spinner would clear infinitely many lines.
    if (quiet || io.stderr.isTTY !== true || !io.stderr.columns) return new Progress(io, quiet, null);
    const { default: ora } = await import("ora");
    const plain = io.env.NO_COLOR ? ({ color: false } as const) : {}; // ora heeds FORCE_COLOR, but not this
    const stream = io.stderr as NodeJS.WriteStream;
    return new Progress(io, quiet, ora({ stream, discardStdin: false, ...plain }));
  }

  /** Handler for a library call's events. */
  readonly show = (event: ProgressEvent): void => {
    if (this.quiet) return;
    this.timer ??= setInterval(() => this.showSilence(), INTERVAL_MS).unref();
    const [time, phase] = [performance.now(), this.last?.event.phase];
    this.last = { event, time };
    if (this.spinner) this.spin(describe(event), event.phase !== phase);
    else if (!event.brief) this.write(event, time);
  };

  stop(): void {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    this.last = null;
    this.spinner?.stop();
  }

  /** @param now whether the line must be there at once: what comes next may keep the process busy */
  private spin(line: string, now: boolean): void {
    if (!this.spinner) return;
    this.spinner.text = shortenLine(line, (this.io.stderr.columns as number) - SPINNER);
    if (!this.spinner.isSpinning) this.spinner.start();
    else if (now) this.spinner.render();
  }

  /** Writes a line for an event unless there were enough. */
  private write(event: ProgressEvent, time: number): void {
    // Without a total, a line every few seconds shows that it goes on.
    const step = Math.floor(event.total ? (STEPS * event.done) / event.total : time / UNKNOWN_INTERVAL_MS);
    const last = this.lines.get(event.phase);
    if (last && (step === last.step || time - last.time < INTERVAL_MS)) return;
    this.lines.set(event.phase, { step, time, wait: SILENT_INTERVAL_MS });
    this.io.stderr.write(`${describe(event)}\n`);
  }

  /** Shows how long the last event is ago, where it is long. */
  private showSilence(): void {
    const time = performance.now();
    if (!this.last || time - this.last.time < SILENCE_MS) return;
    const { event } = this.last;
    const line = `${describe(event)}, ${Math.floor((time - this.last.time) / 1000)} s`;
    const { step = -1, time: before = Number.NEGATIVE_INFINITY, wait = 0 } = this.lines.get(event.phase) ?? {};
    if (this.spinner) this.spin(line, true);
    else if (time - before >= wait) {
      this.lines.set(event.phase, { step, time, wait: Math.max(SILENT_INTERVAL_MS, 2 * wait) });
      this.io.stderr.write(`${line}\n`);
    }
  }
}

/** "tying h.3 (4/12)", "writing 12.1 MB of 469.4 MB", "scoring 12,288 tokens" */
export function describe({ phase, done, total, unit, detail }: ProgressEvent): string {
  const head = detail ? `${phase} ${detail}` : phase;
  if (unit === "bytes") return `${head} ${formatBytes(done)}${total === null ? "" : ` of ${formatBytes(total)}`}`;
  if (unit === "tokens")
    return `${head} ${formatThousands(done)}${total === null ? "" : ` of ${formatThousands(total)}`} tokens`;
  return total === null ? head : `${head} (${done}/${total})`;
}
