// The training step of bench/training.mjs in nfc. Settings as JSON in argv, then one JSON line a step; answers with one.
import { createInterface } from "node:readline";
import { openCheckpoint } from "../dist/checkpoint/checkpoint.js";
import { Optimizer } from "../dist/distill/step/optimizer.js";
import { ParameterStore } from "../dist/distill/step/parameter-store.js";
import { planHeadChunks } from "../dist/distill/step/step-graph.js";
import { openTrainingStep } from "../dist/distill/step/training-step.js";
import { openTeacher } from "../dist/distill/teacher/teacher.js";

const settings = JSON.parse(process.argv[2]);
const { batch, length, kd, threads, profile } = settings;
const rows = batch * length;

const checkpoint = await openCheckpoint(settings.student);
const { config } = checkpoint;
const specs = [...checkpoint.tensors.values()].map(({ name, shape }) => ({ name, shape, trained: true }));
const store = new ParameterStore(specs);
for (const { name } of specs) store.value(name).set(await checkpoint.readF32(name));
const source = await openCheckpoint(settings.teacher);
const teacher = await openTeacher(source, { batch, length, threads, chunks: planHeadChunks(config.vocab_size) });
const step = await openTrainingStep(
  { config, batch, length, trained: new Set(store.trained), noise: "mean", teacher: teacher.input },
  store,
  { threads, profile },
);
const optimizer = new Optimizer(store, {
  names: store.trained,
  lr: settings.lr,
  noiseLr: settings.lr,
  steps: 1,
  warmup: 0,
  floor: 1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  decay: settings.decay,
  clip: settings.clip,
});

/** A part of each window: [first, first + length) */
const cut = (tokens, first) => Int32Array.from({ length: rows }, (_, i) => tokens[i + Math.floor(i / length) + first]);

async function run(tokens, count) {
  const inputs = cut(tokens, 0);
  const feeds = await teacher.feeds(inputs);
  const weights = { nll: (1 - kd) / rows, kl: kd / rows };
  const { nll, kl } = await step.run({ inputs, labels: cut(tokens, 1) }, weights, feeds);
  const norm = await optimizer.norm();
  await optimizer.update(count, norm);
  return { nll: nll / rows, kl: kl / rows, norm };
}

process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { tokens } = JSON.parse(line);
  if (!tokens) break;
  const started = performance.now();
  const result = await run(tokens, count++);
  const seconds = (performance.now() - started) / 1000;
  process.stdout.write(`${JSON.stringify({ ...result, seconds, peak: process.resourceUsage().maxRSS * 1024 })}\n`);
}
await step.close();
await teacher.close();
