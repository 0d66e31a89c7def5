// A file system that fails at one call of a command, for a test file a command, so that they run side by side.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Call, type Fault, withFault } from "../../io/faults.ts";
import { type CliResult, nfc, ok } from "../../support/cli.ts";
import { converted, digest, MODEL, TEXT } from "../../support/fixture.ts";
import { SLOW } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("faults");
const home = process.cwd();
/** Each call fails in one way, neighbors in different ones; with NFC_FAULTS=all, each in every way. */
const ALL = process.env.NFC_FAULTS === "all";
/** Every half of the calls fails with one state of the outputs; of those, npm test takes one of so many. */
const SPARSE = 16;
/** The run folder of a training run: it stays after a fault, so that --resume goes on from there. */
const RUN = "out.run";

interface Trial {
  line: string[];
  /** Makes the outputs that the command then replaces. */
  old: string[];
}

const TRIALS = {
  convert: {
    line: [
      "convert",
      "model",
      "-o",
      "out",
      "--calibration",
      "text.txt",
      "--calibration-tokens",
      "64",
      "--max-shard-size",
      "200kB",
      "-f",
      "-q",
    ],
    old: ["convert", "model", "-o", "out", "--tie", "mean"],
  },
  distill: {
    line: [
      ...["distill", "tied", "--teacher", "model", "--data", "text.txt", "-o", "out"],
      ...["--steps", "2", "--batch-size", "1", "--length", "16", "-f", "-q"],
    ],
    old: ["convert", "model", "-o", "out", "--tie", "mean"],
  },
  export: {
    line: ["export", "tied", "--onnx", "--precision", "fp32", "-o", "out", "-f", "-q"],
    old: ["convert", "model", "-o", "out", "--tie", "mean"],
  },
  report: {
    line: ["report", "model", "tied", "--html", "out.html", "-f", "-q"],
    old: ["report", "model", "model", "--html", "out.html"],
  },
  check: {
    line: ["check", "--update-baseline", "--markdown", "sizes.md", "-q"],
    old: ["check", "--update-baseline", "--markdown", "sizes.md", "--config", "old.size.json"],
  },
} satisfies Record<string, Trial>;

/** Makes the inputs of all commands. */
async function makeInputs(): Promise<void> {
  mkdirSync(path("inputs"));
  cpSync(MODEL, path("inputs/model"), { recursive: true });
  writeFileSync(path("inputs/text.txt"), readFileSync(TEXT, "utf8").slice(0, 2000));
  await converted({ output: path("inputs/tied") }, path("inputs/model"));
  for (const [name, model] of [
    ["nfc.size.json", "tied"],
    ["old.size.json", "model"],
  ])
    writeFileSync(path("inputs", name as string), JSON.stringify({ models: [{ path: model, maxGrowth: "90 %" }] }));
}

/** A hash or a text of each file of a folder. */
type Files = Record<string, string>;

let count = 0;

/** A fresh folder with the files of `from`, in which the process then is. */
function enter(from: string): string {
  const root = path(`trial-${count++}`);
  cpSync(from, root, { recursive: true, verbatimSymlinks: true });
  process.chdir(root);
  return root;
}

/** The files of a folder, without the times in metrics.jsonl and the command lines in nfc.json. */
function look(root: string): Files {
  const files = Object.entries(digest(root)).filter(([name]) => !name.endsWith("metrics.jsonl"));
  return Object.fromEntries(
    files.map(([name, hash]) => [name, name.endsWith("nfc.json") ? readRecord(root, name) : hash]),
  );
}

function readRecord(root: string, name: string): string {
  const text = readFileSync(join(root, name), "utf8");
  return JSON.stringify(JSON.parse(text, (key, value) => (key === "command" ? undefined : value)));
}

