// Writes files that are on the disk when the call returns, and syncs folders, so that a power cut cannot halve an output.
import { type FileHandle, open, readdir } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { throwIfAborted } from "../errors.ts";
import { readErrno, withIoErrors } from "./io-error.ts";
import { PIECE_BYTES } from "./positional-file.ts";
import { countWritten, timePhase } from "./timings.ts";

const WINDOWS = process.platform === "win32";
/** The answers of file systems that cannot sync a folder, or anything (some network and FUSE file systems). */
const SYNC_NOT_SUPPORTED = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

export interface DurableFileOptions {
  /** Whether a file at the path is overwritten; it must be absent unless given. */
  overwrite?: boolean | undefined;
  /** The path that errors name; the file's own unless given. */
  shown?: string | undefined;
  /** Whether the caller syncs the file: the disk can then write while more is done. */
  unsynced?: boolean | undefined;
  /** Runs each call to the system and translates its errors; {@link withIoErrors} unless given. */
  guard?: (<T>(path: string, action: () => Promise<T>) => Promise<T>) | undefined;
}

/** A new file that {@link writeDurably} fills from its start to its end. */
export interface DurableFile {
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Creates the file at `path`, lets `fill` write it, and waits until the disk has all of it.
 * @throws NfcError `io` (disk full, …), `exists`, and what `fill` throws; then the rest of the file stays
 */
export async function writeDurably<T>(
  path: string,
  fill: (file: DurableFile) => Promise<T>,
  { overwrite = false, shown = path, unsynced = false, guard = withIoErrors }: DurableFileOptions = {},
): Promise<T> {
  const handle = await guard(shown, () => open(path, overwrite ? "w" : "wx"));
  const flush = new EarlyFlush(handle);
  try {
    const write = async (bytes: Uint8Array) => {
      await writeFully(handle, bytes);
      if (!unsynced) flush.add(bytes.byteLength);
    };
    const result = await fill({ write: (bytes) => guard(shown, () => write(bytes)) });
    if (!unsynced) {
      await guard(shown, () => flush.end());
      await guard(shown, () => syncHandle(handle));
    }
    return result;
  } finally {
    await flush.settle();
    await guard(shown, () => handle.close()); // network file systems report a full disk only here
  }
}

/** Bytes after which the disk is set to work: few enough that the last wait is short. */
const FLUSH_BYTES = 48 * 2 ** 20;

/** Lets the disk write what is there while more is computed: otherwise the system holds it back until the last sync. */
class EarlyFlush {
  private readonly handle: FileHandle;
  private pending = 0;
  private running: Promise<void> | null = null;
  private fault: unknown = null;

  constructor(handle: FileHandle) {
    this.handle = handle;
  }

  add(bytes: number): void {
    this.pending += bytes;
    if (this.running || this.pending < FLUSH_BYTES) return;
    this.pending = 0;
    this.running = this.flush();
  }

  private async flush(): Promise<void> {
    try {
      await this.handle.datasync();
    } catch (error) {
      if (!isUnsupported(error)) this.fault ??= error;
    } finally {
      this.running = null;
    }
  }

  /** Waits until nothing runs any more. */
  async settle(): Promise<void> {
    await this.running;
  }

  /** @throws the first fault of the disk: the system tells it to one sync alone, the last one would not show it */
  async end(): Promise<void> {
    await this.running;
    if (this.fault !== null) throw this.fault;
  }
}

export interface WriteChunksOptions extends Pick<DurableFileOptions, "unsynced"> {
  onBytes?: ((written: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Creates `path` from a stream of bytes. Gives its size. @throws NfcError "io" (disk full, …), "exists", "aborted" */
export function writeChunks(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  { onBytes, signal, unsynced }: WriteChunksOptions = {},
): Promise<number> {
  return writeDurably(
    path,
    async (file) => {
      let written = 0;
      for await (const chunk of chunks) {
        throwIfAborted(signal);
        await file.write(chunk);
        written += chunk.byteLength;
        onBytes?.(written);
      }
      return written;
    },
    { unsynced },
  );
}

/** Writes all bytes at `position`, or where the last write ended: the system may take fewer than it is given. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number | null = null): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const length = Math.min(PIECE_BYTES, bytes.byteLength - done);
    const at = position === null ? null : position + done;
    const { bytesWritten } = await handle.write(bytes, done, length, at);
    countWritten(bytesWritten);
    done += bytesWritten;
  }
}

const isUnsupported = (error: unknown) => SYNC_NOT_SUPPORTED.has(readErrno(error) ?? "");

async function syncHandle(handle: FileHandle): Promise<void> {
  try {
    await timePhase("waiting for the disk", () => handle.sync());
  } catch (error) {
    if (!isUnsupported(error)) throw error;
  }
}

/** Syncs a file, or on POSIX a folder. */
async function syncPath(path: string, flags: string): Promise<void> {
  await withIoErrors(path, async () => {
    const handle = await open(path, flags);
    try {
      await syncHandle(handle);
    } finally {
      await handle.close();
    }
  });
}

/** Syncs a file's content. Windows wants write access for that; POSIX does not, and the file may be read-only. */
export function syncFile(path: string): Promise<void> {
  return syncPath(path, WINDOWS ? "r+" : "r");
}

/** Syncs the entries of one folder. Windows has no such operation: NTFS journals them. */
export async function syncFolder(path: string): Promise<void> {
  if (!WINDOWS) await syncPath(path, "r");
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
