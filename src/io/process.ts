// Names processes so that others can tell whether they still run, where the operating system shows both.
import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { readErrno } from "./io-error.ts";

/** A process. Its number alone does not name it: numbers are given out again, and each container has a number 1. */
export interface ProcessIdentity {
  pid: number;
  /** The table that the number belongs to, as 12 hexadecimal digits: the system since its boot, and the container. */
  table: string;
  /** Clock ticks from the boot of the system to the start of the process; 0 where the system does not tell. */
  started: number;
}

let own: ProcessIdentity | undefined;

export function identifySelf(): ProcessIdentity {
  own ??= { pid: process.pid, table: nameTable(), started: readStart("self") };
  return own;
}

/** The process of this number as it is now, in the table of this process. */
export function identifyProcess(pid: number): ProcessIdentity {
  return { pid, table: identifySelf().table, started: readStartOf(pid) };
}

export function isSelf({ pid, table, started }: ProcessIdentity): boolean {
  const self = identifySelf();
  return pid === self.pid && table === self.table && started === self.started;
}

/** Whether the process runs; null where that cannot be seen from here: another machine or container, no start times. */
export function isRunning({ pid, table, started }: ProcessIdentity): boolean | null {
  if (table !== identifySelf().table) return null;
  if (!hasProcess(pid)) return false;
  const now = readStartOf(pid);
  return started === 0 || now === 0 ? null : started === now;
}

/** True for a process of this or another user; false for a number that no process can have. */
function hasProcess(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0); // signal 0 is not delivered: the call only checks whether there is such a process
    return true;
  } catch (error) {
    return readErrno(error) === "EPERM"; // the process is another user's
  }
}

/** Linux tells the boot and the process namespace; elsewhere the host's name has to do. */
function nameTable(): string {
  const boot = orElse("", () => readFileSync("/proc/sys/kernel/random/boot_id", "utf8"));
  const namespace = orElse("", () => readlinkSync("/proc/self/ns/pid"));
  const table = boot && namespace ? [boot, namespace] : [hostname()];
  return createHash("sha256").update(JSON.stringify(table)).digest("hex").slice(0, 12);
}

/** 0 also where /proc shows the processes of another namespace than this process's. */
function readStartOf(pid: number): number {
  const self = orElse("", () => readlinkSync("/proc/self"));
  return self === String(process.pid) ? readStart(pid) : 0;
}

/** Field 22 of /proc/PID/stat. Field 2, the program's name, is in parentheses and may hold spaces and parentheses. */
function readStart(pid: number | "self"): number {
  const stat = orElse("", () => readFileSync(`/proc/${pid}/stat`, "latin1"));
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[22 - 3] ?? 0); // the first of these is field 3
}

/** What `read` gives, or `fallback` on a system without the file. */
function orElse<T>(fallback: T, read: () => T): T {
  try {
    return read();
  } catch {
    return fallback;
  }
}
