// Runs inputs of one target in this process and judges each: a fault, a second too long, or too much memory is a finding.
import { mkdirSync } from "node:fs";
import { describeError } from "../../src/errors.ts";
import { makeInput } from "./mutate.ts";
import type { Target } from "./target.ts";

/** An input may take so much time of the processor, which other programs do not lengthen. */
export const MAX_SECONDS = 5;
/** Most memory of the process, which holds Node and, for commands, ONNX Runtime. */
const MAX_BYTES = 300 * 2 ** 20;

export interface Finding {
  target: string;
  seed: number;
  index: number;
  fact: string;
}

export interface Limits {
  seed: number;
  from: number;
  to: number;
  /** No input begins after this time, which counts from the first one. */
  seconds?: number | undefined;
  folder: string;
  /** Called before each input. */
  onInput?: ((index: number) => void) | undefined;
  /** Called with each finding at once: a later input may end the process. */
  onFinding?: ((finding: Finding) => void) | undefined;
  /** Off where the process is shared with others, such as a test runner. */
  watchMemory?: boolean | undefined;
}

/** @returns the number of inputs that were run, and what was found */
export async function runTarget(
  target: Target,
  {
    seed,
    from,
    to,
    seconds: limit = Number.POSITIVE_INFINITY,
    folder,
    onInput,
    onFinding,
    watchMemory = false,
  }: Limits,
): Promise<{ count: number; findings: Finding[] }> {
  mkdirSync(folder, { recursive: true });
  const { valid, run } = await target.prepare(folder);
  const findings: Finding[] = [];
  const until = performance.now() + 1000 * limit;
  let [count, peak] = [0, readPeak()];
  for (let index = from; index < to && performance.now() < until; index++, count++) {
    onInput?.(index);
    const input = makeInput({ ...target, valid }, seed, index);
    const started = process.cpuUsage();
    const faults = [await run(input).catch(describeThrown)];
    const { user, system } = process.cpuUsage(started);
    const seconds = (user + system) / 1e6;
    if (seconds > MAX_SECONDS) faults.push(`took ${seconds.toFixed(1)} s`);
    const now = watchMemory ? readPeak() : peak;
    if (now > MAX_BYTES && peak <= MAX_BYTES) faults.push(`the process has reached ${Math.round(now / 2 ** 20)} MB`);
    peak = now;
    for (const fact of faults) {
      if (fact === null) continue;
      findings.push({ target: target.name, seed, index, fact });
      onFinding?.(findings.at(-1) as Finding);
    }
  }
  return { count, findings };
}

const readPeak = (): number => process.resourceUsage().maxRSS * 1024;

const describeThrown = (error: unknown): string =>
  (error instanceof Error ? (error.stack ?? describeError(error)) : String(error)).split("\n").slice(0, 6).join(" | ");
