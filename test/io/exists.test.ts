// Whether something is at a path: a fault of the system is no absence.
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fileExists } from "../../src/io/exists.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();

describe("whether a file exists", () => {
  it("files and folders exist, and nothing does below a file or at the end of a broken link", async () => {
    const folder = await temporaryFolder();
    const file = join(folder, "a");
    writeFileSync(file, "");
    symlinkSync(join(folder, "nowhere"), join(folder, "broken"));
    expect([folder, file].map(fileExists)).toEqual([true, true]);
    expect([join(folder, "b"), join(file, "below"), join(folder, "broken")].map(fileExists)).toEqual([
      false,
      false,
      false,
    ]);
  });

  it("a loop of links and a name that is too long are faults that name the path", async () => {
    const loop = join(await temporaryFolder(), "loop");
    symlinkSync(loop, loop);
    expect(() => fileExists(loop)).toThrow(`${loop}: too many symbolic links`);
    expect(() => fileExists(join(loop, "..", "x".repeat(300)))).toThrow("the name is too long for this file system");
  });
});
