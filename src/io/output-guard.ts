// Decides whether an output may be written at a path: nothing is overwritten unasked, and only models with --force.
import { lstat, readdir, realpath } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { NfcError } from "../errors.ts";
import { readErrno, toIoError } from "./io-error.ts";
import { findForeignEntry, looksLikeModel } from "./model-entries.ts";

const ANOTHER_NAME = "choose another output folder";

/** The kind of thing at the path of an output. */
export type Occupancy = "free" | "empty-folder" | "folder" | "file";

async function readOccupancy(path: string): Promise<Occupancy> {
  try {
    if (!(await lstat(path)).isDirectory()) return "file";
    return (await readdir(path)).length === 0 ? "empty-folder" : "folder";
  } catch (error) {
    if (readErrno(error) === "ENOENT") return "free";
    throw error;
  }
}

/**
 * Resolves symbolic links: a link to a folder stays, and its destination is replaced.
 * @throws NfcError "exists" for a broken link; "not-found", "io", "usage" for a path that no folder can have
 */
export async function resolveTarget(target: string): Promise<string> {
  if (target === "") throw new NfcError("usage", "an empty path names no output", { hint: ANOTHER_NAME });
  if (target.includes("\0")) throw new NfcError("usage", "a path cannot hold a NUL character", { hint: ANOTHER_NAME });
  const absolute = resolve(target);
  try {
    return await realpath(absolute);
  } catch (error) {
    if (readErrno(error) !== "ENOENT") throw toIoError(error, target);
    if ((await readOccupancy(absolute)) === "free") return absolute;
    throw new NfcError("exists", `${target}: this is a broken symbolic link`, { hint: "remove the link" });
  }
}

/**
 * Refuses a target that must not be replaced, and tells what is there.
 * @throws NfcError `exists` without `force`; `usage` when not even `force` may replace it.
 */
export async function checkTarget(path: string, shown: string, force: boolean): Promise<Occupancy> {
  await checkPlace(path, shown);
  const occupancy = await readOccupancy(path);
  if (occupancy === "free" || occupancy === "empty-folder") return occupancy;
  if (!force) throw makeExistsError(shown, occupancy);
  if (occupancy === "file") {
    throw new NfcError("usage", `${shown}: this is a file, --force replaces folders only`, { hint: ANOTHER_NAME });
  }
  await checkReplaceable(path, shown);
  return occupancy;
}

export function makeExistsError(shown: string, occupancy: Occupancy): NfcError {
  if (occupancy === "file") return new NfcError("exists", `${shown}: a file is there already`, { hint: ANOTHER_NAME });
  const hint = `${ANOTHER_NAME}, or replace this one with --force`;
  return new NfcError("exists", `${shown}: the output folder exists already and is not empty`, { hint });
}

/** Refuses the root, the current folder and the home folder: the user works in them, so they are never moved away. */
async function checkPlace(path: string, shown: string): Promise<void> {
  const place = await findForbiddenPlace(path);
  if (!place) return;
  throw new NfcError("usage", `${shown}: this is ${place}, it cannot be an output`, {
    hint: `name a folder of its own, for example ${join(shown, "out")}`,
  });
}

async function findForbiddenPlace(path: string): Promise<string | undefined> {
  if (dirname(path) === path) return "the root of the file system";
  if (contains(path, await resolveFolder(() => process.cwd()))) return "the current folder or one around it";
  if (contains(path, await resolveFolder(homedir))) return "your home folder or one around it";
  return undefined;
}

/** Gives undefined for a folder that does not exist: a deleted working folder, or an account without a home. */
async function resolveFolder(find: () => string): Promise<string | undefined> {
  try {
    return await realpath(find());
  } catch (error) {
    if (readErrno(error) === "ENOENT" || readErrno(error) === "ERR_SYSTEM_ERROR") return undefined;
    throw error;
  }
}

/** Whether `path` is `folder` or lies below it; both absolute. */
export function contains(folder: string, path: string | undefined): boolean {
  if (path === undefined) return false;
  const way = relative(folder, path);
  return !isAbsolute(way) && way.split(sep)[0] !== "..";
}

/** What a model tool wrote can be made again; everything else is somebody's work. */
async function checkReplaceable(path: string, shown: string): Promise<void> {
  const foreign = await findForeignEntry(path);
  if (foreign === null && (await looksLikeModel(path))) return;
  const isRepository = foreign !== null && basename(foreign) === ".git";
  const reason = isRepository
    ? `${dirname(foreign) === "." ? "it" : dirname(foreign)} is a git repository`
    : !(await looksLikeModel(path))
      ? "it does not look like a model (no config.json, nfc.json, .safetensors or .onnx in it)"
      : `${foreign} in it was not written by a model tool`;
  const away = isRepository || foreign === null ? "delete this one yourself" : "move that away first";
  throw new NfcError("usage", `${shown}: --force will not replace this folder: ${reason}`, {
    hint: `${ANOTHER_NAME}, or ${away}`,
  });
}
