// Reads the files that lie beside a model's weights: each is a regular file of bounded size that belongs to its folder.
import type { Stats } from "node:fs";
import { lstat, realpath } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { parseJson } from "../io/json.ts";
import { requireRegular, withFile } from "../io/positional-file.ts";

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
  { maxBytes }: ReadCompanionOptions = {},
): Promise<Buffer | null> {
  const path = join(folder, name);
  const real = await withIoErrors(path, () => resolveCompanion(folder, path));
  if (real === null) return null;
  // What was looked at may be another file by now, so that a link is not followed here.
  const bytes = await withFile(real, (file) => file.readWhole(maxBytes), { shown: path, refuseLink: true });
  return Buffer.from(bytes.buffer);
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
    requireRegular(status, path, "invalid-file");
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
  if (target !== null) requireRegular(target, path, "invalid-file");
  return real;
}

async function lstatOrNull(path: string): Promise<Stats | null> {
  return lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  });
}

/** The folder of a cached repository's files, for a folder in its snapshots: REPOSITORY/snapshots/COMMIT[/…]. */
function findHubBlobs(folder: string): string | null {
  const parts = folder.split(sep);
  const at = parts.lastIndexOf("snapshots");
  return at > 0 && at < parts.length - 1 ? [...parts.slice(0, at), "blobs"].join(sep) : null;
}
