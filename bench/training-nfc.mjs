// The training step of bench/training.mjs in nfc. Settings as JSON in argv, then one JSON line a step; answers with one.
import { createInterface } from "node:readline";
import { openCheckpoint } from "../dist/checkpoint/checkpoint.js";
import { openPhase } from "../dist/distill/phases.js";
import { resolveTrainSettings } from "../dist/distill/train-settings.js";
import { makeStore } from "../dist/distill/trained-model.js";

const { batch, length, kd, lr, decay, clip, threads, device, devicePrecision, teacherPrecision, profile, ...paths } =
  JSON.parse(process.argv[2]);
const rows = batch * length;
const session = { device, threads, profile };
const scale = devicePrecision === "fp16" ? 2 ** 12 : 1;

const student = await openCheckpoint(paths.student);
const teacher = await openCheckpoint(paths.teacher);
const layers = Array.from({ length: student.config.n_layer }, (_, layer) => layer);
const constant = {
  warmup: 0,
  floor: 1,
  steps: 1_000_000,
  transferSteps: 0,
  noise: "mean",
  devicePrecision,
  teacherPrecision,
};
const given = { ...constant, batchSize: batch, length, kd, lr, decay, clip, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
const settings = resolveTrainSettings("distill", student.config, given, teacher.config, layers);
const store = await makeStore(student, () => true, { session });
const phase = await openPhase(0, { student, teacher, settings, layers, store, session, split: {} });

/** A part of each window: [first, first + length) */
const cut = (tokens, first) => Int32Array.from({ length: rows }, (_, i) => tokens[i + Math.floor(i / length) + first]);

async function run(tokens, count) {
  store.clearTotals();
  const batches = [{ inputs: cut(tokens, 0), labels: cut(tokens, 1), windows: new Int32Array(batch) }];
  const { nll, kl } = await phase.gradients(count, batches, scale);
  const norm = await phase.optimizer.norm(scale);
  await phase.optimizer.update(count, norm, scale);
  return { nll, kl, norm };
}

process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { tokens } = JSON.parse(line);
  if (!tokens) break;
  const [started, before] = [performance.now(), process.cpuUsage()];
  const result = await run(tokens, count++);
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(
    `${JSON.stringify({ ...result, seconds, cpu: (user + system) / 1e6, peak: process.resourceUsage().maxRSS * 1024 })}\n`,
  );
}
await phase.close();
await store.close();