/** Tells what is wrong with the end of a command; "" when nothing is. */
async function judge({ code, stderr }: CliResult, { root, before, after, line }: Ending): Promise<string> {
  const seen = look(root);
  if (code === 0) return differ(seen, after) && `exit 0, but ${differ(seen, after)} differ`;
  // A model that cannot be read is a result of a check, of which it writes a table.
  if (code !== 2 && code !== 3) return `exit ${code}`;
  if (!/^nfc: [^\n]+\n$/.test(stderr)) return "not one line";
  const known = nameOutputs(before, after);
  for (const output of nameOutputs(seen, before, after)) {
    const fresh = differ(pick(seen, output), pick(after, output));
    if (code === 2 && differ(pick(seen, output), pick(before, output)) && fresh)
      return `${output} is neither old nor new`;
    if (code === 3 && !known.includes(output)) return `${output} is left`;
  }
  const resumes = existsSync(join(root, RUN, "run.json"));
  if (existsSync(join(root, RUN)) && !resumes) return `${RUN} is left, but cannot go on`;
  const again = await nfc([...line, ...(resumes ? ["--resume"] : [])]);
  if (again.code !== 0) return `the next run fails: ${again.stderr}`;
  return differ(look(root), after) && `after the next run ${differ(look(root), after)} differ`;
}

interface Ending {
  root: string;
  /** The files before the command, and after one that succeeds. */
  before: Files;
  after: Files;
  line: string[];
}

/** The outputs of a folder: all entries but the run folder. */
function nameOutputs(...looks: Files[]): string[] {
  const names = looks.flatMap((files) => Object.keys(files)).map((file) => file.split("/")[0] as string);
  return [...new Set(names)].filter((name) => name !== RUN);
}

function pick(files: Files, output: string): Files {
  return Object.fromEntries(Object.entries(files).filter(([file]) => file.split("/")[0] === output));
}

/** The files in which two folders differ; "" where they do not. */
function differ(one: Files, other: Files): string {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].filter((file) => one[file] !== other[file]).join(", ");
}

/** Lets the calls of a command fail that `isChosen` takes, by their place in it; gives what is wrong with the ends. */
async function failCalls({ line, old }: Trial, state: string, isChosen: (index: number) => boolean): Promise<string[]> {
  const start = state === "there" ? enter(path("inputs")) : path("inputs");
  if (state === "there") await ok(...old);
  const before = look(start);
  const clean = enter(start);
  await ok(...line);
  const after = look(clean);
  expect(differ(before, after)).not.toBe("");
  const { calls } = await withFault({ under: enter(start) }, () => ok(...line));
  expect(calls.length).toBeGreaterThan(40);
  const problems: string[] = [];
  for (const [index, { name: call, faults }] of calls.entries())
    for (const [way, fault] of faults.entries()) {
      if (!isChosen(index) || (!ALL && way !== index % faults.length)) continue;
      const root = enter(start);
      // Calls that run at once may come in another order, and then fail in a way of their own.
      const choose = ({ faults }: Call) => faults[way % faults.length] as Fault;
      const plan = { under: root, failing: index + 1, choose };
      const { result, error, open } = await withFault(plan, () => nfc(line));
      if (!result) throw error;
      const kept = open.length > 0 ? `${open.join(", ")} left open` : "";
      const problem = kept || (await judge(result, { root, before, after, line }));
      if (problem) problems.push(`call ${index + 1}, ${call}, ${fault}: ${problem}: ${result.stderr}`);
      process.chdir(home);
      rmSync(root, { recursive: true });
    }
  return problems;
}

/** The tests of a command: one line says what failed, and the old outputs or the new ones are whole. */
export function testFaults(name: keyof typeof TRIALS): void {
  const trial = TRIALS[name];
  beforeAll(makeInputs);
  afterEach(() => process.chdir(home));

  describe.each(["absent", "there"])(
    `a file system that fails during nfc ${name}, with an output that is %s`,
    (state) => {
      const isChosen = (index: number) => ALL || index % 2 === Number(state === "there");

      it("ends in one line, and no output is halved: at some of its calls", { timeout: 120_000 }, async () => {
        const problems = await failCalls(trial, state, (index) => isChosen(index) && (index >> 1) % SPARSE === 0);
        expect(problems).toEqual([]);
      });

      it("ends in one line, and no output is halved: at every other call", { ...SLOW, timeout: 900_000 }, async () => {
        expect(await failCalls(trial, state, isChosen)).toEqual([]);
      });
    },
  );
}
