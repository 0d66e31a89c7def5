// Defaults of a run, settings that cannot be, and how a changed run is told.
import { describe, expect, it } from "vitest";
import { isRounded } from "../../src/distill/rounding-settings.ts";
import { listChangedSettings } from "../../src/distill/run-identity.ts";
import { resolveTrainSettings, type TrainSettings } from "../../src/distill/train-settings.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { failureOf } from "../support/failure.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const SMALL: ModelConfig = {
  ...tinyModelConfig({ layers: 12, heads: 12, width: 768, variant: "symmetric" }),
  n_positions: 1024,
  vocab_size: 50257,
};
const TINY: ModelConfig = { ...SMALL, n_layer: 2, n_head: 2, n_embd: 32, n_positions: 64 };
const DENSE: ModelConfig = { ...TINY, variant: "dense" };

describe("default settings", () => {
  it("the default step is 4,096 tokens in windows of at most 512", () => {
    for (const config of [SMALL, TINY]) {
      const { length, batchSize, accumulate } = resolveTrainSettings("distill", config);
      expect(length).toBe(Math.min(512, config.n_positions));
      expect(length * batchSize * accumulate).toBe(4096);
    }
    expect(resolveTrainSettings("distill", TINY).accumulate).toBe(1);
    expect(resolveTrainSettings("distill", SMALL).accumulate).toBeGreaterThan(1);
  });

  it("the default step keeps its tokens when the window or the micro-batch is given", () => {
    expect(resolveTrainSettings("distill", TINY, { length: 16 })).toMatchObject({
      length: 16,
      batchSize: 256,
      accumulate: 1,
    });
    expect(resolveTrainSettings("distill", TINY, { accumulate: 4 })).toMatchObject({ batchSize: 16, accumulate: 4 });
    expect(resolveTrainSettings("distill", SMALL, { batchSize: 2 })).toMatchObject({ batchSize: 2, accumulate: 1 });
  });

  it("a wider MLP takes more micro-batches, a narrower one fewer", () => {
    const plan = (n_inner: number) => resolveTrainSettings("distill", { ...SMALL, n_inner }).accumulate;
    const [narrow, usual, wide] = [768, 4 * 768, 16 * 768].map(plan) as [number, number, number];
    expect(narrow).toBeLessThan(usual);
    expect(usual).toBeLessThan(wide);
  });

  it("the defaults depend on the command", () => {
    expect(resolveTrainSettings("distill", TINY)).toMatchObject({ steps: 1000, kd: 0.5, lr: 1e-3, evalEvery: 100 });
    expect(resolveTrainSettings("distill", { ...TINY, n_embd: 1024 }).lr).toBe(2.5e-4);
    expect(resolveTrainSettings("finetune", TINY)).toMatchObject({ steps: 300, kd: 0, lr: 1e-4, decay: 0.01 });
    expect(resolveTrainSettings("pretrain", TINY)).toMatchObject({ steps: 2000, kd: 0, lr: 1e-3, decay: 0.1 });
  });

  it("the rate falls with the tokens of a step, however they are cut, but not for random weights", () => {
    const rate = (task: "distill" | "finetune" | "pretrain", given: Partial<TrainSettings>) =>
      resolveTrainSettings(task, TINY, { length: 32, ...given }).lr;
    expect(rate("distill", { batchSize: 16 })).toBe(1.25e-4); // 512 tokens
    expect(rate("distill", { batchSize: 4, accumulate: 4 })).toBe(1.25e-4);
    expect(rate("distill", { batchSize: 256 })).toBe(1e-3); // 8,192 tokens
    expect(rate("finetune", { batchSize: 8 })).toBe(6.25e-6);
    expect(rate("pretrain", { batchSize: 8 })).toBe(1e-3);
    expect(rate("distill", { batchSize: 16, lr: 5e-4 })).toBe(5e-4);
  });

  it("the rate of a run of under 200 steps is lower, and that of a longer one the same", () => {
    const rate = (steps: number) => resolveTrainSettings("distill", TINY, { steps }).lr;
    expect([50, 199, 200, 10_000].map(rate)).toEqual([5e-4, 9.97e-4, 1e-3, 1e-3]);
    expect(resolveTrainSettings("finetune", TINY, { steps: 2 }).lr).toBe(1e-5);
    expect(resolveTrainSettings("pretrain", TINY, { steps: 2 }).lr).toBe(1e-3);
  });

  it("attention is transferred in three tenths of the steps where it can be, and a twentieth of the rest is warmup", () => {
    expect(resolveTrainSettings("distill", TINY)).toMatchObject({ transferSteps: 0, warmup: 50 });
    expect(resolveTrainSettings("distill", TINY, {}, DENSE)).toMatchObject({
      transferSteps: 50,
      warmup: 48,
    });
    expect(resolveTrainSettings("distill", TINY, { steps: 100 }, DENSE)).toMatchObject({
      transferSteps: 30,
    });
    // Heads that the closed form brings close to the teacher's have little to learn from its attention alone.
    for (const variant of ["dense", "pairwise", "low-rank"] as const)
      expect(resolveTrainSettings("distill", { ...TINY, variant }, {}, DENSE).transferSteps).toBe(0);
    expect(resolveTrainSettings("distill", TINY, {}, { ...DENSE, n_head: 4 }).transferSteps).toBe(0);
    const noise = { ...TINY, variant: "noise-distance" } as const;
    expect(resolveTrainSettings("distill", noise, { train: "noise" }, DENSE).transferSteps).toBe(0);
    expect(resolveTrainSettings("distill", TINY, { transferSteps: 0 }, DENSE).transferSteps).toBe(0);
  });

  it("the defaults give way to given settings, but not to undefined", () => {
    const given = { steps: 7, lr: 0.1, seed: 4, evalEvery: 2, clip: 0 };
    expect(resolveTrainSettings("finetune", TINY, given)).toMatchObject(given);
    const none = { steps: undefined, lr: undefined } as unknown as Partial<TrainSettings>;
    expect(resolveTrainSettings("finetune", TINY, none)).toEqual(resolveTrainSettings("finetune", TINY));
  });

  it("the defaults hold for a run of one step", () => {
    expect(resolveTrainSettings("distill", TINY, { steps: 1 })).toMatchObject({ steps: 1, evalEvery: 1, warmup: 0 });
  });
});

