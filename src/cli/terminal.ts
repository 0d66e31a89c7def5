// The surroundings of a command: its context, stdout for results, stderr for everything else, and the browser.
import { spawn } from "node:child_process";
import { escapeJson } from "../io/printable.ts";
import { readTimings } from "../io/timings.ts";
import { fitText } from "../report/render/fit.ts";

/** Signals that end a command: it finishes its step, saves, and says how to resume. */
export const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
type Signal = (typeof SIGNALS)[number];

/** The part of `process` that the command line uses; tests hand in their own. */
export interface Io {
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  readonly stdin?: (NodeJS.ReadableStream & { isTTY?: boolean }) | undefined;
  stdout: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  on(event: Signal, listener: () => void): unknown;
  off(event: Signal, listener: () => void): unknown;
}

/** Passed to every command besides its arguments. */
export interface Context {
  io: Io;
  signal: AbortSignal;
  /** Runs another command line, without the program's name, in `io`. */
  run(args: readonly string[], io: Io): Promise<void>;
}

export interface OutputFlags {
  json?: boolean;
  quiet?: boolean;
}

/** The result: an object for `--json`, else text, which fits the terminal unless it is Markdown. */
export function printResult(io: Io, flags: OutputFlags & { format?: string }, json: unknown, text: () => string): void {
  const plain = flags.format === "markdown" ? text : () => fitTerminal(text(), io.stdout);
  const out = flags.json ? escapeJson(addTimings(json), 2) : plain();
  io.stdout.write(out.endsWith("\n") ? out : `${out}\n`);
}

/** An object with the `timings` so far, where they are recorded. A list stays as its format has it. */
function addTimings(json: unknown): unknown {
  const timings = readTimings();
  return timings && json !== null && typeof json === "object" && !Array.isArray(json) ? { ...json, timings } : json;
}

/** A remark on stderr, unless `--quiet`. */
export function note(io: Io, flags: OutputFlags, text: string): void {
  if (!flags.quiet) io.stderr.write(fitTerminal(`note: ${text}\n`, io.stderr));
}

/** Text as wide as the terminal at most; as it is where there is none, for programs read it there. */
export function fitTerminal(text: string, { isTTY, columns }: Io["stdout"]): string {
  return isTTY && columns ? fitText(text, columns) : text;
}

/** Opens an address or a file in the system's browser; `failed` is called where the system has no such program. */
export function openBrowser(target: string, failed: (fact: string) => void): void {
  const commands: Partial<Record<NodeJS.Platform, string>> = { darwin: "open", win32: "explorer" };
  const child = spawn(commands[process.platform] ?? "xdg-open", [target], { stdio: "ignore", detached: true });
  child.on("error", (error) => failed(error.message));
  child.unref();
}
