// Reads the files that lie beside a model's weights: each is a regular file of bounded size that belongs to its folder.
import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, realpath } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { parseJson } from "../io/json.ts";
import { refuseLfsPointer } from "../io/positional-file.ts";

/** The largest tokenizers have some 30 MB; a larger file is a mistake or an attack. */
const MAX_COMPANION_BYTES = 256 * 2 ** 20;

export interface ReadCompanionOptions {
  maxBytes?: number | undefined;
}

/**
 * The bytes of the file `name` of a model's folder; null where there is none. A link is followed only to a file of the
 * same folder, or of the same repository in the Hub's cache: whatever else a stranger's link names would be copied into
 * what is written, and published with it.
 * @throws NfcError "invalid-file" for what is no regular file, for a link that leads elsewhere and for a file that is too
 * large, "unsupported" for a Git LFS pointer
 */
export async function readCompanion(
  folder: string,
  name: string,
  { maxBytes = MAX_COMPANION_BYTES }: ReadCompanionOptions = {},
): Promise<Buffer | null> {
  const path = join(folder, name);
  return withIoErrors(path, async () => {
    const real = await resolveCompanion(folder, path);
    if (real === null) return null;
    // What was looked at may be another file by now: a link is not followed here, and a pipe does not block.
    const handle = await open(real, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
    try {
      const status = await handle.stat();
      requireRegular(status, path);
      if (status.size > maxBytes)
        throw new NfcError("invalid-file", `${path}: ${status.size} bytes, more than the ${maxBytes} allowed here`);
      const bytes = await readWhole(handle, status.size, path);
      refuseLfsPointer(bytes, path);
      return bytes;
    } finally {
      await handle.close();
    }
  });
}

/**
 * The value of a JSON file of a model's folder; undefined where there is none.
 * @throws NfcError as {@link readCompanion}; "invalid-file" for what is not JSON
 */
export async function readCompanionJson(
  folder: string,
  name: string,
  options: ReadCompanionOptions = {},
): Promise<unknown> {
  const bytes = await readCompanion(folder, name, options);
  return bytes === null ? undefined : parseJson(bytes, join(folder, name));
}

async function readWhole(handle: FileHandle, size: number, path: string): Promise<Buffer> {
  const bytes = Buffer.alloc(size);
  for (let done = 0; done < size; ) {
    const { bytesRead } = await handle.read(bytes, done, size - done, done);
    if (bytesRead === 0) throw new NfcError("io", `${path}: it has been cut while it was read`, { hint: "try again" });
    done += bytesRead;
  }
  return bytes;
}

/**
 * True when a model's folder has the file, which is not opened.
 * @throws NfcError "invalid-file" for one that {@link readCompanion} would not read
 */
export async function hasCompanion(folder: string, name: string): Promise<boolean> {
  const path = join(folder, name);
  return withIoErrors(path, async () => (await resolveCompanion(folder, path)) !== null);
}

/** The path without links of a file that may be read; null where there is no such name. */
async function resolveCompanion(folder: string, path: string): Promise<string | null> {
  const status = await lstatOrNull(path);
  if (status === null) return null;
  if (!status.isSymbolicLink()) {
    requireRegular(status, path);
    return path;
  }
  const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    throw new NfcError("invalid-file", `${path}: a link to a file that is not there`, { hint: "restore or delete it" });
  });
  const root = await realpath(folder);
  if (!real.startsWith(root + sep) && dirname(real) !== findHubBlobs(root))
    throw new NfcError("invalid-file", `${path}: a link to ${real}, which lies outside the model's folder`, {
      hint: "put the file itself into the folder",
    });
  const target = await lstatOrNull(real);
  if (target !== null) requireRegular(target, path);
  return real;
}

async function lstatOrNull(path: string): Promise<Stats | null> {
  return lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  });
}

function requireRegular(status: Stats, path: string): void {
  if (status.isFile()) return;
  const what = status.isDirectory() ? "a folder" : "no regular file";
  throw new NfcError("invalid-file", `${path}: this is ${what}, a file is expected`, { hint: "delete or replace it" });
}

/** The folder of a cached repository's files, for a folder in its snapshots: REPOSITORY/snapshots/COMMIT[/…]. */
function findHubBlobs(folder: string): string | null {
  const parts = folder.split(sep);
  const at = parts.lastIndexOf("snapshots");
  return at > 0 && at < parts.length - 1 ? [...parts.slice(0, at), "blobs"].join(sep) : null;
}
