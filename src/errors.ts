// The one error class: a fault that a user can mend (bad input, wrong usage) is an NfcError; any other error is a bug of nfc.

/** The kind of a fault, for programs. `docs/errors.md` lists them. */
export type ErrorCode =
  | "usage" // wrong flags or arguments
  | "not-found" // a file, folder, tensor or remote that is not there
  | "exists" // an output that would be overwritten
  | "invalid-file" // a malformed safetensors, JSON, ONNX or text file
  | "unsupported" // a valid input that this tool does not handle
  | "mismatch" // two inputs, or a result and its check, do not agree
  | "io" // the operating system refused (disk full, permission)
  | "network" // a remote host did not answer as expected
  | "missing-dependency" // an optional package is not installed
  | "device" // a device that failed: it was lost, its memory is full, a buffer is too large for it
  | "regression" // a model that is larger than its limit or baseline allows (nfc check)
  | "unreadable" // a model that nfc check cannot read
  | "diverged" // a training run whose loss is no longer finite
  | "aborted"; // the caller's AbortSignal fired

/**
 * A fault that the user can act on. `message` names file, tensor and fact in one line; `hint` says what to do.
 * The CLI prints both and exits with 2: 130 for `aborted`, 1 for `regression`, 3 for `unreadable`.
 */
export class NfcError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "NfcError";
    this.code = code;
    this.hint = options.hint;
  }
}

/** The message of anything thrown, without its stack. */
export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The first line of it: ONNX Runtime adds a trace to its messages. */
export function describeBriefly(error: unknown): string {
  return describeError(error).replace(/\n.*/s, "");
}

/** @throws NfcError "aborted" once the caller's signal has fired */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new NfcError("aborted", "interrupted");
}

/** The fault of a model whose numbers are not finite. @param fact where, and which numbers */
export function makeNotFiniteError(fact: string, hint = "the checkpoint is damaged"): NfcError {
  return new NfcError("invalid-file", fact, { hint });
}
