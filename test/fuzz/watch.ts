// Runs one target in processes of its own: one that hangs or dies is a finding, and the next begins after that input.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import type { Finding } from "./run-target.ts";

/** A process whose input does not change for this long hangs, */
const HANG_MS = 5000;
/** unless the input alone ends within this time: other programs may have been in the way. */
const SECOND_MS = 20_000;
const LOOK_MS = 250;
/** Time until the first input: compiled code is loaded and models are made. */
const START_MS = 60_000;

export interface Slice {
  target: string;
  seed: number;
  from: number;
  to: number;
  /** Time after which no further input begins. */
  seconds: number;
  /** Folder of the target, and beside it what processes report. */
  folder: string;
}

/** How a process ended, and the number of the input that it was at. */
export interface Ending {
  at: number | null;
  code: number | null;
  signal: string | null;
  hung: boolean;
  stderr: string;
}

/** Starts a script of Node and watches the file in which it notes its progress. */
export function watchProcess(script: readonly string[], progress: string, hangMs = HANG_MS): Promise<Ending> {
  const child = spawn(process.execPath, ["--max-old-space-size=200", ...script], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let [seen, since, hung, stderr] = ["", performance.now(), false, ""];
  child.stderr.on("data", (piece) => {
    stderr = (stderr + piece).slice(-2000);
  });
  const timer = setInterval(() => {
    const now = existsSync(progress) ? readFileSync(progress, "utf8") : "";
    if (now !== seen) [seen, since] = [now, performance.now()];
    if (performance.now() - since < (seen === "" ? START_MS : hangMs)) return;
    hung = true;
    child.kill("SIGKILL");
  }, LOOK_MS);
  return new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearInterval(timer);
      const text = existsSync(progress) ? readFileSync(progress, "utf8").trim() : "";
      resolve({ at: text === "" ? null : Number(text), code, signal, hung, stderr });
    });
  });
}

/** The findings that processes have noted, one a line. */
const readFindings = (file: string): Finding[] =>
  existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Finding)
    : [];

/**
 * Runs inputs until the time is over.
 * @param child the script, which notes its progress and its findings
 * @throws Error when a process fails before its first input
 */
export async function runSlice(child: string, slice: Slice): Promise<{ count: number; findings: Finding[] }> {
  const { target, seed, from, to, folder } = slice;
  const [progress, found] = [`${folder}.progress`, `${folder}.findings`];
  rmSync(found, { force: true });
  const start = (first: number, last: number, seconds: number, hangMs = HANG_MS) => {
    rmSync(progress, { force: true });
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const flags = Object.entries({ target, seed, folder, progress, found, from: first, to: last, seconds });
    return watchProcess([child, ...flags.flatMap(([name, value]) => [`--${name}`, String(value)])], progress, hangMs);
  };
  const end = performance.now() + 1000 * slice.seconds;
  const deaths: Finding[] = [];
  let next = from;
  while (next < to && performance.now() < end) {
    let ending = await start(next, to, Math.max(1, (end - performance.now()) / 1000));
    if (ending.at === null && ending.code === 0) break;
    if (ending.at === null)
      throw new Error(`${target} does not start (${ending.signal ?? ending.code}): ${ending.stderr}`);
    const { at, hung } = ending;
    next = at + 1;
    if (ending.code === 0) break;
    if (hung) ending = await start(at, at + 1, SECOND_MS / 1000, SECOND_MS);
    if (ending.code === 0) continue;
    const { code, signal, stderr } = ending;
    const death = `ends the process (${signal ?? `exit ${code}`}): ${stderr.split("\n").slice(0, 4).join(" | ")}`;
    deaths.push({ target, seed, index: at, fact: ending.hung ? "hangs" : death });
  }
  return { count: next - from, findings: [...readFindings(found), ...deaths] };
}
