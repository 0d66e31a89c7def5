// The durable writer: short writes are continued, faults name the file, and a file system that cannot sync is accepted.
import fs, { type FileHandle } from "node:fs/promises";
import { devNull } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { writeChunks, writeDurably, writeFully } from "../../src/io/durable.ts";
import { failureOf } from "../support/failure.ts";
import { withWriteFault } from "./faults.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();
afterEach(() => vi.restoreAllMocks());

/** The prototype of all file handles, whose calls a test may replace. */
async function handlePrototype(): Promise<FileHandle> {
  const probe = await fs.open(devNull, "r");
  await probe.close();
  return Object.getPrototypeOf(probe);
}

/** Lets each write take three bytes at most. */
async function shortenWrites(): Promise<void> {
  const prototype = await handlePrototype();
  const { write } = prototype as unknown as Record<"write", (...args: unknown[]) => Promise<{ bytesWritten: number }>>;
  const short = function (this: unknown, bytes: unknown, offset: number, length: number, position: unknown) {
    return write.call(this, bytes, offset, Math.min(3, length), position);
  };
  vi.spyOn(prototype, "write").mockImplementation(short as FileHandle["write"]);
}

const text = (...parts: string[]) =>
  (async function* () {
    for (const part of parts) yield Buffer.from(part);
  })();

describe("durable writes", () => {
  it("a write of which the system takes only a part is continued", async () => {
    await shortenWrites();
    const path = join(await temporaryFolder(), "out");
    expect(await writeChunks(path, text("abcdefgh", "", "ij"))).toBe(10);
    expect(await fs.readFile(path, "utf8")).toBe("abcdefghij");
  });

  it("a file is synced after its last byte", async () => {
    const prototype = await handlePrototype();
    const calls: string[] = [];
    for (const name of ["write", "sync"] as const) {
      const original = prototype[name] as (...args: unknown[]) => unknown;
      vi.spyOn(prototype, name).mockImplementation(function (this: unknown, ...args: unknown[]) {
        calls.push(name);
        return original.apply(this, args);
      } as never);
    }
    await writeChunks(join(await temporaryFolder(), "out"), text("a", "b"));
    expect(calls).toEqual(["write", "write", "sync"]);
  });

  it("the disk is set to work before the last byte of a large file, and a fault of it is not lost", async () => {
    const prototype = await handlePrototype();
    const calls: string[] = [];
    const original = prototype.sync;
    vi.spyOn(prototype, "datasync").mockImplementation(async () => {
      calls.push("datasync");
      if (calls.length === 1) return;
      throw Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO", syscall: "fdatasync" });
    });
    vi.spyOn(prototype, "sync").mockImplementation(function (this: FileHandle) {
      calls.push("sync");
      return original.apply(this);
    });
    const folder = await temporaryFolder();
    const piece = new Uint8Array(8 * 2 ** 20);
    const write = (name: string, pieces: number) =>
      writeDurably(join(folder, name), async (file) => {
        for (let i = 0; i < pieces; i++) await file.write(piece);
      });
    await write("one", 7);
    expect(calls).toEqual(["datasync", "sync"]);
    const { code, message } = await failureOf(() => write("two", 7));
    expect({ code, calls }).toEqual({ code: "io", calls: ["datasync", "sync", "datasync"] });
    expect(message).toContain(join(folder, "two"));
  });

  it("a path where a file is gets refused, unless it may be overwritten", async () => {
    const path = join(await temporaryFolder(), "out");
    await fs.writeFile(path, "older");
    const write = (overwrite: boolean) => writeDurably(path, (file) => file.write(Buffer.from("new")), { overwrite });
    expect(await failureOf(() => write(false))).toMatchObject({
      code: "exists",
      message: `${path}: it exists already`,
    });
    expect(await fs.readFile(path, "utf8")).toBe("older");
    await write(true);
    expect(await fs.readFile(path, "utf8")).toBe("new");
  });

  it("an error names the path that the writer was told to show", async () => {
    const path = join(await temporaryFolder(), "temporary");
    const fill = () => writeDurably(path, (file) => file.write(Uint8Array.of(1)), { shown: "model/out" });
    for (const failing of [1, 2, 3]) {
      const { error } = await withWriteFault(failing, "ENOSPC", fill); // open, write, sync
      expect(error).toMatchObject({ code: "io", message: "model/out: disk full" });
      await fs.rm(path, { force: true });
    }
  });

  it("a file system that has no sync is accepted, and no other fault of it", async () => {
    const folder = await temporaryFolder();
    const write = (name: string) => writeChunks(join(folder, name), text("a"));
    expect(await withWriteFault(3, "ENOTSUP", () => write("a"))).toEqual({ calls: 3, error: undefined });
    expect((await withWriteFault(3, "EIO", () => write("b"))).error).toMatchObject({ code: "io" });
  });

  it("writeDurably passes on what its callback throws", async () => {
    const fault = new Error("the source failed");
    const path = join(await temporaryFolder(), "out");
    await expect(writeDurably(path, () => Promise.reject(fault))).rejects.toBe(fault);
  });

  it("a durable write ends between two pieces when its signal fires", async () => {
    const controller = new AbortController();
    const path = join(await temporaryFolder(), "out");
    const onBytes = () => controller.abort();
    const fault = await failureOf(() => writeChunks(path, text("a", "b"), { onBytes, signal: controller.signal }));
    expect(fault.code).toBe("aborted");
    expect(await fs.readFile(path, "utf8")).toBe("a");
  });
});

describe("writes at a position", () => {
  it("writeFully writes at a position, also in several parts", async () => {
    await shortenWrites();
    const path = join(await temporaryFolder(), "out");
    const handle = await fs.open(path, "w+");
    await writeFully(handle, Buffer.from("abcdefgh"), 4);
    await writeFully(handle, Buffer.from("0123"), 0);
    await handle.close();
    expect(await fs.readFile(path, "utf8")).toBe("0123abcdefgh");
  });
});
