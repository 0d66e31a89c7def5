// Tells whether the process that left a file behind still runs.
import { readErrno } from "./io-error.ts";

/** True for a process of this or another user; false for a number that no process can have. */
export function isProcessRunning(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0); // signal 0 is not delivered: the call only checks whether there is such a process
    return true;
  } catch (error) {
    return readErrno(error) === "EPERM"; // the process is another user's
  }
}
