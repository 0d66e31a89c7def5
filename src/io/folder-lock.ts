// Locks a folder, or a file for a moment, by a file that names its process; a lock of a process that is gone is taken over.
import { randomUUID } from "node:crypto";
import { mkdir, open, rename, rm, rmdir } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { isOwnerAlive, keepAlive, letGo } from "./heartbeat.ts";
import { readErrno, withIoErrors } from "./io-error.ts";
import { claimName, release } from "./leftovers.ts";
import { withFile } from "./positional-file.ts";
import { identifySelf } from "./process.ts";

export const LOCK_FILE = "lock";

/** Two processes that take over one lock both see, after this time, whose it has become. */
const SETTLE_MS = 50;
/** A file is locked while it is read and written again; one that stays locked for so long is refused. */
const PATIENCE_MS = 60_000;

/** A lock has some 200 bytes. */
const MAX_LOCK_BYTES = 4096;

const ownerSchema = z.object({
  pid: z.int().positive(),
  host: z.string(),
  table: z.string(),
  started: z.number().nonnegative(),
  /** Tells this lock from every other one of the process. */
  id: z.string(),
});
type Owner = z.infer<typeof ownerSchema>;

/** The locks of this process: path and content. */
const held = new Map<string, string>();

/**
 * Creates the folder where it is missing, and locks it for this process.
 * @param shown what the user knows that is made in it
 * @throws NfcError "exists" while another process that still runs holds the lock
 */
export async function lockFolder(folder: string, shown = folder): Promise<void> {
  const file = join(folder, LOCK_FILE);
  await withIoErrors(folder, () => mkdir(folder, { recursive: true }));
  const holder = await withIoErrors(file, () => tryLock(file)).catch(async (error: unknown) => {
    await removeIfEmpty(folder);
    throw error;
  });
  if (holder) throw makeHeldError(shown, file, holder.owner);
  keepAlive(resolve(file));
}

/** Removes the lock, and the folder too when nothing else is in it. */
export async function unlockFolder(folder: string): Promise<void> {
  const file = join(folder, LOCK_FILE);
  letGo(resolve(file));
  await withIoErrors(folder, () => unlock(file));
  await removeIfEmpty(folder);
}

function removeIfEmpty(folder: string): Promise<void> {
  return rmdir(folder).catch((error: unknown) => {
    if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(readErrno(error) ?? "")) throw error;
  });
}

/**
 * Refuses to write into a folder that this process has locked, but that another one has taken over since: a process that
 * was halted for long, with its machine or container, looks like one that is gone.
 * @throws NfcError "exists"
 */
export async function checkFolderLock(folder: string): Promise<void> {
  const file = join(folder, LOCK_FILE);
  const own = held.get(resolve(file));
  if (own === undefined) return;
  const found = await withIoErrors(file, () => readLock(file));
  if (found !== own) throw makeHeldError(folder, file, found === null ? null : parseOwner(found));
}

/**
 * Runs `action` while no other process that asks for the same lock does, and waits for such a process before.
 * The lock is a hidden file beside `path`.
 * @throws what `action` throws; NfcError "exists" after a minute, "io"
 */
export async function withFileLock<T>(path: string, action: () => Promise<T>): Promise<T> {
  const file = join(dirname(path), `.${basename(path)}.nfc-lock`);
  await withIoErrors(file, async () => {
    const end = performance.now() + PATIENCE_MS;
    for (let holder = await tryLock(file); holder; holder = await tryLock(file)) {
      if (performance.now() > end) throw makeHeldError(path, file, holder.owner);
      await sleep(10 + 20 * Math.random());
    }
  });
  try {
    return await action();
  } finally {
    await withIoErrors(file, () => unlock(file));
  }
}

function makeHeldError(shown: string, file: string, owner: Owner | null): NfcError {
  const place = owner && owner.table !== identifySelf().table ? ` of ${owner.host}` : "";
  const who = owner ? `process ${owner.pid}${place}` : "another process";
  return new NfcError("exists", `${shown}: ${who} is at work in it`, {
    hint: `wait until it ends; if it is no nfc, remove ${file}`,
  });
}

/** Takes the lock, from a process that is gone too. Gives the holder while that still runs; null once it is taken. */
async function tryLock(file: string): Promise<{ owner: Owner | null } | null> {
  const content = `${JSON.stringify({ ...identifySelf(), host: hostname(), id: randomUUID() } satisfies Owner)}\n`;
  for (;;) {
    const found = (await create(file, content)) ? content : await readLock(file);
    if (found === null) continue; // given back meanwhile
    if (found !== content) {
      const owner = parseOwner(found);
      if (await isOwnerAlive(owner, file)) return { owner };
      if ((await readLock(file)) !== found || !(await replace(file, content))) continue;
    }
    held.set(resolve(file), content);
    return null;
  }
}

/** False where a lock is there already. One that cannot be written, on a full disk, is taken back. */
async function create(file: string, content: string): Promise<boolean> {
  const handle = await open(file, "wx").catch((error: unknown) => {
    if (readErrno(error) === "EEXIST") return null;
    throw error;
  });
  if (!handle) return false;
  try {
    await handle.writeFile(content).finally(() => handle.close());
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
  return true;
}

/** Puts this process's lock in the place of a dead one; false where another process has done the same after it. */
async function replace(file: string, content: string): Promise<boolean> {
  const fresh = claimName(file, "tmp");
  try {
    await create(fresh, content);
    await rename(fresh, file);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  } finally {
    release(fresh);
  }
  await sleep(SETTLE_MS);
  return (await readLock(file)) === content;
}

/** A lock that another process has taken over is left to it. */
async function unlock(file: string): Promise<void> {
  const content = held.get(resolve(file));
  held.delete(resolve(file));
  if (content !== undefined && (await readLock(file)) === content) await rm(file, { force: true });
}

/** The content of a lock; null where there is none. A stranger's folder may have a pipe, a device or a link in its place. */
async function readLock(file: string): Promise<string | null> {
  try {
    const bytes = await withFile(file, (opened) => opened.readWhole(MAX_LOCK_BYTES), { refuseLink: true });
    return Buffer.from(bytes).toString("utf8");
  } catch (error) {
    if (error instanceof NfcError && error.code === "not-found") return null;
    throw error;
  }
}

/** Null for a lock that is being written, was cut off by a full disk, or is no lock of this version. */
function parseOwner(content: string): Owner | null {
  try {
    return ownerSchema.parse(JSON.parse(content));
  } catch {
    return null;
  }
}
