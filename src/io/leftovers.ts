// Names temporary files and backups, and removes or restores those that a killed process left behind.
import { randomBytes } from "node:crypto";
import { readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isOwnerAlive } from "./heartbeat.ts";
import { readErrno } from "./io-error.ts";
import { identifySelf, isSelf, type ProcessIdentity } from "./process.ts";

/** `tmp`: an output being written; `old`: the output that a new one is about to replace. */
type Kind = "tmp" | "old";

/** Paths that this process uses: its number, which always belongs to a running process, does not tell. */
const inUse = new Set<string>();

interface Leftover {
  kind: Kind;
  path: string;
}

/** What follows `.<name>.nfc-`: the kind, the process (its number, start and table), and a random part. */
const SUFFIX = /^(tmp|old)-(\d+)(?:-(\d+)-([0-9a-f]{12}))?-[0-9a-f]{12}$/;

/** Makes a fresh name beside `target` that tells its process. It counts as in use until {@link release}. */
export function claimName(target: string, kind: Kind): string {
  const { pid, started, table } = identifySelf();
  const random = randomBytes(6).toString("hex");
  const path = join(dirname(target), `.${basename(target)}.nfc-${kind}-${pid}-${started}-${table}-${random}`);
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
    else if (!(await isAbsentOrEmpty(target))) await removeBackup(path, target);
    else await unlessGone(() => rename(path, target));
  }
}

/**
 * Removes a backup that is no longer needed. It is renamed first: if this process is killed while it deletes, the rest
 * does not look like a whole output. A call that fails is made once more, as nobody else would remove the rest.
 */
export async function removeBackup(backup: string, target: string): Promise<void> {
  const doomed = claimName(target, "tmp");
  try {
    await tryTwice(() => unlessGone(() => rename(backup, doomed)));
    await tryTwice(() => rm(doomed, { recursive: true, force: true }));
  } finally {
    release(doomed);
  }
}

/** Makes a call that failed once more: for removing what nobody else would remove. */
export const tryTwice = (action: () => Promise<void>): Promise<void> => action().catch(action);

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

/** Another process may have cleaned up the same leftover, or finished with it. */
async function unlessGone(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (readErrno(error) !== "ENOENT") throw error;
  }
}

async function findDeadLeftovers(target: string): Promise<Leftover[]> {
  const folder = dirname(target);
  const prefix = `.${basename(target)}.nfc-`;
  const found = (await readdir(folder)).map(async (name): Promise<Leftover[]> => {
    const [, kind, ...owner] = (name.startsWith(prefix) && SUFFIX.exec(name.slice(prefix.length))) || [];
    const path = join(folder, name);
    return kind === undefined || (await isInUse(path, parseOwner(owner))) ? [] : [{ kind: kind as Kind, path }];
  });
  return (await Promise.all(found)).flat();
}

/** @param parts number, start and table; the last two are missing in names of version 0.1 */
function parseOwner([pid, started = "0", table = identifySelf().table]: readonly string[]): ProcessIdentity {
  return { pid: Number(pid), started: Number(started), table };
}

async function isInUse(path: string, owner: ProcessIdentity): Promise<boolean> {
  return isSelf(owner) ? inUse.has(path) : isOwnerAlive(owner, path);
}
