// What every command gets besides its arguments.
import type { Io } from "./terminal.ts";

export interface Context {
  io: Io;
  signal: AbortSignal;
  /** Runs another command line, without the program's name, in `io`. */
  run(args: readonly string[], io: Io): Promise<void>;
}
