// The surroundings of a command: its context, stdout for results, stderr for everything else, and the browser.
import { spawn } from "node:child_process";
import { describeError, NfcError } from "../errors.ts";
import { escapeTerminal } from "../io/printable.ts";

/** The part of `process` that the command line uses; tests hand in their own. */
export interface Io {
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  readonly stdin?: (NodeJS.ReadableStream & { isTTY?: boolean }) | undefined;
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  on(event: "SIGINT" | "SIGTERM", listener: () => void): unknown;
  off(event: "SIGINT" | "SIGTERM", listener: () => void): unknown;
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

/** Exit codes; 130 is the shell's for SIGINT. */
export const EXIT = { ok: 0, regression: 1, usage: 2, unreadable: 3, bug: 70, interrupted: 130 } as const;

/** "message; hint" in one line, unprintable characters made visible. */
export function formatError(error: NfcError): string {
  const text = error.hint ? `${error.message}; ${error.hint}` : error.message;
  return escapeTerminal(text);
}

/** Prints an error and gives the exit code: 2 for faults that a user can mend, 70 with a stack for bugs of nfc. */
export function reportFailure(error: unknown, io: Io, { json = false }: OutputFlags): number {
  if (!(error instanceof NfcError)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    io.stderr.write(`nfc: internal error, please report it\n${stack}\n`);
    if (json) printError(io, { code: "internal", message: describeError(error) });
    return EXIT.bug;
  }
  io.stderr.write(`nfc: ${formatError(error)}\n`);
  // The result of a check is on stdout already.
  if (error.code === "regression" || error.code === "unreadable") return EXIT[error.code];
  if (json) printError(io, error);
  return error.code === "aborted" ? EXIT.interrupted : EXIT.usage;
}

function printError(io: Io, { code, message, hint = null }: { code: string; message: string; hint?: unknown }): void {
  io.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
}

/** The result: an object for `--json`, else text. */
export function printResult(io: Io, flags: OutputFlags, json: unknown, text: () => string): void {
  const out = flags.json ? JSON.stringify(json, null, 2) : text();
  io.stdout.write(out.endsWith("\n") ? out : `${out}\n`);
}

/** A remark on stderr, unless `--quiet`. */
export function note(io: Io, flags: OutputFlags, text: string): void {
  if (!flags.quiet) io.stderr.write(`note: ${text}\n`);
}

/** Opens an address or a file in the system's browser; `failed` is called where the system has no such program. */
export function openBrowser(target: string, failed: (fact: string) => void): void {
  const commands: Partial<Record<NodeJS.Platform, string>> = { darwin: "open", win32: "explorer" };
  const child = spawn(commands[process.platform] ?? "xdg-open", [target], { stdio: "ignore", detached: true });
  child.on("error", (error) => failed(error.message));
  child.unref();
}
