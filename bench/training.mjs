// Benchmarks one distillation step (teacher, student, NLL + KL, gradients, clipping, AdamW) against PyTorch, step by step.
// Usage: npm run bench:training -- [--python PYTHON] [--batch B --length T] [--steps N] [--threads N] [--student DIR --teacher DIR]
//   [--device webgpu] [--device-precision fp16] [--torch-device cuda] [--precision fp32|tf32|bf16]
// Without --python only nfc runs. --size small|medium makes random models; losses are compared after every step.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
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
    "torch-device": { type: "string", default: "cpu" },
    precision: { type: "string", default: "fp32" },
  },
});
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nfc-bench-"));

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
const where = { device, devicePrecision, precision, torchDevice };
const settings = JSON.stringify({ ...common, ...where, ...(args.profile && { profile: args.profile }) });
const ours = await server(process.execPath, [here("training-nfc.mjs"), settings]);
const theirs = args.python ? await server(args.python, [here("training_torch.py"), settings]) : null;

/** Mulberry32: the same tokens in every run. */
let state = 1;
function token() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % vocabulary;
}

const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
console.log(
  `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}, ${threads} threads, B=${batch} T=${length}, nfc on ${device} in ${devicePrecision}`,
);
const results = [];
// The first step of each warms it up: it is compared, not timed.
for (let i = 0; i <= steps; i++) {
  const tokens = Int32Array.from({ length: batch * (length + 1) }, token);
  const nfc = await ours.step(tokens);
  const torch = await theirs?.step(tokens);
  const difference = torch ? Math.max(Math.abs(nfc.nll - torch.nll), Math.abs(nfc.kl - torch.kl)) : 0;
  results.push({ nfc, torch, difference });
  const timing = torch ? `torch ${torch.seconds.toFixed(2)} s, ratio ${(nfc.seconds / torch.seconds).toFixed(2)}` : "";
  console.log(
    [
      `step ${i}`,
      `nll ${nfc.nll.toFixed(4)} kl ${nfc.kl.toFixed(4)}`,
      `nfc ${nfc.seconds.toFixed(2)} s`,
      timing,
      torch ? `loss difference ${difference.toExponential(1)}` : "",
    ].join("  "),
  );
}
const timed = results.slice(1);
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const peak = (key) => Math.max(...results.map((result) => result[key]?.peak ?? 0));
console.log(`nfc: median ${median(timed.map(({ nfc }) => nfc.seconds)).toFixed(2)} s, peak ${gb(peak("nfc"))}`);
if (theirs) {
  const ratio = median(timed.map(({ nfc, torch }) => nfc.seconds / torch.seconds)).toFixed(2);
  const worst = Math.max(...results.map(({ difference }) => difference)).toExponential(1);
  console.log(
    `torch: median ${median(timed.map(({ torch }) => torch.seconds)).toFixed(2)} s, peak ${gb(peak("torch"))}`,
  );
  console.log(`median ratio of a step ${ratio}; largest loss difference over ${results.length} steps ${worst}`);
}
ours.quit();
theirs?.quit();
rmSync(folder, { recursive: true });
