// Makes outputs appear whole or not at all: a folder or file is filled beside its target and then renamed into place.
import { mkdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describeError, NfcError } from "../errors.ts";
import { syncFolder, syncFoldersUpTo, syncTree, writeDurably } from "./durable.ts";
import { fileExists } from "./exists.ts";
import { keepAlive, letGo } from "./heartbeat.ts";
import { readErrno, readErrorPath, toIoError, withIoErrors } from "./io-error.ts";
import { claimName, cleanLeftovers, release, removeBackup } from "./leftovers.ts";
import { checkTarget, makeExistsError, type Occupancy, resolveTarget } from "./output-guard.ts";

/** A folder being filled; nothing is visible at the target before `commit`. */
export interface StagedDirectory {
  /** The folder to write to. */
  readonly path: string;
  /**
   * Syncs everything and moves it to the target.
   * @throws NfcError `exists` when something appeared there meanwhile, `io`; then `discard` is still due.
   */
  commit(): Promise<void>;
  /** Removes the staging folder and the parent folders created for it. Does nothing after `commit`. */
  discard(): Promise<void>;
}

export interface StageOptions {
  /** Replace an existing output. */
  force?: boolean | undefined;
}

/**
 * Begins an output folder. The files that a killed process left at the same target are removed first, and a target
 * that it had moved away is moved back. Missing parent folders are created.
 * @throws NfcError `exists`, `usage` (a target that even `force` may not replace), `io`
 */
export function stageDirectory(target: string, { force = false }: StageOptions = {}): Promise<StagedDirectory> {
  return withIoErrors(target, async () => {
    const place = { shown: target, path: await resolveTarget(target), force };
    const parents = await createParents(place.path);
    try {
      await cleanLeftovers(place.path);
      await checkTarget(place.path, target, force);
      const path = claimName(place.path, "tmp");
      await mkdir(path);
      keepAlive(path);
      return makeStaging(path, place, parents);
    } catch (error) {
      await parents.removeIfEmpty();
      throw error;
    }
  });
}

/**
 * Fills a staging folder with `fill` and commits it; when `fill` throws, nothing is left.
 * @throws what `fill` throws (errors of the system as NfcError), and as {@link stageDirectory}
 */
export async function withStagedDirectory<T>(
  target: string,
  options: StageOptions,
  fill: (folder: string) => Promise<T>,
): Promise<T> {
  const staged = await stageDirectory(target, options);
  try {
    const result = await fill(staged.path);
    await staged.commit();
    return result;
  } catch (error) {
    // The first fault is reported: a folder that cannot be removed now is removed at the next attempt.
    await staged.discard().catch(() => undefined);
    throw showAtTarget(target, staged.path, error);
  }
}

/** Names the target instead of the staging folder, which is removed by now and unknown to the user. */
function showAtTarget(target: string, staged: string, error: unknown): unknown {
  const known = toIoError(error, readErrorPath(error) ?? target);
  if (!(known instanceof NfcError) || !known.message.includes(staged)) return known;
  const hint = known.hint?.replaceAll(staged, target);
  return new NfcError(known.code, known.message.replaceAll(staged, target), { hint, cause: known });
}

/** Moves back a folder that a killed process had moved away to replace it. Call it before reading such a folder. */
export function recoverDirectory(target: string): Promise<void> {
  return withIoErrors(target, async () => cleanLeftovers(await resolveTarget(target)));
}

/**
 * Writes a file so that its path shows either the old content or all of the new. Missing parent folders are created; a
 * symbolic link stays and its destination is replaced.
 * @throws NfcError `io`, `exists` (a broken link)
 */
export function writeFileAtomic(path: string, data: Uint8Array | string): Promise<void> {
  return withIoErrors(path, async () => {
    const target = await resolveTarget(path);
    const parents = await createParents(target);
    const temporary = claimName(target, "tmp");
    try {
      await cleanLeftovers(target);
      await writeDurably(temporary, (file) => file.write(typeof data === "string" ? Buffer.from(data) : data), {
        shown: path,
      });
      await rename(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true });
      await parents.removeIfEmpty();
      throw error;
    } finally {
      release(temporary);
    }
    await parents.sync();
  });
}

