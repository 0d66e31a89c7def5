// Training as a library call: what moves, what is refused, and settings that must give the same numbers.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { TokenCorpus } from "../../src/distill/data/token-cache.ts";
import { scoreCheckpoint } from "../../src/distill/held-out.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { listParameters } from "../../src/model/parameters.ts";
import type { Variant } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, digest, opened } from "../support/fixture.ts";
import { overwrite } from "../support/poison.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { type Given, metricsOf, signalAt, type Workshop, weightsOf, workshop, writeIds } from "../support/training.ts";

const path = temporaryFolder("train");
let shop: Workshop;

beforeAll(async () => {
  shop = await workshop(path);
});

/** Names of the tensors whose bytes differ. */
function changedTensors(before: string, after: string): Promise<string[]> {
  return opened(before, (old) =>
    opened(after, async (now) => {
      const names = listParameters(old.config).map(({ name }) => name);
      const changed: string[] = [];
      for (const name of names) if (!(await bytesOf(old, name)).equals(await bytesOf(now, name))) changed.push(name);
      return changed;
    }),
  );
}

async function finetuned(name: string, variant: Variant, settings: Partial<TrainSettings>) {
  const student = await shop.student(variant);
  // An evaluation at the end alone: the output holds the last step's weights.
  await shop.run("finetune", student, { output: path(name), settings: { steps: 3, evalEvery: 99, ...settings } });
  return { changed: await changedTensors(student, path(name)), weights: weightsOf(path(name)) };
}

const NOISY = ["noise-shared", "noise-per-head", "noise-distance"] as const;

describe("what --train moves", () => {
  it.each(NOISY)("--train noise moves noise alone: %s", async (variant) => {
    const { changed } = await finetuned(`noise-${variant}`, variant, { train: "noise" });
    const parts = variant === "noise-distance" ? ["noise_mean", "noise_log_std"] : ["noise_log_std"];
    expect(changed.sort()).toEqual([0, 1].flatMap((n) => parts.map((part) => `h.${n}.attn.${part}`)).sort());
  });

  it.each(["dense", "symmetric", ...NOISY] as const)("--train attention moves attention alone: %s", async (variant) => {
    const { changed } = await finetuned(`attention-${variant}`, variant, { train: "attention" });
    expect(changed.filter((name) => !name.includes(".attn."))).toEqual([]);
    expect(changed).toContain("h.1.attn.c_proj.bias");
    expect(changed).toContain("h.0.attn.c_attn.weight");
  });

  it("--train all moves every tensor", async () => {
    const { changed } = await finetuned("all", "noise-distance", {});
    expect(changed).toHaveLength(
      listParameters(await opened(shop.base, ({ config }) => ({ ...config, variant: "noise-distance" }))).length,
    );
  });

  it.each(["symmetric", ...NOISY] as const)(
    "attention transfer moves only what makes the scores: %s",
    async (variant) => {
      const student = await shop.student(variant);
      const output = path(`scores-${variant}`);
      await shop.distil(student, { output, settings: { steps: 3, transferSteps: 3 } });
      const parts = ["c_attn.weight", "c_attn.bias", ...(variant === "noise-distance" ? ["noise_mean"] : [])];
      const expected = [0, 1].flatMap((n) => parts.map((part) => `h.${n}.attn.${part}`));
      expect((await changedTensors(student, output)).sort()).toEqual(expected.sort());
    },
  );

  it("--train noise with the noise at its mean and no prior moves the noise means alone", async () => {
    const { changed } = await finetuned("mean-only", "noise-distance", { train: "noise", noise: "mean", noiseKl: 0 });
    expect(changed).toEqual(["h.0.attn.noise_mean", "h.1.attn.noise_mean"]);
  });

  it("--train noise is refused where there is no noise", async () => {
    const { code, message } = await failureOf(() => finetuned("none", "symmetric", { train: "noise" }));
    expect([code, message]).toEqual(["usage", "a symmetric model has no noise to train"]);
  });
});

