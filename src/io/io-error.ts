// Turns the operating system's error numbers into messages that a user can act on.
import { type ErrorCode, NfcError } from "../errors.ts";

interface Meaning {
  code: ErrorCode;
  fact: string;
  hint: string;
}

const io = (fact: string, hint: string): Meaning => ({ code: "io", fact, hint });
const SPACE = "free some space or choose an output folder on another disk";
const PERMISSION = io("permission denied", "check the owner and the permissions of the file and its folder");
const TOO_MANY_FILES = io("too many open files", "raise the limit (ulimit -n) or close other programs");

const MEANINGS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["ENOSPC", io("disk full", SPACE)],
  ["EDQUOT", io("disk full: your quota is used up", SPACE)],
  ["EFBIG", io("the file is too large for this file system", "write smaller shards")],
  ["EACCES", PERMISSION],
  ["EPERM", PERMISSION],
  ["EROFS", io("the file system is read-only", "choose another output folder")],
  ["EMFILE", TOO_MANY_FILES],
  ["ENFILE", TOO_MANY_FILES],
  ["EIO", io("the device reports an input/output error", "check the disk")],
  ["EBUSY", io("another program is using it", "close that program and try again")],
  ["ENOENT", { code: "not-found", fact: "no such file or folder", hint: "check the path" }],
  ["ENOTDIR", { code: "not-found", fact: "a part of this path is a file, not a folder", hint: "check the path" }],
  ["EISDIR", io("this is a folder, a file is expected", "check the path")],
  ["ELOOP", io("too many symbolic links", "check the links along the path")],
  ["ENAMETOOLONG", io("the name is too long for this file system", "choose a shorter name")],
  ["EEXIST", { code: "exists", fact: "it exists already", hint: "choose another name" }],
  ["ENOTEMPTY", { code: "exists", fact: "it exists already and is not empty", hint: "choose another name" }],
]);

/** The name of the error number (`ENOENT`), when `error` comes from the operating system. */
export function readErrno(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  return error.code;
}

/** The path that an error of the operating system names, if it names one. */
export function readErrorPath(error: unknown): string | undefined {
  return error instanceof Error && "path" in error && typeof error.path === "string" ? error.path : undefined;
}

/**
 * Makes an NfcError that names `path` of an error of the operating system that a user can mend; `cause` keeps the
 * original. Every other error, an NfcError too, is returned as it is.
 */
export function toIoError(error: unknown, path: string): unknown {
  const meaning = MEANINGS.get(readErrno(error) ?? "");
  if (error instanceof NfcError || !meaning) return error;
  return new NfcError(meaning.code, `${path}: ${meaning.fact}`, { hint: meaning.hint, cause: error });
}

/** Runs `action` and rethrows what it throws through {@link toIoError}. */
export async function withIoErrors<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw toIoError(error, path);
  }
}
