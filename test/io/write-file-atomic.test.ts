// Single files: the old content or all of the new, and no temporary file beside it.
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writeFileAtomic } from "../../src/io/staging.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();

describe("atomic writes of a file", () => {
  it("writeFileAtomic writes text and bytes, and replaces what was there", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "nfc.json");
    await writeFileAtomic(path, "é");
    expect(await readFile(path, "utf8")).toBe("é");
    await writeFileAtomic(path, Uint8Array.of(1, 2));
    expect([...(await readFile(path))]).toEqual([1, 2]);
    expect(await readdir(folder)).toEqual(["nfc.json"]);
  });

  it("writeFileAtomic creates the folders above", async () => {
    const folder = await temporaryFolder();
    await writeFileAtomic(join(folder, "a/b/report.json"), "{}");
    expect(await readdir(join(folder, "a/b"))).toEqual(["report.json"]);
  });

  it("writeFileAtomic writes to the destination of a symbolic link", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "real"), "old");
    await symlink("real", join(folder, "link"));
    await writeFileAtomic(join(folder, "link"), "new");
    expect(await readFile(join(folder, "real"), "utf8")).toBe("new");
    expect((await readdir(folder)).sort()).toEqual(["link", "real"]);
  });

  it("writeFileAtomic removes what a killed process left", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, `.a.nfc-tmp-${2 ** 31 - 2}-0123456789ab`), "half");
    await writeFileAtomic(join(folder, "a"), "x");
    expect(await readdir(folder)).toEqual(["a"]);
  });

  it("writeFileAtomic refuses a folder, and leaves it alone", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "out"));
    await writeFile(join(folder, "out/file"), "");
    const fault = await failureOf(() => writeFileAtomic(join(folder, "out"), "x"));
    expect(fault.message).toBe(`${join(folder, "out")}: this is a folder, a file is expected`);
    expect(await readdir(folder)).toEqual(["out"]);
  });

  it("the last of many writers wins, whole", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "a");
    const texts = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000));
    await Promise.all(texts.map((text) => writeFileAtomic(path, text)));
    expect(texts).toContain(await readFile(path, "utf8"));
    expect(await readdir(folder)).toEqual(["a"]);
  });
});
