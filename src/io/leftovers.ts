// Names temporary files and backups, and removes or restores those that a killed process left behind.
import { randomBytes } from "node:crypto";
import { readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { readErrno } from "./io-error.ts";
import { isProcessRunning } from "./process.ts";

/** `tmp`: an output being written; `old`: the output that a new one is about to replace. */
type Kind = "tmp" | "old";

/** Paths that this process uses: its number, which always belongs to a running process, does not tell. */
const inUse = new Set<string>();

interface Leftover {
  kind: Kind;
  path: string;
}

/** Makes a fresh name `.<name>.nfc-tmp-<pid>-<random>` beside `target`. It counts as in use until {@link release}. */
export function claimName(target: string, kind: Kind): string {
  const random = randomBytes(6).toString("hex");
  const path = join(dirname(target), `.${basename(target)}.nfc-${kind}-${process.pid}-${random}`);
  inUse.add(path);
  return path;
}

export function release(path: string): void {
  inUse.delete(path);
}

/**
 * Cleans up after dead processes at `target`: when one died between moving the old output away and moving the new one
 * in, the old output is moved back; every other file of theirs is removed.
 */
export async function cleanLeftovers(target: string): Promise<void> {
  for (const { kind, path } of await findDeadLeftovers(target)) {
    if (kind === "tmp") await rm(path, { recursive: true, force: true });
    else if (await isAbsentOrEmpty(target)) await rename(path, target);
    else await removeBackup(path, target);
  }
}

/**
 * Removes a backup that is no longer needed. It is renamed first: if this process is killed while it deletes, the rest
 * does not look like a whole output. A call that fails is made once more, as nobody else would remove the rest.
 */
export async function removeBackup(backup: string, target: string): Promise<void> {
  const doomed = claimName(target, "tmp");
  try {
    await twice(() => rename(backup, doomed));
    await twice(() => rm(doomed, { recursive: true, force: true }));
  } finally {
    release(doomed);
  }
}

const twice = (action: () => Promise<void>): Promise<void> => action().catch(action);

/** True when nothing is at `path`, or a folder without entries. */
async function isAbsentOrEmpty(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0;
  } catch (error) {
    if (readErrno(error) === "ENOENT") return true;
    if (readErrno(error) === "ENOTDIR") return false;
    throw error;
  }
}

async function findDeadLeftovers(target: string): Promise<Leftover[]> {
  const folder = dirname(target);
  const prefix = `.${basename(target)}.nfc-`;
  const found: Leftover[] = [];
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const match = /^(tmp|old)-(\d+)-[0-9a-f]{12}$/.exec(name.slice(prefix.length));
    const path = join(folder, name);
    if (match && !isInUse(path, Number(match[2]))) found.push({ kind: match[1] as Kind, path });
  }
  return found;
}

function isInUse(path: string, pid: number): boolean {
  return pid === process.pid ? inUse.has(path) : isProcessRunning(pid);
}
