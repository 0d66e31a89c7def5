// Losses, gradients and AdamW steps against the reference implementation's numbers, in every variant.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { NoisePrior } from "../../../src/distill/step/noise-prior.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { planHeadChunks } from "../../../src/distill/step/step-graph.ts";
import { openTrainingStep } from "../../../src/distill/step/training-step.ts";
import { openTeacher } from "../../../src/distill/teacher/teacher.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { makeFloat32Tensor, type Tensor } from "../../../src/graph/session.ts";
import { VARIANTS, type Variant } from "../../../src/model/variants.ts";
import { GOLDEN, goldenModel } from "../../support/golden-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const BATCH = 2;
const LENGTH = 32;

describe.skipIf(!existsSync(GOLDEN))("a training step against the reference", () => {
  const folder = temporaryFolder("step");
  // 64 and 20: several chunks of the vocabulary (211) and of the rows (64), the last one of each smaller.
  for (const [vocabularyChunk, rowsAtOnce] of [
    [4096, 1024],
    [64, 20],
  ] as const)
    for (const variant of VARIANTS)
      test(`a training step of ${variant}, with the head in chunks of ${vocabularyChunk}, has the losses, gradients and three steps of the reference`, async () => {
        const run = await openGolden(variant, folder(`${variant}-${rowsAtOnce}`), { vocabularyChunk, rowsAtOnce });
        for (const [i, expected] of run.losses.entries()) {
          const losses = await run.gradients();
          expect(losses.nll).toBeCloseTo(expected.nll, 4);
          expect(losses.kl).toBeCloseTo(expected.kd, 4);
          // PyTorch's constant means drift by amplified rounding noise after the first step.
          expect(losses.noise).toBeCloseTo(expected.noise_kl, i === 0 || variant === "noise-distance" ? 6 : 4);
          if (i === 0)
            for (const name of run.store.trained) {
              const error = relativeError(run.store.slot(name).gradient, await run.golden.readF32(`grad.${name}`));
              expect(error, name).toBeLessThan(1e-4);
            }
          run.update(i + 1);
        }
        for (const name of run.store.trained) {
          if (!visible(name, variant)) continue;
          const [after, start] = [
            await run.golden.readF32(`after3.${name}`),
            await run.golden.readF32(`param.${name}`),
          ];
          const end = seenBySoftmax(name, variant, start.length);
          expect(moved(run.store.value(name), after, start, end), name).toBeLessThan(1e-2);
        }
        await run.close();
      });
});

async function openGolden(variant: Variant, folder: string, chunking: { vocabularyChunk: number; rowsAtOnce: number }) {
  const { ids } = await goldenModel(variant, folder);
  const checkpoint = await openCheckpoint(folder);
  const golden = await openSafetensors(join(GOLDEN, `${variant}.safetensors`));
  const { hyper, adamw, losses } = JSON.parse(await readFile(join(GOLDEN, `${variant}.json`), "utf8"));
  const { config } = checkpoint;
  const store = new ParameterStore(
    [...checkpoint.tensors.values()].map(({ name, shape }) => ({ name, shape, trained: true })),
  );
  for (const name of store.names) store.value(name).set(await checkpoint.readF32(name));
  const prior = new NoisePrior(store);
  const source = await openCheckpoint(join(GOLDEN, "tiny-gpt2"));
  const chunks = planHeadChunks(config.vocab_size, chunking.vocabularyChunk);
  const teacher = await openTeacher(source, { batch: BATCH, length: LENGTH, chunks });
  const noisy = config.variant.startsWith("noise");
  const step = await openTrainingStep(
    {
      config,
      batch: BATCH,
      length: LENGTH,
      trained: new Set(store.trained),
      noise: noisy ? "fed" : "mean",
      teacher: teacher.input,
      temperature: hyper.temperature,
      ...chunking,
    },
    store,
  );
  const eps: Record<string, Tensor> = {};
  for (const [name, { shape }] of golden.tensors)
    if (name.startsWith("eps.")) eps[name] = makeFloat32Tensor(await golden.readF32(name), shape);
  const inputs = Int32Array.from(ids.flatMap((window) => [...window]));
  const labels = Int32Array.from(ids.flatMap((window) => [...window.slice(1), -1]));
  const rows = { nll: BATCH * (LENGTH - 1), kl: BATCH * LENGTH };
  const weights = { nll: (1 - hyper.kd) / rows.nll, kl: (hyper.kd * hyper.temperature ** 2) / rows.kl };
  return {
    store,
    golden,
    losses: losses as { nll: number; kd: number; noise_kl: number }[],
    async gradients() {
      const sums = await step.run({ inputs, labels }, weights, { ...eps, ...(await teacher.feeds(inputs)) });
      const noise = prior.value();
      prior.addGradient(hyper.kl);
      return { nll: sums.nll / rows.nll, kl: (sums.kl / rows.kl) * hyper.temperature ** 2, noise };
    },
    update(count: number) {
      for (const name of store.trained)
        store.update(name, {
          lr: adamw.lr,
          beta1: adamw.betas[0],
          beta2: adamw.betas[1],
          epsilon: adamw.eps,
          decay: adamw.weight_decay,
          step: count,
          gradientScale: 1,
        });
    },
    async close() {
      await step.close();
      await teacher.close();
      await checkpoint.close();
      await source.close();
      await golden.close();
    },
  };
}

/** The largest difference, relative to the largest entry of the expected tensor. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return actual.reduce((most, x, i) => Math.max(most, Math.abs(x - (expected[i] as number))), 0) / largest;
}

/** A constant mean has no gradient but the prior's: PyTorch's step there follows rounding noise. */
function visible(name: string, variant: Variant): boolean {
  return !(name.endsWith("noise_mean") && variant !== "noise-distance");
}

/** So is the bias of K, the last two thirds' first half: [q, k, v] is compared up to k. */
function seenBySoftmax(name: string, variant: Variant, size: number): number {
  return variant === "dense" && name.endsWith("c_attn.bias") ? size / 3 : size;
}

/** Mean difference of two updates of `start`, relative to the expected update's mean size, over the first `end` entries. */
function moved(actual: Float32Array, expected: Float32Array, start: Float32Array, end: number): number {
  let [error, size] = [0, 0];
  for (const [i, x] of start.subarray(0, end).entries()) {
    error += Math.abs((actual[i] as number) - (expected[i] as number));
    size += Math.abs((expected[i] as number) - x);
  }
  return error / size;
}
