// Makes targets of parsers: of bytes in memory, or of a file that lies in a folder with others.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NfcError } from "../../src/errors.ts";
import type { Format } from "./mutate.ts";
import type { Target } from "./target.ts";

/** A value as JSON. */
export const encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

/** Refusals are NfcErrors of one printable line; another error is a fault. */
async function refuseOrRead(read: () => unknown): Promise<string | null> {
  try {
    await read();
    return null;
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    return /[\r\n]/.test(error.message + (error.hint ?? "")) ? `two lines: ${JSON.stringify(error.message)}` : null;
  }
}

/** A parser of bytes in memory. */
export function inMemory(
  name: string,
  format: Format,
  valid: readonly Uint8Array[],
  read: (input: Uint8Array) => unknown,
): Target {
  const run = (input: Uint8Array) => refuseOrRead(() => read(input));
  const prepare = async () => {
    for (const input of valid) await read(input); // throws where a valid input is refused
    return { valid, run };
  };
  return { kind: "parser", name, format, prepare };
}

interface FileTarget {
  /** Other files that lie below the folder. */
  beside?: Readonly<Record<string, Uint8Array>>;
  /** Writes the valid input, where nothing else is given. */
  write?: (path: string) => Promise<void>;
  /** Inputs besides the valid ones. */
  refused?: readonly Uint8Array[];
  read(file: string, folder: string): unknown;
}

/** A parser of a file, which is written anew for each input. */
export function ofFile(
  name: string,
  [file, format]: [string, Format],
  given: readonly Uint8Array[],
  target: FileTarget,
): Target {
  return {
    ...{ kind: "parser", name, format },
    async prepare(folder) {
      const path = join(folder, file);
      for (const [other, content] of Object.entries({ [file]: new Uint8Array(0), ...target.beside })) {
        mkdirSync(dirname(join(folder, other)), { recursive: true });
        writeFileSync(join(folder, other), content);
      }
      rmSync(path);
      await target.write?.(path);
      const valid = target.write ? [readFileSync(path)] : given;
      for (const input of valid) {
        writeFileSync(path, input);
        await target.read(path, folder); // throws where a valid input is refused
      }
      const run = (input: Uint8Array) => {
        writeFileSync(path, input);
        return refuseOrRead(() => target.read(path, folder));
      };
      return { valid: [...valid, ...(target.refused ?? [])], run };
    },
  };
}