describe("settings that are refused", () => {
  it.each<[Partial<TrainSettings>, string]>([
    [{ length: 1 }, "windows of 1 tokens are too short"],
    [{ evalTokens: 1 }, "--eval-tokens 1 is too few"],
    [{ length: 65 }, "windows of 65 tokens, but the model has 64 positions"],
    [{ kd: 1.5 }, "--kd 1.5 is not between 0 and 1"],
    [{ kd: -0.1 }, "--kd is -0.1, expected: number from 0"],
    [{ accumulate: 1e308 }, "--accumulate is 1e+308, expected: positive integer"],
    [{ accumulate: 1e6, batchSize: 4, length: 64 }, "a step of 256000000 tokens, 33554432 at most"],
    [{ batchSize: 1.5 }, "--batch-size is 1.5, expected: positive integer"],
    [{ lr: Number.NaN }, "--lr is null, expected: positive number"],
    [{ seed: "a\n" as never }, '--seed is "a\\n", expected: integer from 0'],
    [{ noise: "none" as never }, '--noise is "none", expected: sample or mean'],
    [{ cacheTeacher: 8, temperature: 2 }, "a cached teacher has no temperature but 1"],
    [{ transferSteps: 11 }, "11 steps of attention transfer in a run of 10"],
    [{ train: "noise" }, "a symmetric model has no noise to train"],
    [{ beta1: 1 }, "--beta1 1 is not below 1"],
    [{ beta2: 1.5 }, "--beta2 1.5 is not below 1"],
    [{ floor: 2 }, "--lr-floor 2 is above 1"],
    [{ average: 1.1 }, "--average 1.1 is above 1"],
  ])("impossible settings are refused: %o", async (given, message) => {
    const failure = await failureOf(() => resolveTrainSettings("distill", TINY, { steps: 10, ...given }));
    expect([failure.code, failure.message]).toEqual(["usage", message]);
    expect(failure.hint).toBeTruthy();
  });

  it("a micro-batch that no memory holds is refused", async () => {
    const { message } = await failureOf(() => resolveTrainSettings("distill", TINY, { batchSize: 1e9 }));
    expect(message).toMatch(/^a micro-batch of 1000000000 windows needs about \d+ GB, this machine has \d+$/);
  });

  it("attention transfer with only the noise in training is refused", async () => {
    const config = { ...TINY, variant: "noise-distance" } as const;
    const { message } = await failureOf(() =>
      resolveTrainSettings("distill", config, { train: "noise", transferSteps: 3 }),
    );
    expect(message).toBe("attention transfer moves more than the noise");
  });
});

it("the changed settings are listed with both values, long ones cut", () => {
  const old = { lr: 0.1, seed: 0, data: "0123456789abcdefXYZ", teacher: null, gone: 1 };
  const now = { lr: 0.2, seed: 0, data: "fedcba9876543210XYZ", teacher: "t", added: 2 };
  expect(listChangedSettings(old, now)).toEqual([
    "lr (0.1 → 0.2)",
    "data (0123456789ab… → fedcba987654…)",
    "teacher (null → t)",
    "gone (1 → undefined)",
    "added (undefined → 2)",
  ]);
  expect(listChangedSettings(old, { ...old })).toEqual([]);
  // A run of an earlier version, which did not know the setting.
  expect(listChangedSettings(old, { ...old, average: 0 })).toEqual([]);
  expect(listChangedSettings(old, { ...old, average: 0.5 })).toEqual(["average (0 → 0.5)"]);
});

