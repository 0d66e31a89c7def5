// Runs long computations piece by piece, so that the process answers in between: to Ctrl-C, above all.
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../errors.ts";

/** @param pieces yields at least once a second @throws NfcError "aborted" */
export async function runInPieces<T>(pieces: Generator<void, T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    const { done, value } = pieces.next();
    if (done) return value;
    await setImmediate();
    throwIfAborted(signal);
  }
}
