// Shows that a process still works on a file or folder to those that cannot see the process: its times keep changing.
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { fileExists } from "./exists.ts";
import { readErrno } from "./io-error.ts";
import { isRunning, isSelf, type ProcessIdentity } from "./process.ts";

/** Between two beats. */
const BEAT_MS = 1000;
/** A path whose times have not changed for so long is nobody's. A busy or slow machine skips some beats. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 250;

/**
 * A thread of its own beats, because inference keeps the main one busy for many seconds at a time. Its code is a text:
 * there is then no file of it that a bundle could lack.
 */
const BEAT = `
const { parentPort } = require("node:worker_threads");
const { utimesSync } = require("node:fs");
const paths = new Set();
parentPort.on("message", ({ path, kept }) => (kept ? paths.add(path) : paths.delete(path)));
setInterval(() => {
  const now = new Date();
  for (const path of paths)
    try {
      utimesSync(path, now, now);
    } catch {} // it is being moved or removed
}, ${BEAT_MS});`;

const kept = new Set<string>();
let worker: Worker | undefined;

/** Lets the path's times change every second until {@link letGo}. What is held for less than 10 s needs none of this. */
export function keepAlive(path: string): void {
  kept.add(path);
  if (!worker) {
    worker = new Worker(BEAT, { eval: true, execArgv: [] });
    worker.unref();
  }
  worker.postMessage({ path, kept: true });
}

export function letGo(path: string): void {
  if (!kept.delete(path)) return;
  worker?.postMessage({ path, kept: false });
  if (kept.size > 0) return;
  void worker?.terminate();
  worker = undefined;
}

/** Processes that have been watched in vain: their other files need not be watched again. */
const gone = new Set<string>();

/**
 * Whether the process that made `path` still runs. Where the system cannot say so, the path is watched for up to
 * 10 seconds, and whatever changes it is a sign of life.
 */
export async function isOwnerAlive(owner: ProcessIdentity | null, path: string): Promise<boolean> {
  if (owner && isSelf(owner)) return true;
  const seen = owner && isRunning(owner);
  if (seen !== null) return seen;
  const key = owner && [owner.table, owner.pid, owner.started].join();
  if (key !== null && gone.has(key)) return false;
  const alive = await isChanging(path);
  if (key !== null && !alive && fileExists(path)) gone.add(key);
  return alive;
}

async function isChanging(path: string): Promise<boolean> {
  const first = await describeState(path);
  for (let waited = 0; first !== null && waited < PATIENCE_MS; waited += LOOK_MS) {
    await sleep(LOOK_MS);
    const now = await describeState(path);
    if (now !== first) return now !== null;
  }
  return false;
}

/** Changes when the path is written, touched or replaced; null where nothing is there. */
async function describeState(path: string): Promise<string | null> {
  try {
    // Network file systems answer from memory for up to a minute, unless the file has just been opened.
    await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).then(
      (handle) => handle.close(),
      () => undefined,
    );
    const { ino, size, mtimeMs, ctimeMs } = await stat(path);
    return [ino, size, mtimeMs, ctimeMs].join();
  } catch (error) {
    if (readErrno(error) === "ENOENT") return null;
    throw error;
  }
}
