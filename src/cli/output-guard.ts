// Watches the streams of a command: what stdout loses is a fault of the command, what stderr loses is none.
import { setImmediate } from "node:timers/promises";
import { describeError, NfcError } from "../errors.ts";
import { readErrno, toIoError } from "../io/io-error.ts";
import type { Io } from "./terminal.ts";

/** Of a reader that wants no more, such as `head`. */
const CLOSED = "EPIPE";

export interface WatchedStreams {
  /** Waits until everything is written. Gives the fault of stdout, if it took less than all; null for a closed pipe. */
  finish(): Promise<unknown>;
}

/**
 * Listens to both streams until `finish`, so that a failed write does not end the process. Losing stderr is no reason to
 * stop: a terminal that was closed takes no more, while a long run is still to be saved.
 */
export function watchStreams({ stdout, stderr }: Pick<Io, "stdout" | "stderr">): WatchedStreams {
  let fault: unknown = null;
  const onStdout = (error: unknown) => {
    if (readErrno(error) !== CLOSED) fault ??= error;
  };
  stdout.on("error", onStdout);
  stderr.on("error", ignore);
  return {
    async finish() {
      await drain(stdout);
      await drain(stderr);
      stdout.off("error", onStdout);
      stderr.off("error", ignore);
      return fault;
    },
  };
}

/** What stdout did not take, as an error that a user can act on. */
export function makeOutputError(fault: unknown): NfcError {
  const known = toIoError(fault, "stdout");
  const [message, hint] = known instanceof NfcError ? [known.message, known.hint] : [`stdout: ${describeError(fault)}`];
  return new NfcError("io", `${message}; the result is not complete`, { hint, cause: fault });
}

function ignore(): void {}

/** Resolves once what was written before has gone or failed; a failure is an event of one of the next turns. */
async function drain(stream: NodeJS.WritableStream & { writableLength?: number }): Promise<void> {
  if (stream.writable && stream.writableLength) await new Promise<void>((resolve) => stream.write("", () => resolve()));
  await setImmediate();
}
