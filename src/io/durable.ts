// Waits until written files and renamed entries are on the disk, so that a power cut cannot leave half an output.
import { open, readdir } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { readErrno, withIoErrors } from "./io-error.ts";

const WINDOWS = process.platform === "win32";
/** What file systems answer that cannot sync a folder, or anything (some network and FUSE file systems). */
const SYNC_NOT_SUPPORTED = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

/** Syncs one file, or on POSIX one folder. */
async function sync(path: string, flags: string): Promise<void> {
  await withIoErrors(path, async () => {
    const handle = await open(path, flags);
    try {
      await handle.sync();
    } catch (error) {
      if (!SYNC_NOT_SUPPORTED.has(readErrno(error) ?? "")) throw error;
    } finally {
      await handle.close();
    }
  });
}

/** Syncs a file's content. Windows wants write access for that; POSIX does not, and the file may be read-only. */
function syncFile(path: string): Promise<void> {
  return sync(path, WINDOWS ? "r+" : "r");
}

/** Syncs the entries of one folder. Windows has no such operation: NTFS journals them. */
export async function syncFolder(path: string): Promise<void> {
  if (!WINDOWS) await sync(path, "r");
}

/** Syncs all files below `folder`, and then the folders, from the inside out. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await withIoErrors(folder, () => readdir(folder, { withFileTypes: true }))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncFile(path);
  }
  await syncFolder(folder);
}

/** Syncs `folder` and its parents up to and including `top`. */
export async function syncFoldersUpTo(folder: string, top: string): Promise<void> {
  await syncFolder(folder);
  if (relative(top, folder) !== "") await syncFoldersUpTo(dirname(folder), top);
}
