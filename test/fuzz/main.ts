// npm run fuzz: spreads the time over all targets, and saves the inputs that nfc does not take well.
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeInput } from "./mutate.ts";
import type { Finding } from "./run-target.ts";
import type { Target } from "./target.ts";
import { runSlice } from "./watch.ts";

/** The compiled tree: test/fuzz/ and src/ below it. */
const built = fileURLToPath(new URL("../../", import.meta.url));

linkPackage();
const { findTarget, TARGETS } = await import("./targets.ts");

const CHILD = fileURLToPath(new URL("child.js", import.meta.url));
/** The largest number of inputs of a target where the time is the limit. */
const NO_LIMIT = 2 ** 31;

const HELP = `npm run fuzz -- [--minutes N] [--seed S] [--only NAME] [--inputs N] [--from I] [--jobs N] [--list]

  --minutes N   time of all targets together (default: 10)
  --seed S      the same seed makes the same inputs (default: 1)
  --only NAME   "parser", "command", a target's name, or a part of names
  --inputs N    most inputs of each target
  --from I      number of the first input; with --inputs 1 it repeats a finding
  --jobs N      targets at a time (default: all cores)
  --list        print the targets`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    only: { type: "string", default: "" },
    inputs: { type: "string", default: String(NO_LIMIT) },
    from: { type: "string", default: "0" },
    jobs: { type: "string", default: String(availableParallelism()) },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function selectTargets(only: string): readonly Target[] {
  const exact = TARGETS.filter(({ kind, name }) => kind === only || name === only);
  const found = exact.length > 0 ? exact : TARGETS.filter(({ name }) => name.includes(only));
  return found.length > 0 ? found : [findTarget(only)];
}

/** The compiled sources look for these around them as soon as they are loaded. */
function linkPackage(): void {
  for (const name of ["assets", "fixtures", "package.json"])
    if (!existsSync(join(built, name))) symlinkSync(resolve(name), join(built, name));
}

/** Writes the input of a finding again. Its target's folder still holds the models that it was made from. */
async function saveInput({ target, seed, index }: Finding, folder: string, found: string): Promise<string> {
  const known = findTarget(target);
  const { valid } = await known.prepare(folder);
  const file = join(found, `${target}-${seed}-${index}`);
  writeFileSync(file, makeInput({ ...known, valid }, seed, index));
  return file;
}

/** One finding of each kind, and how many there are: numbers apart, they say the same. */
function groupByFact(findings: readonly Finding[]): Iterable<[Finding, number]> {
  const kinds = new Map<string, [Finding, number]>();
  for (const finding of findings) {
    const kind = finding.fact.replace(/\d+|"[^"]*"/g, "").slice(0, 400);
    const [first, count] = kinds.get(kind) ?? [finding, 0];
    kinds.set(kind, [first, count + 1]);
  }
  return kinds.values();
}

async function main(): Promise<number> {
  if (values.help) return print(HELP);
  const targets = selectTargets(values.only);
  if (values.list) return print(targets.map(({ kind, name }) => `${kind} ${name}`).join("\n"));
  const [seed, from, jobs] = [Number(values.seed), Number(values.from), Number(values.jobs)];
  const [work, found] = [join(built, "work"), join(built, "found")];
  rmSync(work, { recursive: true, force: true });
  for (const folder of [work, found]) mkdirSync(folder, { recursive: true });
  const command = targets.find(({ kind }) => kind === "command");
  if (command) await command.prepare(join(work, "first")); // makes the models that the others copy
  const seconds = (60 * Number(values.minutes) * jobs) / targets.length;
  const rest = [...targets];
  const sums = { parser: 0, command: 0 };
  const findings: Finding[] = [];
  const takeTargets = async () => {
    for (let target = rest.shift(); target; target = rest.shift()) {
      const folder = join(work, target.name);
      const limits = { target: target.name, seed, from, to: from + Number(values.inputs), seconds, folder };
      const result = await runSlice(CHILD, limits);
      sums[target.kind] += result.count;
      print(`${target.name}: ${result.count} inputs, ${result.findings.length} findings`);
      findings.push(...result.findings);
      for (const [first, count] of groupByFact(result.findings)) {
        print(`  ${count} times, first with input ${first.index}: ${first.fact}`);
        print(`  saved as ${await saveInput(first, folder, found)}`);
      }
      rmSync(folder, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: jobs }, takeTargets));
  print(`seed ${seed}: ${sums.parser} inputs of parsers, ${sums.command} of commands, ${findings.length} findings`);
  return findings.length === 0 ? 0 : 1;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

process.exitCode = await main();
