// The embedded fixture, models converted from it, and what tests look at in model folders.
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Checkpoint, openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { type ConvertResult, convert } from "../../src/convert/convert.ts";
import type { ConvertOptions } from "../../src/convert/convert-options.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/", import.meta.url));
export const MODEL = join(fixtures, "tiny-gpt2");
export const TEXT = join(fixtures, "text.txt");
/** The larger files beside a checkout, which tests skip where they are missing. */
export const SHARED = fileURLToPath(new URL("../../../shared/", import.meta.url));

/** Opens a checkpoint, and closes it after `use`. */
export async function opened<T>(source: string, use: (checkpoint: Checkpoint) => Promise<T> | T): Promise<T> {
  const checkpoint = await openCheckpoint(source);
  try {
    return await use(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** Converts `source` (the fixture unless given) with the cheapest settings, which `options` change. */
export function converted(
  options: Partial<ConvertOptions> & { output: string },
  source = MODEL,
): Promise<ConvertResult> {
  const defaults = { variant: "symmetric", strategy: "mean", threads: 1, repair: false } as const;
  return opened(source, (checkpoint) => convert(checkpoint, { ...defaults, ...options }));
}

/** All bytes of a tensor in its canonical orientation. */
export async function bytesOf(checkpoint: Checkpoint, name: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of checkpoint.chunks(name)) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

/** Columns `first` … `first + count − 1` of a row-major matrix of `rows` rows, or of a vector (one row). */
export function columns<T extends Buffer | Float32Array>(matrix: T, rows: number, first: number, count: number): T[] {
  const width = matrix.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    return matrix.subarray(row * width + first, row * width + first + count) as T;
  });
}

/** Every file below a folder with its sha256, links as such: equal exactly when the folders are. */
export function digest(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true }) as string[];
  const files = names.sort().filter((name) => !lstatSync(join(folder, name)).isDirectory());
  return Object.fromEntries(
    files.map((name) => {
      const kind = lstatSync(join(folder, name)).isSymbolicLink() ? "link " : "";
      return [
        name,
        kind +
          createHash("sha256")
            .update(readFileSync(join(folder, name)))
            .digest("hex"),
      ];
    }),
  );
}
