// The exit code and the line on stderr that follow from an error.
import { describeError, NfcError } from "../errors.ts";
import { readErrorPath, toIoError } from "../io/io-error.ts";
import { escapeJson, escapeTerminal } from "../io/printable.ts";
import { fitTerminal, type Io, type OutputFlags } from "./terminal.ts";

/** Exit codes; 130 is the shell's for SIGINT. */
export const EXIT = { ok: 0, regression: 1, usage: 2, unreadable: 3, bug: 70, interrupted: 130 } as const;

/** "message; hint" in one line, unprintable characters made visible. */
export function formatError(error: NfcError): string {
  const text = error.hint ? `${error.message}; ${error.hint}` : error.message;
  return escapeTerminal(text);
}

/** Prints an error and gives the exit code: 2 for faults that a user can mend, 70 with a stack for bugs of nfc. */
export function reportFailure(fault: unknown, io: Io, { json = false }: OutputFlags): number {
  // A failing disk is no bug, wherever it is met.
  const path = readErrorPath(fault);
  const error = path === undefined ? fault : toIoError(fault, path);
  if (!(error instanceof NfcError)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    io.stderr.write(`nfc: internal error, please report it\n${stack}\n`);
    if (json) printError(io, { code: "internal", message: describeError(error) });
    return EXIT.bug;
  }
  io.stderr.write(fitTerminal(`nfc: ${formatError(error)}\n`, io.stderr));
  // The result of a check is on stdout already.
  if (error.code === "regression" || error.code === "unreadable") return EXIT[error.code];
  if (json) printError(io, error);
  return error.code === "aborted" ? EXIT.interrupted : EXIT.usage;
}

function printError(io: Io, { code, message, hint = null }: { code: string; message: string; hint?: unknown }): void {
  io.stdout.write(`${escapeJson({ error: { code, message, hint } })}\n`);
}