/** The folders above a target: those that had to be created, and how to undo and to sync that. */
interface Parents {
  removeIfEmpty(): Promise<void>;
  sync(): Promise<void>;
}

async function createParents(target: string): Promise<Parents> {
  const parent = dirname(target);
  const topmost = await createFolders(parent);
  return {
    removeIfEmpty: async () => {
      if (topmost !== undefined) await removeEmptyUpTo(parent, topmost);
    },
    sync: () => syncFoldersUpTo(parent, topmost === undefined ? parent : dirname(topmost)),
  };
}

/** Makes a folder and those above it, all or none. Gives the topmost one that was made, if any. */
async function createFolders(folder: string): Promise<string | undefined> {
  const missing: string[] = [];
  for (let above = folder; !fileExists(above) && above !== dirname(above); above = dirname(above)) missing.push(above);
  try {
    return await mkdir(folder, { recursive: true });
  } catch (error) {
    // The first fault is reported, and an empty folder that stays does no harm.
    for (const made of missing) await rmdir(made).catch(() => undefined);
    throw error;
  }
}

async function removeEmptyUpTo(folder: string, topmost: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    const code = readErrno(error);
    if (code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOENT") return; // another process uses it, or has removed it
    throw error;
  }
  if (folder !== topmost) await removeEmptyUpTo(dirname(folder), topmost);
}

interface Place {
  /** The path that the user wrote. */
  shown: string;
  /** The absolute path without symbolic links. */
  path: string;
  force: boolean;
}

function makeStaging(staged: string, place: Place, parents: Parents): StagedDirectory {
  const { path, shown, force } = place;
  let finished = false;
  return {
    path: staged,
    async commit() {
      if (finished) throw new Error(`${shown}: this output is committed or discarded already`);
      await withIoErrors(shown, async () => {
        await syncTree(staged);
        const occupancy = await checkTarget(path, shown, force);
        const backup = occupancy === "folder" ? claimName(path, "old") : undefined;
        try {
          await moveIn(staged, place, parents, { occupancy, backup });
          finished = true;
          if (backup) await dropBackup(backup, place);
        } finally {
          if (backup) release(backup);
        }
        letGo(staged);
        release(staged);
      });
    },
    async discard() {
      if (finished) return;
      finished = true;
      letGo(staged);
      await withIoErrors(shown, async () => {
        await rm(staged, { recursive: true, force: true });
        release(staged);
        await parents.removeIfEmpty();
      });
    },
  };
}

/**
 * Moves the old output, if any, to its backup name and the new one in, and takes that back when a step fails. A kill
 * between the two renames leaves the old one under the backup name: the next {@link stageDirectory} restores it.
 */
async function moveIn(
  staged: string,
  { path, shown }: Place,
  parents: Parents,
  { occupancy, backup }: { occupancy: Occupancy; backup: string | undefined },
): Promise<void> {
  const undo: (() => Promise<void>)[] = [];
  try {
    if (backup) {
      await rename(path, backup);
      undo.unshift(() => rename(backup, path));
    }
    // POSIX replaces an empty folder in one step; Windows wants it gone.
    if (occupancy === "empty-folder" && process.platform === "win32") await rmdir(path);
    await rename(staged, path);
    undo.unshift(() => rename(path, staged));
    await parents.sync();
  } catch (error) {
    for (const step of undo) await step();
    const code = readErrno(error);
    if (code === "ENOTEMPTY" || code === "EEXIST") throw makeExistsError(shown, "folder");
    if (code === "ENOTDIR") throw makeExistsError(shown, "file");
    throw error;
  }
}

/** Removes the backup. The new output is in place and synced by now, which the error says if that fails. */
async function dropBackup(backup: string, { path, shown }: Place): Promise<void> {
  try {
    await removeBackup(backup, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    const message = `${shown}: written, but the replaced output could not be removed completely: ${describeError(cause)}`;
    throw new NfcError("io", message, { hint: `delete ${join(dirname(path), `.${basename(path)}.nfc-*`)}`, cause });
  }
}
