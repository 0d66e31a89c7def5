// A disk that fails at any call: the fault is named, nothing is left, and an existing output is untouched.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { NfcError } from "../../src/errors.ts";
import { makeBytesSource, writeSafetensors } from "../../src/formats/safetensors/writer.ts";
import { withStagedDirectory, writeFileAtomic } from "../../src/io/staging.ts";
import { failureOf } from "../support/failure.ts";
import { withWriteFault } from "./faults.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();
const megabyte = new Uint8Array(1_500_000).fill(1);

function writeModel(target: string, force = false): Promise<unknown> {
  return withStagedDirectory(target, { force }, async (folder) => {
    const tensors = [
      makeBytesSource("a", "U8", [megabyte.length], megabyte),
      makeBytesSource("b", "U8", [3], megabyte.subarray(0, 3)),
    ];
    await writeSafetensors(folder, tensors, { maxShardSize: megabyte.length });
    await writeFileAtomic(join(folder, "config.json"), "new");
  });
}

async function oldModel(): Promise<{ parent: string; target: string }> {
  const parent = await temporaryFolder();
  const target = join(parent, "out");
  await mkdir(target);
  await writeFile(join(target, "config.json"), "old");
  return { parent, target };
}

/** The number of calls a successful run makes, so that each of them can be made to fail. */
async function callsOf(action: () => Promise<unknown>): Promise<number> {
  const { calls, error } = await withWriteFault(0, "", action);
  expect(error).toBeUndefined();
  return calls;
}

const FILES = [
  "config.json",
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
];

describe("a disk that is full at any one call", () => {
  it("a full disk leaves nothing of a new output, and the error says which path is full", async () => {
    const parent = await temporaryFolder();
    const calls = await callsOf(() => writeModel(join(parent, "out-0")));
    expect(calls).toBeGreaterThan(20);
    for (let failing = 1; failing <= calls; failing++) {
      const { error } = await withWriteFault(failing, "ENOSPC", () => writeModel(join(parent, "out")));
      expect(error).toBeInstanceOf(NfcError);
      expect((error as NfcError).message).toMatch(/^\/.*: disk full$/);
      expect((error as NfcError).message.startsWith(parent)).toBe(true);
      expect(await readdir(parent)).toEqual(["out-0"]);
    }
  });

  it("a full disk leaves an existing output untouched", async () => {
    const first = await oldModel();
    const calls = await callsOf(() => writeModel(first.target, true));
    for (let failing = 1; failing <= calls; failing++) {
      const { parent, target } = await oldModel();
      const { error } = await withWriteFault(failing, "ENOSPC", () => writeModel(target, true));
      const content = await readFile(join(target, "config.json"), "utf8");
      expect(await readdir(target)).toEqual(content === "new" ? FILES : ["config.json"]);
      const others = (await readdir(parent)).filter((name) => name !== "out");
      // Once the new output is in place, the old one is moved away, which is tried again, and the folder is synced.
      if (error === undefined || (error as NfcError).message.includes("the replaced output could not be removed"))
        expect(content).toBe("new");
      else expect({ error, content }).toMatchObject({ error: { code: "io" }, content: "old" });
      expect(others).toEqual([]);
      await failureOf(() => withStagedDirectory(target, {}, async () => undefined));
      expect(await readdir(parent)).toEqual(["out"]);
      expect(await readFile(join(target, "config.json"), "utf8")).toBe(content);
    }
  });

  it("a full disk leaves a single file as it was, or new", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "nfc.json");
    await writeFile(path, "old");
    const calls = await callsOf(() => writeFileAtomic(path, "old"));
    for (let failing = 1; failing <= calls; failing++) {
      const { error } = await withWriteFault(failing, "EDQUOT", () => writeFileAtomic(path, "new"));
      expect((error as NfcError).message).toMatch(/: disk full: your quota is used up$/);
      expect(["old", "new"]).toContain(await readFile(path, "utf8"));
      expect(await readdir(folder)).toEqual(["nfc.json"]);
      await writeFile(path, "old");
    }
  });
});

/** A real file system of 1 MiB, where this process may mount one. */
function mountTinyDisk(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "nfc-io-tiny-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], { stdio: "ignore" });
    return folder;
  } catch {
    rmSync(folder, { recursive: true });
    return undefined;
  }
}

const tinyDisk = mountTinyDisk();

describe.skipIf(!tinyDisk)("a real disk of 1 MiB (needs permission to mount)", () => {
  const target = join(tinyDisk ?? "", "out");

  afterAll(() => {
    execFileSync("umount", [tinyDisk as string]);
    rmSync(tinyDisk as string, { recursive: true });
  });

  it("a real full disk is reported with the file's name, and is empty afterwards", async () => {
    const fault = await failureOf(() => writeModel(target));
    expect(fault.code).toBe("io");
    expect(fault.message).toBe(`${target}/model-00001-of-00002.safetensors: disk full`);
    expect(fault.hint).toContain("free some space");
    expect(await readdir(tinyDisk as string)).toEqual([]);
  });

  it("a real full disk keeps an output that was there", async () => {
    await mkdir(target);
    await writeFile(join(target, "config.json"), "old");
    await failureOf(() => writeModel(target, true));
    expect(await readdir(tinyDisk as string)).toEqual(["out"]);
    expect(await readFile(join(target, "config.json"), "utf8")).toBe("old");
  });

  it("a real full disk keeps a file that was there", async () => {
    const path = join(target, "config.json");
    const fault = await failureOf(() => writeFileAtomic(path, new Uint8Array(2_000_000)));
    expect(fault.message).toBe(`${path}: disk full`);
    expect(await readdir(target)).toEqual(["config.json"]);
    expect(await readFile(path, "utf8")).toBe("old");
  });
});
