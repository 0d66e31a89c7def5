// Benchmarks whole commands on a generated GPT-2: time against a durable copy of the same file, and peak memory.
// Usage: npm run bench [-- --size small|medium|xl] [--runs N] [--only NAME] [--keep]
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeModel } from "./make-model.mjs";

const { values: args } = parseArgs({
  options: {
    size: { type: "string", default: "small" },
    runs: { type: "string", default: "3" },
    only: { type: "string", default: "" },
    text: { type: "string", default: "" },
    keep: { type: "boolean", default: false },
  },
});
const cli = fileURLToPath(new URL("../bin/nfc.js", import.meta.url));
const text = args.text || fileURLToPath(new URL("../fixtures/text.txt", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nfc-bench-"));
const model = join(folder, "model");
const weights = join(model, "model.safetensors");
const tied = join(folder, "tied");
const out = join(folder, "out");

/** `prepare` makes what the command reads; `target` is what the command should reach: it is printed, never asserted. */
const CASES = [
  {
    name: "convert --tie mean",
    args: ["convert", model, "--variant", "symmetric", "--tie", "mean"],
    target: "≤ 1.5× a copy",
  },
  {
    name: "convert --tie spectral",
    args: ["convert", model, "--variant", "symmetric", "--tie", "spectral"],
    target: "≤ 10 s",
  },
  { name: "convert --tie calibrated", args: ["convert", model, "--calibration", text], target: "≤ 12 s, < 600 MB" },
  {
    name: "convert --variant low-rank",
    args: ["convert", model, "--variant", "low-rank", "--calibration", text],
    target: "≤ 12 s, < 600 MB",
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
];

function run(command, argv) {
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(command, argv, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${argv.join(" ")} ended with ${status}\n${stderr}`);
  return { seconds: (performance.now() - started) / 1000, stdout };
}

function nfc(argv) {
  rmSync(out, { recursive: true, force: true });
  const { seconds, stdout } = run(process.execPath, [cli, ...argv, "-o", out, "--quiet", "--json", "--timings"]);
  return { seconds, timings: JSON.parse(stdout).timings };
}

/** cp, then sync of the copy: our outputs are on the disk when the command ends, so the reference is too. */
function durableCopy() {
  const copy = join(folder, "copy");
  rmSync(copy, { force: true });
  const seconds = run("cp", [weights, copy]).seconds + run("sync", [copy]).seconds;
  rmSync(copy, { force: true });
  return seconds;
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

/** The phases of a run that took a tenth of a second and more, the longest first. */
function listPhases({ phases }) {
  const long = phases.filter(({ seconds }) => seconds >= 0.1).toSorted((a, b) => b.seconds - a.seconds);
  return long.map(({ phase, seconds }) => `${phase} ${seconds.toFixed(2)}`).join(", ");
}

const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
console.log(
  `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}, GPT-2 ${args.size}, ${args.runs} runs each`,
);
await makeModel(model, args.size);
if (!existsSync(tied))
  run(process.execPath, [cli, "convert", model, "-o", tied, "--variant", "symmetric", "--tie", "mean", "--quiet"]);
durableCopy(); // warms the page cache
console.log(
  ["command", "median s", "× copy + sync (each pair)", "copy s", "peak", "target", "phases of the fastest run, s"].join(
    " | ",
  ),
);
for (const { name, args: argv, target } of CASES.filter((entry) => entry.name.includes(args.only))) {
  const pairs = Array.from({ length: Number(args.runs) }, () => ({ copy: durableCopy(), ...nfc(argv) }));
  const ratios = pairs.map(({ copy, seconds }) => (seconds / copy).toFixed(2));
  const peak = Math.max(...pairs.map(({ timings }) => timings.peakMemory));
  const fastest = pairs.reduce((best, pair) => (pair.seconds < best.seconds ? pair : best));
  const seconds = median(pairs.map((pair) => pair.seconds)).toFixed(2);
  const copy = median(pairs.map((pair) => pair.copy)).toFixed(2);
  console.log([name, seconds, ratios.join(" "), copy, mb(peak), target, listPhases(fastest.timings)].join(" | "));
}
if (args.keep) console.log(`kept: ${folder}`);
else rmSync(folder, { recursive: true });