describe("training for the rounding of an export", () => {
  it("has the blocks that the export makes of the model", () => {
    expect(resolveTrainSettings("finetune", TINY)).toMatchObject({ quantize: "none", block: 0, symmetric: "no" });
    expect(resolveTrainSettings("finetune", TINY, { quantize: "q4" })).toMatchObject({ block: 32, symmetric: "no" });
    expect(resolveTrainSettings("finetune", { ...TINY, n_embd: 48 }, { quantize: "uint8" }).block).toBe(16);
    expect(resolveTrainSettings("finetune", TINY, { quantize: "int8" }).block).toBe(0);
    expect(resolveTrainSettings("finetune", TINY, { quantize: "q4" }).grid).toBe("fixed");
    expect(resolveTrainSettings("pretrain", TINY, { quantize: "q4" }).grid).toBe("fixed");
    // Random weights outgrow the grids that they begin with.
    expect(resolveTrainSettings("pretrain", TINY, { quantize: "q4", steps: 9, quantizeSteps: 9 }).grid).toBe("refit");
    expect(resolveTrainSettings("pretrain", TINY).grid).toBe("fixed");
    expect(resolveTrainSettings("finetune", TINY, { quantize: "mixed" })).toMatchObject({ block: 32, budget: 110 });
    expect(resolveTrainSettings("finetune", TINY, { quantize: "q4" }).budget).toBe(0);
  });

  it("rounds in the last 30 % of the steps, or in as many as are given", () => {
    const rounded = (settings: Partial<TrainSettings>) =>
      resolveTrainSettings("finetune", TINY, { steps: 10, ...settings }).quantizeSteps;
    expect(rounded({})).toBe(0);
    expect(rounded({ quantize: "q4" })).toBe(3);
    expect(rounded({ quantize: "int8", steps: 1 })).toBe(1);
    expect(rounded({ quantize: "q4", quantizeSteps: 10 })).toBe(10);
    expect(rounded({ quantize: "q4", steps: 30, extendedFrom: 10 })).toBe(6);
    const run = { steps: 10, quantizeSteps: 3 };
    expect([0, 6, 7, 9].map((step) => isRounded(step, run))).toEqual([false, false, true, true]);
    expect(isRounded(9, { steps: 10, quantizeSteps: 0 })).toBe(false);
  });

  it("refuses mixed bits for random weights", async () => {
    const failure = await failureOf(async () => resolveTrainSettings("pretrain", TINY, { quantize: "mixed" }));
    expect(failure.message).toContain("random ones tell nothing of that");
  });

  it.each([
    [{ block: 16 }, "--block-size is for precisions with blocks"],
    [{ quantize: "int8", block: 16 }, "--block-size is for precisions with blocks"],
    [{ quantize: "int8", symmetric: "yes" }, "--symmetric is for precisions with blocks"],
    [{ quantize: "q4", block: 20 }, "blocks of 20: not one of 16, 32, 64, 128"],
    [{ quantize: "q4", block: 64 }, "blocks of 64 do not divide n_embd 32"],
    [{ quantize: "q3" as "q4" }, '--quantize is "q3", expected: none or int8 or uint8 or mixed or q4 or q2'],
    [{ embeddingBits: 8 }, "--embedding-bits is for precisions with blocks"],
    [{ quantize: "int8", embeddingBits: 8 }, "--embedding-bits is for precisions with blocks"],
    [{ quantize: "q4", embeddingBits: 6 }, "--embedding-bits 6: not one of 2, 4, 8"],
    [{ quantizeSteps: 3 }, "--quantize-steps is for --quantize"],
    [{ quantize: "q4", quantizeSteps: 0 }, "--quantize-steps 0 rounds nothing"],
    [{ quantize: "q4", steps: 5, quantizeSteps: 6 }, "--quantize-steps 6 in a run of 5"],
    [{ quantize: "q4", budget: 120 }, "--budget is for --quantize mixed"],
    [{ quantize: "mixed", budget: 0 }, "--budget is 0, expected: percent of q4's size"],
  ] as [Partial<TrainSettings>, string][])("refuses what no export does: %j", async (given, message) => {
    const failure = await failureOf(async () => resolveTrainSettings("finetune", TINY, given));
    expect(failure.code).toBe("usage");
    expect(failure.message).toBe(message);
  });
});