describe("a constant noise mean", () => {
  it.each(["noise-shared", "noise-per-head"] as const)(
    "a constant noise mean does not move without the prior: %s",
    async (variant) => {
      const { changed } = await finetuned(`still-${variant}`, variant, { noiseKl: 0, noiseLr: 1 });
      expect(changed.filter((name) => name.includes("noise"))).toEqual([
        "h.0.attn.noise_log_std",
        "h.1.attn.noise_log_std",
      ]);
    },
  );

  it.each(["noise-shared", "noise-per-head"] as const)(
    "a constant noise mean falls to 0 by the prior, as in arithmetic: %s",
    async (variant) => {
      // From 1 on, since a mean of 0 is where the prior wants it.
      const start = path(`one-${variant}`);
      await shop.run("finetune", await shop.student(variant), { output: start, settings: { steps: 1 } });
      for (const layer of [0, 1]) await overwrite(start, `h.${layer}.attn.noise_mean`, 1);
      const output = path(`prior-${variant}`);
      const rates = { noiseLr: 0.25, warmup: 0, floor: 1, noiseKl: 0.5, clip: 0 };
      await shop.run("finetune", start, { output, settings: { steps: 4, evalEvery: 99, ...rates } });
      const count = variant === "noise-shared" ? 2 : 4; // over both layers
      let [mu, m, v] = [1, 0, 0];
      for (let step = 1; step <= 4; step++) {
        const g = (0.5 * mu) / count;
        [m, v] = [0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g];
        mu -= (0.25 * m) / (1 - 0.9 ** step) / (Math.sqrt(v / (1 - 0.95 ** step)) + 1e-8);
      }
      await opened(output, async (model) => {
        for (const layer of [0, 1])
          for (const value of await model.readF32(`h.${layer}.attn.noise_mean`)) expect(value).toBeCloseTo(mu, 5);
      });
    },
  );
});

describe("runs that must give the same numbers", () => {
  it("two micro-batches of 2 give the numbers of one of 4, up to rounding", async () => {
    // Noise at its mean: draws go by micro-batch.
    const settings = { noise: "mean", steps: 5, transferSteps: 2 } as const;
    const student = await shop.student("noise-distance");
    await shop.distil(student, { output: path("one"), settings: { ...settings, batchSize: 4 } });
    await shop.distil(student, { output: path("two"), settings: { ...settings, batchSize: 2, accumulate: 2 } });
    const [one, two] = [metricsOf(path("one")), metricsOf(path("two"))];
    for (const [i, line] of one.entries())
      for (const key of ["loss", "grad_norm", "kl"] as const)
        if (key in line) expect(two[i]?.[key]).toBeCloseTo(line[key] as number, 4);
    expect(one.map(({ tokens }) => tokens)).toEqual(two.map(({ tokens }) => tokens));
  });

  it("a distillation with kd 0 gives the weights of fine-tuning without a teacher", async () => {
    const settings = { steps: 4, lr: 1e-3, kd: 0, transferSteps: 0 };
    const student = await shop.student("noise-per-head");
    await shop.distil(student, { output: path("kd0"), settings });
    await shop.run("finetune", student, { output: path("plain"), settings });
    expect(weightsOf(path("kd0")).equals(weightsOf(path("plain")))).toBe(true);
  });

  it("the loss is the sum of its parts: (1 − kd)·NLL + kd·T²·KL + β·prior", async () => {
    const student = await shop.student("noise-distance");
    for (const [kd, temperature] of [
      [1, 1],
      [0.3, 2],
      [0, 4],
    ] as const) {
      const output = path(`parts-${kd}`);
      await shop.distil(student, { output, settings: { steps: 2, kd, temperature, noiseKl: 0.01, transferSteps: 0 } });
      for (const line of metricsOf(output).filter((each) => "loss" in each)) {
        const { loss, nll, kl, noise_kl } = line as Record<string, number>;
        expect(loss).toBeCloseTo((1 - kd) * (nll as number) + kd * (kl as number) + 0.01 * (noise_kl as number), 10);
      }
    }
  });
});

