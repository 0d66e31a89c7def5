// Benchmarks one distillation step (teacher, student, NLL + KL, gradients, clipping, AdamW) against PyTorch, step by step.
// Usage: npm run bench:training -- [--python PYTHON] [--batch B --length T] [--steps N] [--threads N] [--student DIR --teacher DIR]
//   [--device webgpu] [--device-precision fp16] [--teacher-precision int8] [--torch-device cuda] [--precision fp32,tf32,bf16]
// Without --python only nfc runs; with it, PyTorch in each precision. --size small|medium makes random models; losses are
// compared after every step. Memory on the card is what nvidia-smi says more than before, after an engine's first two steps.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { record } from "./figures.mjs";
import { makeModel } from "./make-model.mjs";

const { values: args } = parseArgs({
  options: {
    size: { type: "string", default: "small" },
    student: { type: "string", default: "" },
    teacher: { type: "string", default: "" },
    python: { type: "string", default: "" },
    batch: { type: "string", default: "1" },
    length: { type: "string", default: "512" },
    steps: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    lr: { type: "string", default: "1e-4" },
    profile: { type: "string", default: "" },
    device: { type: "string", default: "cpu" },
    "device-precision": { type: "string", default: "fp32" },
    "teacher-precision": { type: "string", default: "fp32" },
    "torch-device": { type: "string", default: "cpu" },
    precision: { type: "string", default: "fp32" },
  },
});
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nfc-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

async function models() {
  if (args.student) return { student: args.student, teacher: args.teacher };
  const [teacher, student] = [join(folder, "teacher"), join(folder, "student")];
  await makeModel(teacher, args.size);
  const convert = ["convert", teacher, "-o", student, "--variant", "symmetric", "--tie", "mean", "--quiet"];
  const { status, stderr } = spawnSync(process.execPath, [here("../bin/nfc.js"), ...convert], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return { student, teacher };
}

/** A child that answers one JSON line to each. */
async function server(command, argv) {
  const child = spawn(command, argv, { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.on("error", () => {}); // of a child that has ended, which the next line tells
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command} ended early`);
    return JSON.parse(value);
  };
  await next();
  return {
    step(tokens) {
      child.stdin.write(`${JSON.stringify({ tokens: [...tokens] })}\n`);
      return next();
    },
    quit: () => child.stdin.end("{}\n"),
  };
}

const [batch, length, steps, threads] = [args.batch, args.length, args.steps, args.threads].map(Number);
const { student, teacher } = await models();
const { vocab_size: vocabulary } = JSON.parse(readFileSync(join(student, "config.json"), "utf8"));
const common = { student, teacher, batch, length, threads, kd: 0.5, lr: Number(args.lr), decay: 0.01, clip: 1 };
const { device, precision, "device-precision": devicePrecision, "torch-device": torchDevice } = args;
const teacherPrecision = args["teacher-precision"];
const settings = {
  ...common,
  device,
  devicePrecision,
  teacherPrecision,
  torchDevice,
  ...(args.profile && { profile: args.profile }),
};

/** Mulberry32: the same tokens in every run. */
let state = 1;
function token() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % vocabulary;
}

/** Bytes that the first card's processes hold; null without nvidia-smi. */
function readCardMemory() {
  const { stdout } = spawnSync("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits"]);
  return stdout ? Number(String(stdout).split("\n")[0]) * 2 ** 20 : null;
}

/** The first step of an engine warms it up: it is compared, not timed. The second shows its memory. */
const batches = Array.from({ length: Math.max(steps, 1) + 1 }, () =>
  Int32Array.from({ length: batch * (length + 1) }, token),
);
const WARM = 2;

/** Starts an engine and makes its first steps. Null, and a line, where it ends early. */
async function start(name, command, script, more = {}) {
  const before = readCardMemory();
  try {
    const { step, quit } = await server(command, [here(script), JSON.stringify({ ...settings, ...more })]);
    const results = [];
    for (const tokens of batches.slice(0, WARM)) results.push(await step(tokens));
    const card = before === null ? null : readCardMemory() - before;
    return { name, step, quit, results, card };
  } catch (error) {
    console.log(`${name}: ${error.message}`);
    return null;
  }
}

console.log(
  `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}, ${threads} threads, B=${batch} T=${length}, nfc on ${device} in ${devicePrecision}`,
);
const ours = await start("nfc", process.execPath, "training-nfc.mjs");
if (ours === null) process.exit(1);
const theirs = [];
for (const each of args.python ? precision.split(",") : []) {
  const engine = await start(`torch ${each}`, args.python, "training_torch.py", { precision: each });
  if (engine) theirs.push(engine);
}
const engines = [ours, ...theirs];
for (const tokens of batches.slice(WARM)) for (const { step, results } of engines) results.push(await step(tokens));

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
/** Of an engine, step by step: how far its losses are from nfc's, and how many times as long nfc took. */
const differences = ({ results }) =>
  results.map(({ nll, kl }, i) => Math.max(Math.abs(ours.results[i].nll - nll), Math.abs(ours.results[i].kl - kl)));
const ratios = ({ results }) => results.map(({ seconds }, i) => ours.results[i].seconds / seconds);

for (const [i, { nll, kl, seconds }] of ours.results.entries()) {
  const others = theirs.map((each) => {
    const [took, ratio] = [each.results[i].seconds.toFixed(2), ratios(each)[i].toFixed(2)];
    return `${each.name} ${took} s, ratio ${ratio}, loss difference ${differences(each)[i].toExponential(1)}`;
  });
  const losses = `nll ${nll.toFixed(4)} kl ${kl.toFixed(4)}`;
  console.log([`step ${i}`, losses, `nfc ${seconds.toFixed(2)} s`, ...others].join("  "));
}
for (const engine of engines) {
  const { name, results, card } = engine;
  const seconds = median(results.slice(1).map((each) => each.seconds));
  const peak = (key) => Math.max(...results.map((each) => each[key] ?? 0));
  const cpu = Math.min(...results.slice(1).map((each) => each.cpu)); // which other work on the machine lengthens least
  const summary = { seconds, cpu, peak: peak("peak"), reserved: peak("reserved"), card };
  const parts = [
    `median ${seconds.toFixed(2)} s`,
    `least CPU time ${cpu.toFixed(2)} s`,
    `peak ${gb(summary.peak)} on the host`,
  ];
  if (card !== null) parts.push(`${gb(card)} on the card`);
  if (summary.reserved > 0) parts.push(`${gb(summary.reserved)} of it reserved by PyTorch`);
  if (engine !== ours) {
    Object.assign(summary, { ratio: median(ratios(engine).slice(1)), difference: Math.max(...differences(engine)) });
    parts.push(`median ratio of a step ${summary.ratio.toFixed(2)}`);
    parts.push(`largest loss difference ${summary.difference.toExponential(1)}`);
  }
  console.log(`${name}: ${parts.join(", ")}`);
  record({
    bench: "step",
    size: args.size,
    batch,
    length,
    threads,
    device,
    devicePrecision,
    engine: name,
    steps,
    ...summary,
  });
  engine.quit();
}
