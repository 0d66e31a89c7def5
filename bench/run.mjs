// Benchmarks whole commands on a generated GPT-2: time against a reference of the same run, and peak memory. The reference
// is a durable copy of the model's file; for commands that compute, a fixed piece of work for one core; for those that only
// start, an empty Node process.
// Usage: npm run bench [-- --size small|medium|xl] [--runs N] [--only NAME] [--text FILE] [--keep]
// [--save FILE]: writes the ratios as a baseline, with --only into the one that is there; [--compare FILE]: ends with 1 where one got 15 % worse than there.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compareWithBaseline, describe, makeBaseline, mergeBaselines, readBaseline } from "./compare.mjs";
import { makeModel } from "./make-model.mjs";

const { values: args } = parseArgs({
  options: {
    size: { type: "string", default: "small" },
    runs: { type: "string", default: "3" },
    only: { type: "string", default: "" },
    text: { type: "string", default: "" },
    keep: { type: "boolean", default: false },
    save: { type: "string" },
    compare: { type: "string" },
  },
});
const cli = fileURLToPath(new URL("../bin/nfc.js", import.meta.url));
const local = (name) => fileURLToPath(new URL(name, import.meta.url));
const preload = new URL("./peak.mjs", import.meta.url).href;
const text = args.text || fileURLToPath(new URL("../fixtures/text.txt", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nfc-bench-"));
const model = join(folder, "model");
const weights = join(model, "model.safetensors");
const tied = join(folder, "tied");
const out = join(folder, "out");
const corpus = join(folder, "corpus.txt");
const exported = join(folder, "exported");
/** A baseline that cannot be read is said before minutes of work. */
const baseline = args.compare === undefined ? null : readBaseline(args.compare);

/** `target` is what the command should reach: it is printed, never asserted. The reference is a copy unless it says "work". */
const CASES = [
  {
    name: "convert --tie mean",
    args: ["convert", model, "--variant", "symmetric", "--tie", "mean"],
    target: "≤ 1.5× a copy, < 300 MB",
  },
  {
    name: "convert --tie spectral",
    args: ["convert", model, "--variant", "symmetric", "--tie", "spectral"],
    target: "≤ 10 s",
    reference: "work",
  },
  {
    name: "convert --tie calibrated",
    args: ["convert", model, "--calibration", text],
    target: "≤ 12 s, < 600 MB",
    reference: "work",
  },
  {
    name: "convert --variant low-rank",
    args: ["convert", model, "--variant", "low-rank", "--calibration", text],
    target: "≤ 12 s, < 600 MB",
    reference: "work",
  },
  {
    name: "export, six precisions",
    args: ["export", tied, "--onnx", "--precision", "fp32,fp16,int8,uint8,q4,q4f16"],
    target: "≤ 12 s, < 900 MB",
    reference: "work",
  },
  { name: "export --onnx", args: ["export", tied, "--onnx"], target: "≤ 3× a copy" },
  {
    name: "export --onnx --external-data",
    args: ["export", tied, "--onnx", "--external-data"],
    target: "≤ 3× a copy, flat memory",
  },
  { name: "export --onnx --share-weights", args: ["export", tied, "--onnx", "--share-weights"], target: "none" },
  {
    name: "export --safetensors --dtype f16",
    args: ["export", tied, "--safetensors", "--dtype", "f16"],
    target: "none",
  },
  {
    name: "tokenize",
    script: [local("corpus.mjs"), "--file", corpus],
    target: "≥ 5 MB/s a core",
    reference: "work",
  },
  {
    name: "generate one token, q4",
    before: () =>
      existsSync(exported) || run(process.execPath, [cli, "export", tied, "--precision", "q4", "-o", exported]),
    script: [cli, "generate", exported, "--precision", "q4", "--prompt", "Hello there", "-n", "1"],
    target: "≤ 1.0 s",
    reference: "work",
  },
  { name: "check", script: [cli, "check"], cwd: local(".."), target: "≤ 0.15 s", reference: "start" },
  { name: "--help", script: [cli, "--help"], target: "≤ 0.15 s", reference: "start" },
];

function run(command, argv, { env = {}, cwd } = {}) {
  const started = performance.now();
  const options = { env: { ...process.env, ...env }, cwd, encoding: "utf8" };
  const { status, stdout, stderr } = spawnSync(command, argv, options);
  if (status !== 0) throw new Error(`${command} ${argv.join(" ")} ended with ${status}\n${stderr}`);
  return { seconds: (performance.now() - started) / 1000, stdout };
}

/** Runs a case; gives its seconds, its peak memory in bytes, and the phases that a command tells of. */
function measure({ args: argv, script, before, cwd }) {
  rmSync(out, { recursive: true, force: true });
  if (!script) {
    const { seconds, stdout } = run(process.execPath, [cli, ...argv, "-o", out, "--quiet", "--json", "--timings"]);
    const { peakMemory, phases } = JSON.parse(stdout).timings;
    return { seconds, peak: peakMemory, phases };
  }
  const file = join(folder, "peak");
  before?.();
  const { seconds } = run(process.execPath, ["--import", preload, ...script], { env: { NFC_BENCH_PEAK: file }, cwd });
  return { seconds, peak: Number(readFileSync(file, "utf8")) * 1024, phases: [] };
}

/** cp, then sync of the copy: our outputs are on the disk when the command ends, so the reference is too. */
function durableCopy() {
  const copy = join(folder, "copy");
  rmSync(copy, { force: true });
  const seconds = run("cp", [weights, copy]).seconds + run("sync", [copy]).seconds;
  rmSync(copy, { force: true });
  return seconds;
}

const REFERENCES = {
  copy: durableCopy,
  work: () => run(process.execPath, [local("work.mjs")]).seconds,
  start: () => run(process.execPath, ["-e", "0"]).seconds,
};

/** Adds pairs of a reference and a run of the case, and prints all that there are. */
function measurePairs({ name, reference, pairs, entry }) {
  for (let i = 0; i < Number(args.runs); i++) pairs.push({ reference: REFERENCES[reference](), ...measure(entry) });
  const ratios = pairs.map((pair) => (pair.seconds / pair.reference).toFixed(2));
  const peak = Math.max(...pairs.map((pair) => pair.peak));
  const [seconds, base] = ["seconds", "reference"].map((key) => median(pairs.map((pair) => pair[key])).toFixed(2));
  const fastest = pairs.reduce((best, pair) => (pair.seconds < best.seconds ? pair : best));
  const columns = [name, seconds, ratios.join(" "), reference, base, mb(peak), entry.target, listPhases(fastest)];
  console.log(columns.join(" | "));
}

/** The phases of a run that took a tenth of a second and more, the longest first. */
function listPhases({ phases }) {
  const long = phases.filter(({ seconds }) => seconds >= 0.1).toSorted((a, b) => b.seconds - a.seconds);
  return long.map(({ phase, seconds }) => `${phase} ${seconds.toFixed(2)}`).join(", ");
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const date = new Date().toISOString().slice(0, 10);
const machine = { cpu: cpus()[0]?.model.trim() ?? "unknown", cores: cpus().length, node: process.version };
console.log(`${describe(machine)}, GPT-2 ${args.size}, ${args.runs} runs each`);
await makeModel(model, args.size);
if (!existsSync(tied))
  run(process.execPath, [cli, "convert", model, "-o", tied, "--variant", "symmetric", "--tie", "mean", "--quiet"]);
writeFileSync(corpus, readFileSync(local("../fixtures/text.txt"), "utf8").repeat(1500));
durableCopy(); // warms the page cache
console.log(
  [
    "command",
    "median s",
    "× reference (each pair)",
    "reference",
    "its s",
    "peak",
    "target",
    "phases of the fastest, s",
  ].join(" | "),
);
const results = CASES.filter(({ name }) => name.includes(args.only)).map((entry) => {
  const result = { name: entry.name, reference: entry.reference ?? "copy", pairs: [], entry };
  measurePairs(result);
  return result;
});
const summarize = () => makeBaseline({ machine, date, size: args.size, runs: Number(args.runs), results });
let current = summarize();
const compare = () => compareWithBaseline(baseline, current, args.only !== "");
const suspects = baseline ? new Set(compare().worse) : new Set();
if (suspects.size > 0) {
  console.log("measured again, since they seem worse than the baseline:");
  for (const result of results) if (suspects.has(result.name)) measurePairs(result);
  current = summarize();
}
if (args.keep) console.log(`kept: ${folder}`);
else rmSync(folder, { recursive: true });

if (args.save) {
  const saved = args.only !== "" && existsSync(args.save) ? mergeBaselines(readBaseline(args.save), current) : current;
  writeFileSync(args.save, `${JSON.stringify(saved, null, 2)}\n`);
}
if (baseline) {
  const { lines, worse, isSameMachine } = compare();
  console.log(`\nagainst the baseline of ${baseline.date}, ${describe(baseline.machine)}:`);
  if (!isSameMachine) console.log("this is another machine: ratios depend on it less than seconds do, but they do");
  for (const line of lines) console.log(line);
  if (worse.length > 0) {
    console.error(`worse by more than 15 %, or not measured: ${worse.join(", ")}`);
    process.exitCode = 1;
  }
}