describe("results of a run", () => {
  it("a run keeps the weights that are best on held-out text, and reports their score", async () => {
    const output = path("best");
    // A rate that ruins the model after a while.
    const settings = { steps: 12, lr: 0.1, warmup: 12, evalEvery: 1 };
    const result = await shop.run("finetune", shop.base, { output, settings });
    const scores = metricsOf(output).flatMap(({ eval: score }) =>
      score ? [(score as { perplexity: number }).perplexity] : [],
    );
    expect(scores).toHaveLength(12);
    expect(result.best.perplexity).toBe(Math.min(...scores));
    expect(result.best.step).toBeLessThan(12);
    expect(result.perplexity).toEqual({
      teacher: null,
      before: result.perplexity.before,
      after: result.best.perplexity,
    });
    const corpus = await TokenCorpus.open([shop.data], null, { vocabulary: 61 });
    const range = { corpus, start: corpus.tokens - 60, end: corpus.tokens }; // 2 % of 3000
    const kept = await opened(output, (model) =>
      scoreCheckpoint(model, { range, tokens: 200, length: 16, session: { threads: 1 } }),
    );
    await corpus.close();
    expect(Math.abs(kept / result.best.perplexity - 1)).toBeLessThan(1e-5);
    expect(result.heldOutTokens).toBe(60);
  });

  it("a run records itself in nfc.json", async () => {
    const output = path("recorded");
    const first = path("recorded-first");
    await shop.distil(await shop.student("symmetric"), { output: first });
    const { record, perplexity } = await shop.distil(first, { output, settings: { seed: 9 }, command: ["nfc", "x"] });
    expect(record.history.map(({ step }) => step)).toEqual(["pretrain", "convert", "distill", "distill"]);
    expect(record.history.at(-1)).toMatchObject({
      command: ["nfc", "x"],
      settings: { seed: 9, kd: 0.5 },
      held_out: { data: shop.data, perplexity },
    });
    expect(perplexity.teacher).toBeGreaterThan(1);
    await opened(output, (model) => expect(model.record).toEqual(record));
  });
});

describe("refusals before anything is written", () => {
  const CASES: [string, string, string, () => Promise<Given>][] = [
    [
      "an output that is there",
      "exists",
      "taken",
      async () => {
        mkdirSync(path("taken"));
        writeFileSync(path("taken", "x"), "");
        return { output: path("taken") };
      },
    ],
    [
      "a run without --resume",
      "exists",
      "an unfinished run is there",
      async () => {
        const output = path("unfinished");
        await failureOf(() => shop.run("finetune", shop.base, { output, ...signalAt(1) }));
        return { output };
      },
    ],
    ["--resume without a run", "not-found", "no run to go on with", async () => ({ resume: true })],
    [
      "an output that holds the model",
      "usage",
      "from which this output is made",
      async () => ({ output: shop.base, force: true }),
    ],
    [
      "an output that holds the data",
      "usage",
      "from which this output is made",
      async () => ({ output: path(""), force: true }),
    ],
    ["no data", "not-found", "nowhere.bin", async () => ({ data: [path("nowhere.bin")] })],
    [
      "data that is too short",
      "invalid-file",
      "20 tokens, under the 51",
      async () => ({ data: [writeIds(path("short.bin"), 20)] }),
    ],
    [
      "ids past the vocabulary",
      "mismatch",
      "the model has 61 tokens",
      async () => ({ data: [writeIds(path("big.bin"), 3000, 500)] }),
    ],
    [
      "an empty held-out text",
      "invalid-file",
      "no tokens",
      async () => ({ heldOut: [writeIds(path("empty.bin"), 0)] }),
    ],
    ["a teacher's share without one", "usage", "there is no teacher", async () => ({ settings: { kd: 0.5 } })],
  ];

  it.each(CASES)("a run is refused before anything is written: %s", async (_, code, sign, options) => {
    const given = await options();
    const before = digest(path(""));
    const failure = await failureOf(() => shop.run("finetune", shop.base, { output: path("refused"), ...given }));
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(sign);
    expect(digest(path(""))).toEqual(before);
  });

  it("a folder beside the output that is not a run is refused with and without --force", async () => {
    mkdirSync(path("guarded.run"));
    writeFileSync(path("guarded.run", "thesis.txt"), "precious");
    for (const force of [false, true]) {
      const failure = await failureOf(() => shop.run("finetune", shop.base, { output: path("guarded"), force }));
      expect(failure.message).toContain("guarded.run: holds thesis.txt");
    }
    expect(readdirSync(path("guarded.run"))).toEqual(["thesis.txt"]);
  });
});

it("--force replaces an output and an unfinished run at the end, not before", async () => {
  const output = path("replaced");
  await shop.run("finetune", shop.base, { output, settings: { steps: 1 } });
  const old = digest(output);
  await failureOf(() =>
    shop.run("finetune", shop.base, { output, force: true, settings: { steps: 3 }, ...signalAt(2) }),
  );
  expect(digest(output)).toEqual(old);
  const result = await shop.run("finetune", shop.base, { output, force: true, settings: { steps: 2 } });
  expect(result.resumedFrom).toBe(null);
  expect(digest(output)).not.toEqual(old);
  expect(existsSync(join(output, "metrics.jsonl"))).toBe(true);
  expect(existsSync(`${output}.run`)).toBe(false);
});
