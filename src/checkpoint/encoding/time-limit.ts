// Ends regular expressions that would run for ever: a time limit, within which Ctrl-C works.
import { createContext, Script } from "node:vm";
import { NfcError } from "../../errors.ts";

/** Milliseconds for any text, and for each million characters of it. */
const LIMIT = 3_000;
const LIMIT_PER_MILLION = 4_000;

const script = new Script("run()");
const context = createContext({});

/**
 * Runs what may apply a tokenizer file's own patterns. While a regular expression runs no signal handler does, so the
 * engine itself must stop it.
 * @throws NfcError "unsupported" once the time is up, "aborted" at Ctrl-C
 */
export function runLimited<T>(run: () => T, file: string, characters: number): T {
  context.run = run;
  const timeout = Math.ceil(LIMIT + (LIMIT_PER_MILLION * characters) / 1e6);
  try {
    return script.runInContext(context, { timeout, breakOnSigint: true });
  } catch (error) {
    // The engine's own errors belong to the context, whose Error is another one.
    const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
    if (code === "ERR_SCRIPT_EXECUTION_INTERRUPTED") throw new NfcError("aborted", "interrupted", { cause: error });
    if (code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    const fact = `its patterns took over ${timeout / 1000} s for ${characters} characters`;
    throw new NfcError("unsupported", `${file}: ${fact}`, {
      hint: "take the tokenizer of a model that you trust, or simplify the regular expressions of this file",
      cause: error,
    });
  } finally {
    context.run = undefined;
  }
}
