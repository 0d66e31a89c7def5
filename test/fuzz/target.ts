// What is fuzzed: a name and a format, valid inputs, and what is done with each spoiled one.
import type { Format } from "./mutate.ts";

export interface Target {
  kind: "parser" | "command";
  name: string;
  format: Format;
  /** Makes what all runs share below `folder`. */
  prepare(folder: string): Promise<Prepared>;
}

interface Prepared {
  valid: readonly Uint8Array[];
  /** Does one input: gives null when all is as it should be, else the fault in one line. What it throws is a fault too. */
  run(input: Uint8Array): Promise<string | null>;
}
