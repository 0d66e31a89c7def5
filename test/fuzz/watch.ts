// Runs one target in processes of its own: one that hangs or dies is a finding, and the next begins after that input.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import type { Finding } from "./run-target.ts";

/** A process whose input does not change for this long hangs. It is longer than the limit of an input. */
const HANG_MS = 8000;
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

/** Runs inputs until the time is over. @throws Error when a process fails before its first input */
export async function runSlice(
  child: string,
  { target, seed, from, to, seconds, folder }: Slice,
): Promise<{ count: number; findings: Finding[] }> {
  const end = performance.now() + 1000 * seconds;
  const progress = `${folder}.progress`;
  const total: { count: number; findings: Finding[] } = { count: 0, findings: [] };
  for (let next = from; next < to && performance.now() < end; ) {
    for (const file of [progress, `${progress}.json`]) rmSync(file, { force: true });
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const left = Math.max(1, (end - performance.now()) / 1000);
    const flags = { target, seed, from: next, to, seconds: left, folder, progress };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const { at, code, signal, hung, stderr } = await watchProcess([child, ...args], progress);
    if (code === 0 && existsSync(`${progress}.json`)) {
      const { count, findings } = JSON.parse(readFileSync(`${progress}.json`, "utf8")) as typeof total;
      return { count: total.count + count, findings: [...total.findings, ...findings] };
    }
    if (at === null) throw new Error(`${target} does not start (${signal ?? code}): ${stderr}`);
    const fact = hung
      ? "hangs"
      : `ends the process (${signal ?? `exit ${code}`}): ${stderr.split("\n").slice(0, 4).join(" | ")}`;
    total.findings.push({ target, seed, index: at, fact });
    total.count += at + 1 - next;
    next = at + 1;
  }
  return total;
}
