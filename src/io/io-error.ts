// Turns the operating system's error numbers into messages that a user can act on.
import { type ErrorCode, NfcError } from "../errors.ts";

interface Meaning {
  code: ErrorCode;
  fact: string;
  hint: string;
}

const DISK_FULL: Meaning = {
  code: "io",
  fact: "disk full",
  hint: "free some space or choose an output folder on another disk",
};
const PERMISSION: Meaning = {
  code: "io",
  fact: "permission denied",
  hint: "check the owner and the permissions of the file and its folder",
};
const TOO_MANY_FILES: Meaning = {
  code: "io",
  fact: "too many open files",
  hint: "raise the limit (ulimit -n) or close other programs",
};

const MEANINGS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["ENOSPC", DISK_FULL],
  ["EDQUOT", { ...DISK_FULL, fact: "disk full: your quota is used up" }],
  ["EFBIG", { code: "io", fact: "the file is too large for this file system", hint: "write smaller shards" }],
  ["EACCES", PERMISSION],
  ["EPERM", PERMISSION],
  ["EROFS", { code: "io", fact: "the file system is read-only", hint: "choose another output folder" }],
  ["EMFILE", TOO_MANY_FILES],
  ["ENFILE", TOO_MANY_FILES],
  ["EIO", { code: "io", fact: "the device reports an input/output error", hint: "check the disk" }],
  ["EBUSY", { code: "io", fact: "another program is using it", hint: "close that program and try again" }],
  ["ENOENT", { code: "not-found", fact: "no such file or folder", hint: "check the path" }],
  ["ENOTDIR", { code: "not-found", fact: "a part of this path is a file, not a folder", hint: "check the path" }],
  ["EISDIR", { code: "io", fact: "this is a folder, a file is expected", hint: "check the path" }],
  ["ELOOP", { code: "io", fact: "too many symbolic links", hint: "check the links along the path" }],
  ["ENAMETOOLONG", { code: "io", fact: "the name is too long for this file system", hint: "choose a shorter name" }],
  ["EEXIST", { code: "exists", fact: "it exists already", hint: "choose another name" }],
  ["ENOTEMPTY", { code: "exists", fact: "it exists already and is not empty", hint: "choose another name" }],
]);

/** The name of the error number (`ENOENT`), when `error` comes from the operating system. */
export function readErrno(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  return error.code;
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
