// Locks of folders and files: whose they are, and when one is taken over.
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { checkFolderLock, lockFolder, unlockFolder, withFileLock } from "../../src/io/folder-lock.ts";
import { identifyProcess, identifySelf, isRunning, type ProcessIdentity } from "../../src/io/process.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();
const linux = process.platform === "linux";

function writeLock(folder: string, owner: ProcessIdentity): void {
  writeFileSync(join(folder, "lock"), `${JSON.stringify({ ...owner, host: "elsewhere", id: "x" })}\n`);
}

/** Touches a path as a living process of another container does. */
function beat(path: string): () => void {
  const timer = setInterval(() => utimesSync(path, new Date(), new Date()), 500);
  return () => clearInterval(timer);
}

describe("which process runs", () => {
  it("this process runs, and one that began at another time under its number does not", () => {
    expect(isRunning(identifySelf())).toBe(linux ? true : null);
    expect(isRunning(identifyProcess(process.ppid))).toBe(linux ? true : null);
    if (linux) expect(isRunning({ ...identifySelf(), started: identifySelf().started + 1 })).toBe(false);
  });

  it.skipIf(!linux)("the start is that of /proc, whatever the program is called", () => {
    const [seconds] = readFileSync("/proc/uptime", "utf8").split(" ");
    const age = Number(seconds) - identifySelf().started / 100;
    expect(Math.abs(age - process.uptime())).toBeLessThan(5);
  });

  it("a number that no process has does not run; a process of another table cannot be seen", () => {
    expect(isRunning({ ...identifySelf(), pid: 2 ** 31 - 2 })).toBe(false);
    expect(isRunning({ ...identifySelf(), table: "0123456789ab" })).toBe(null);
  });
});

describe("the lock of a folder", () => {
  it("a lock is held until it is given back, and names its process", async () => {
    const folder = await temporaryFolder();
    await lockFolder(folder);
    const { message, hint } = await failureOf(() => lockFolder(folder));
    expect(message).toBe(`${folder}: process ${process.pid} is at work in it`);
    expect(hint).toContain(join(folder, "lock"));
    await unlockFolder(folder);
    expect(existsSync(folder)).toBe(false);
  });

  it.each([
    ["number that no process has", { ...identifySelf(), pid: 2 ** 31 - 2 }],
    ...(linux
      ? [
          ["number that was given out again", { ...identifyProcess(process.ppid), started: 1 }] as const,
          [
            "number of this very process, as each container's first one has",
            { ...identifySelf(), started: 1 },
          ] as const,
        ]
      : []),
  ] as const)("a lock is taken over at once when its process is gone: %s", async (_, owner) => {
    const folder = await temporaryFolder();
    writeLock(folder, owner);
    const start = performance.now();
    await lockFolder(folder);
    expect(performance.now() - start).toBeLessThan(2000);
    expect(readFileSync(join(folder, "lock"), "utf8")).toContain(`"pid":${process.pid}`);
    await unlockFolder(folder);
    expect(existsSync(folder)).toBe(false);
  });

  it.each([
    ["a link", (lock: string) => symlinkSync("elsewhere", lock), "this is no regular file"],
    ["more than a lock has", (lock: string) => writeFileSync(lock, "x".repeat(5000)), "5000 bytes, more than the 4096"],
  ])("%s in the place of a lock is refused and stays", async (_, put, fact) => {
    const folder = await temporaryFolder();
    const lock = join(folder, "lock");
    writeFileSync(join(folder, "elsewhere"), "x");
    put(lock);
    const error = await failureOf(() => lockFolder(folder));
    expect(error.message).toContain(`${lock}: ${fact}`);
    expect(readdirSync(folder).sort()).toEqual(["elsewhere", "lock"]);
    expect(readFileSync(join(folder, "elsewhere"), "utf8")).toBe("x");
  });

  // The next two wait for ten seconds, and do so side by side.
  it.concurrent("a lock of another container is respected while its process shows that it lives, and taken over then", async () => {
    const folder = await temporaryFolder();
    writeLock(folder, { pid: process.pid, table: "0123456789ab", started: identifySelf().started });
    const end = beat(join(folder, "lock"));
    const { message } = await failureOf(() => lockFolder(folder));
    end();
    expect(message).toBe(`${folder}: process ${process.pid} of elsewhere is at work in it`);
    await lockFolder(folder);
    await unlockFolder(folder);
    // Whoever has been watched in vain is not watched again.
    const other = await temporaryFolder();
    writeLock(other, { pid: process.pid, table: "0123456789ab", started: identifySelf().started });
    const start = performance.now();
    await lockFolder(other);
    expect(performance.now() - start).toBeLessThan(2000);
    await unlockFolder(other);
  });

  it.concurrent("a lock that is cut off is taken over when nothing changes it", async () => {
    const folder = await temporaryFolder();
    writeFileSync(join(folder, "lock"), '{"pid":1');
    await lockFolder(folder);
    await unlockFolder(folder);
  });

  it("a lock that is held shows that its process lives, though the main thread is busy", async () => {
    const folder = await temporaryFolder();
    await lockFolder(folder);
    const cell = new Int32Array(new SharedArrayBuffer(4));
    utimesSync(join(folder, "lock"), 1, 1);
    Atomics.wait(cell, 0, 0, 3000);
    expect(readFileSync(join(folder, "lock"), "utf8")).toContain(`"pid":${process.pid}`);
    expect(statSync(join(folder, "lock")).mtimeMs).toBeGreaterThan(Date.now() - 3000);
    await unlockFolder(folder);
  });

  it("a process whose lock was taken over meanwhile notices, and leaves it", async () => {
    const folder = await temporaryFolder();
    await lockFolder(folder);
    await checkFolderLock(folder);
    writeLock(folder, { pid: 7, table: "0123456789ab", started: 1 });
    expect((await failureOf(() => checkFolderLock(folder))).message).toBe(
      `${folder}: process 7 of elsewhere is at work in it`,
    );
    await unlockFolder(folder);
    expect(readdirSync(folder)).toEqual(["lock"]);
  });
});

describe("the lock of a file", () => {
  it("those who change a file at once wait for each other, and leave no lock", async () => {
    const folder = await temporaryFolder();
    const file = join(folder, "list");
    const add = (n: number) =>
      withFileLock(file, async () => {
        const before = existsSync(file) ? readFileSync(file, "utf8") : "";
        await new Promise((resolve) => setTimeout(resolve, 5));
        writeFileSync(file, `${before}${n};`);
      });
    await Promise.all(Array.from({ length: 12 }, (_, n) => add(n)));
    expect(
      readFileSync(file, "utf8")
        .split(";")
        .filter(Boolean)
        .map(Number)
        .sort((a, b) => a - b),
    ).toEqual([...Array(12).keys()]);
    expect(readdirSync(folder)).toEqual(["list"]);
  });

  it("a lock is given back when the action fails", async () => {
    const file = join(await temporaryFolder(), "list");
    await expect(withFileLock(file, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await withFileLock(file, async () => appendFileSync(file, "x"));
    expect(readdirSync(file.replace(/[^/]*$/, ""))).toEqual(["list"]);
  });
});
