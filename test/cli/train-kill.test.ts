// A training process killed at random moments, again and again: --resume always works, loses little, ends in the same bytes.
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { recoverDirectory } from "../../src/io/staging.ts";
import { compileCli, start } from "../support/compiled-cli.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, TINY_CONFIG, weightsOf, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("train-kill");
interface Trial {
  saveEvery: number;
  steps: number;
  /** Killed so many times at most; then it may end. */
  rounds: number;
}
const TRIALS: readonly Trial[] = [
  { saveEvery: 7, steps: 200, rounds: 3 },
  ...[1, 7, 50].map((saveEvery) => ({ saveEvery, steps: 1200, rounds: 9 })),
];
let bin = "";

beforeAll(async () => {
  mkdirSync(path("package"));
  bin = await compileCli(path("package"));
  writeIds(path("ids.bin"));
  writeJson(path("config.json"), { ...TINY_CONFIG, nfc_variant: "noise-distance" });
});

const argsOf = (output: string, { saveEvery, steps }: Trial) =>
  `pretrain --config config.json --data ids.bin -o ${output} --threads 1 --steps ${steps} --batch-size 4 --accumulate 2 --length 16 --eval-every 160 --eval-tokens 60 --save-every ${saveEvery}`.split(
    " ",
  );

/** A fixed sequence in 0 … 1. */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Steps that the metrics hold, a line that a kill cut short left out. */
function stepsWritten(run: string): number {
  const lines = readFileSync(join(run, "metrics.jsonl"), "utf8").split("\n").slice(0, -1);
  return lines.reduce((most, line) => Math.max(most, JSON.parse(line).step), 0);
}

async function stepsSaved(run: string): Promise<number> {
  const checkpoint = join(run, "checkpoint");
  await recoverDirectory(checkpoint);
  if (!existsSync(checkpoint)) return 0;
  return JSON.parse(readFileSync(join(checkpoint, "state.json"), "utf8")).step;
}

describe.each(TRIALS)("a run of $steps steps that saves every $saveEvery", (trial) => {
  const { saveEvery, steps, rounds } = trial;
  const options = { ...slowUnless(steps === 200), timeout: 180_000 };
  it("a run that is killed and resumed again and again ends with the bytes of an unbroken run", options, async () => {
    const cwd = path("");
    const [output, whole] = [`out-${steps}-${saveEvery}`, `whole-${steps}-${saveEvery}`];
    const run = path(`${output}.run`);
    const random = draws(saveEvery);
    const counts = { kills: 0, resumed: 0 };
    for (;;) {
      const resume = existsSync(join(run, "run.json"));
      if (!resume && existsSync(path(output))) break; // killed after all was done
      const child = start(bin, [...argsOf(output, trial), ...(resume ? ["--resume"] : [])], { cwd });
      if (counts.kills < rounds) {
        // One in four anywhere from the start on, the others while it trains.
        if (random() < 0.25) await new Promise((done) => setTimeout(done, 600 * random()));
        else {
          await Promise.race([child.shows("pretraining"), child.ending]).catch(() => undefined);
          await new Promise((done) => setTimeout(done, 120 * random()));
        }
        child.process.kill("SIGKILL");
      }
      const { code, signal, stderr } = await child.ending;
      if (signal !== "SIGKILL") {
        expect({ code, ...(code !== 0 && { stderr }) }).toEqual({ code: 0 });
        break;
      }
      counts.kills++;
      if (resume) counts.resumed++;
      if (!existsSync(join(run, "run.json"))) continue;
      const [written, saved] = [stepsWritten(run), await stepsSaved(run)];
      expect(written - saved, `${written} steps written, ${saved} saved`).toBeLessThanOrEqual(saveEvery);
    }
    expect(counts.kills).toBeGreaterThan(2); // a fast machine may end sooner
    expect(counts.resumed).toBeGreaterThan(0);
    const unbroken = await start(bin, argsOf(whole, trial), { cwd }).ending;
    expect(unbroken.code).toBe(0);
    expect(weightsOf(path(output)).equals(weightsOf(path(whole)))).toBe(true);
    expect(metricsOf(path(output))).toEqual(metricsOf(path(whole)));
    expect(readdirSync(cwd).filter((name) => /\.run$|nfc-(tmp|old)/.test(name))).toEqual([]);
  });
});
