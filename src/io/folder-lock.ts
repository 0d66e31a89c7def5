// Locks a folder by a file with the number of the process that works in it; a killed process leaves its file behind.
import { mkdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { readErrno, withIoErrors } from "./io-error.ts";
import { isProcessRunning } from "./process.ts";

export const LOCK_FILE = "lock";

/**
 * Creates the folder where it is missing, and locks it for this process.
 * @throws NfcError "exists" while another process that still runs holds the lock
 */
export async function lockFolder(folder: string): Promise<void> {
  const file = join(folder, LOCK_FILE);
  await withIoErrors(folder, () => mkdir(folder, { recursive: true }));
  for (let attempt = 0; ; attempt++) {
    try {
      return await writeFile(file, `${process.pid}\n`, { flag: "wx" });
    } catch (error) {
      if (readErrno(error) !== "EEXIST") return withIoErrors(file, () => Promise.reject(error));
    }
    const owner = Number(await readFile(file, "utf8").catch(() => ""));
    if (attempt > 0 || isProcessRunning(owner))
      throw new NfcError("exists", `${folder}: process ${owner} is at work in it`, {
        hint: `wait until it ends; if it is no nfc, remove ${file}`,
      });
    await withIoErrors(file, () => rm(file, { force: true }));
  }
}

/** Removes the lock, and the folder too when nothing else is in it. */
export async function unlockFolder(folder: string): Promise<void> {
  await withIoErrors(folder, () => rm(join(folder, LOCK_FILE), { force: true }));
  await rmdir(folder).catch((error: unknown) => {
    if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(readErrno(error) ?? "")) throw error;
  });
}
