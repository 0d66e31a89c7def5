// A temporary folder for the tests of one file, removed after them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A function that names paths in a fresh folder. Call it at the top of a test file. */
export function temporaryFolder(prefix: string): (...parts: string[]) => string {
  const folder = mkdtempSync(join(tmpdir(), `nfc-${prefix}-`));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (...parts) => join(folder, ...parts);
}
