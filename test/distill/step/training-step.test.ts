// Losses, gradients and AdamW steps against the reference implementation's numbers, in every variant.
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { NoisePrior } from "../../../src/distill/step/noise-prior.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { planHeadChunks } from "../../../src/distill/step/step-graph.ts";
import { openTrainingStep } from "../../../src/distill/step/training-step.ts";
import { openTeacher } from "../../../src/distill/teacher/teacher.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { makeFloat32Tensor, type Tensor } from "../../../src/graph/session.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { listAttentionParts } from "../../../src/model/head-widths.ts";
import type { Variant } from "../../../src/model/variants.ts";
import { findGolden, GOLDEN_NAMES, goldenModel, goldenTeacher } from "../../support/golden-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

describe("a training step against the reference", () => {
  const folder = temporaryFolder("step");
  // 64 and 20: several chunks of the vocabulary (211) and of the rows (64), the last one of each smaller.
  for (const [vocabularyChunk, rowsAtOnce] of [
    [4096, 1024],
    [64, 20],
  ] as const)
    for (const name of GOLDEN_NAMES)
      test(`a training step of ${name}, with the head in chunks of ${vocabularyChunk}, has the losses, gradients and three steps of the reference`, async () => {
        const run = await openGolden(name, folder(`${name}-${rowsAtOnce}`), { vocabularyChunk, rowsAtOnce });
        const { variant } = run.config;
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
          const end = seenBySoftmax(name, run.config, start.length);
          expect(moved(run.store.value(name), after, start, end), name).toBeLessThan(1e-2);
        }
        await run.close();
      });
});

async function openGolden(name: string, folder: string, chunking: { vocabularyChunk: number; rowsAtOnce: number }) {
  const { ids } = await goldenModel(name, folder);
  const [batch, length] = [ids.length, ids[0]?.length ?? 0];
  const checkpoint = await openCheckpoint(folder);
  const golden = await openSafetensors(`${findGolden(name)}.safetensors`);
  const { hyper, adamw, losses } = JSON.parse(await readFile(`${findGolden(name)}.json`, "utf8"));
  const { config } = checkpoint;
  const store = new ParameterStore(
    [...checkpoint.tensors.values()].map(({ name, shape }) => ({ name, shape, trained: true })),
  );
  for (const name of store.names) store.value(name).set(await checkpoint.readF32(name));
  const prior = new NoisePrior(store);
  const source = await openCheckpoint(await goldenTeacher(name, `${folder}-teacher`));
  const chunks = planHeadChunks(config.vocab_size, chunking.vocabularyChunk);
  const teacher = await openTeacher(source, { batch, length, chunks });
  const noisy = config.variant.startsWith("noise");
  const step = await openTrainingStep(
    {
      config,
      batch,
      length,
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
  const rows = { nll: batch * (length - 1), kl: batch * length };
  const weights = { nll: (1 - hyper.kd) / rows.nll, kl: (hyper.kd * hyper.temperature ** 2) / rows.kl };
  return {
    config,
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

/** So is the bias of K: [q, k, v] is compared up to k. */
function seenBySoftmax(name: string, config: ModelConfig, size: number): number {
  const [first] = listAttentionParts(config, Number(name.split(".")[1]));
  return first?.part === "q" && name.endsWith("c_attn.bias") ? first.columns : size;
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
