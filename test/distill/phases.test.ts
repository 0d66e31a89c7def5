// Runs on models that are not the usual ones: heads of their own, no biases, teachers of another shape, other dtypes.
import { beforeAll, describe, expect, it } from "vitest";
import type { TrainResult } from "../../src/distill/train.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, converted, opened } from "../support/fixture.ts";
import { type TinyOptions, tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { countLeaks } from "../support/session-faults.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import {
  metricsOf,
  signalAt,
  TINY_CONFIG,
  type Workshop,
  weightsOf,
  workshop,
  writeJson,
} from "../support/training.ts";

const path = temporaryFolder("phases");
const SHAPE: TinyOptions = { width: 32, heads: 2, layers: 2, positions: 32, vocab: TINY_CONFIG.vocab_size };
let shop: Workshop;

beforeAll(async () => {
  shop = await workshop(path);
});

/** A model of small random weights in float32. */
async function model(name: string, options: TinyOptions = {}): Promise<string> {
  const all = { ...SHAPE, ...options };
  const tensors = tinyTensors(all).map((tensor) => {
    const values = new Float32Array(tensor.bytes.buffer).map((x) => 0.1 * x);
    return tensor.name.includes("ln_") ? tensor : { ...tensor, bytes: new Uint8Array(values.buffer) };
  });
  return writeCheckpoint(path(name), { ...all, tensors });
}

/** Distils; every loss must be finite. */
async function distilled(
  student: string,
  teacher: string,
  settings: Partial<TrainSettings> = {},
): Promise<TrainResult> {
  const output = `${student}-distilled`;
  const all = { steps: 8, kd: 0.5, lr: 1e-2, ...settings };
  const result = await opened(teacher, (checkpoint) =>
    shop.run("distill", student, { output, force: true, teacher: checkpoint, settings: all }),
  );
  const losses = metricsOf(output).flatMap(({ loss }) => (loss === undefined ? [] : [loss as number]));
  expect(losses).toHaveLength(all.steps);
  expect(losses.every(Number.isFinite)).toBe(true);
  return result;
}

describe("distilling students of every kind", () => {
  it.each<[string, TinyOptions]>([
    ["with a head of its own", { head: "own" }],
    ["without biases", { bias: false }],
    ["in nanoGPT's orientation", { layout: "linear", bias: false }],
  ])("a student %s learns", async (name, options) => {
    const teacher = await model(`teacher ${name}`, options);
    const student = path(`student ${name}`);
    await converted({ output: student, variant: "noise-distance" }, teacher);
    const { perplexity } = await distilled(student, teacher, { transferSteps: 2 });
    expect(perplexity.after).toBeLessThan(perplexity.before);
    await opened(`${student}-distilled`, async (trained) => {
      const { config } = trained;
      expect([config.tied_head, config.bias]).toEqual([options.head !== "own", options.bias ?? true]);
      if (options.head !== "own") return;
      // Both matrices moved, each by its own gradient.
      await opened(student, async (before) => {
        for (const tensor of ["wte.weight", "lm_head.weight"])
          expect((await bytesOf(trained, tensor)).equals(await bytesOf(before, tensor))).toBe(false);
      });
    });
  });

  it("a student learns from a teacher of another depth and width, without transfer", async () => {
    const teacher = await model("deep", { layers: 3, width: 48, heads: 3 });
    const student = await shop.student("symmetric");
    const { folder } = await distilled(student, teacher, { transferSteps: 0, kd: 1, steps: 20 });
    const kls = metricsOf(folder).flatMap(({ kl }) => (kl === undefined ? [] : [kl as number]));
    expect(kls.at(-1)).toBeLessThan((kls[0] as number) / 2);
    const failure = await failureOf(() => distilled(student, teacher, { transferSteps: 2 }));
    expect(failure.code).toBe("mismatch");
    expect(failure.message).toMatch(
      /student-symmetric cannot learn layer by layer: its teacher .*deep has 3 layers, and nothing says from which the student's 2 came$/,
    );
    expect(failure.hint).toContain("--transfer-steps 0");
  });

  it("a student with fewer layers learns those that its record says were kept, and what came between", async () => {
    const teacher = await model("four", { layers: 4 });
    const student = path("of-four");
    await opened(teacher, async (deep) => {
      const tensors = [];
      for (const { name, dtype, shape } of deep.tensors.values()) {
        const layer = /^h\.(\d)\./.exec(name)?.[1];
        if (layer === "1" || layer === "2") continue;
        const bytes = await bytesOf(deep, name);
        tensors.push({ name: name.replace(/^h\.3\./, "h.1."), dtype, shape: [...shape], bytes });
      }
      await writeCheckpoint(student, { ...SHAPE, tensors });
    });
    const kept = [0, 3];
    const settings = { transfer: "hidden", steps: 30, transferSteps: 29, transferLr: 3e-3 } as const;
    // Nothing says yet where the layers came from.
    const unknown = await failureOf(() => distilled(student, teacher, settings));
    expect(unknown.message).toMatch(/has 4 layers, and nothing says from which the student's 2 came$/);
    writeJson(`${student}/nfc.json`, {
      ...{ format: "nfc/1", tool: { name: "nfc", version: "0" }, variant: "dense", tie: null },
      ...{ source: { path: teacher, files: [], parameters: 0 }, command: [], history: [], notes: [] },
      cuts: [{ axis: "layers", from: 4, to: 2, kept }],
    });
    const { folder, record } = await distilled(student, teacher, settings);
    const errors = metricsOf(folder).flatMap(({ hidden_error: x }) => (x === undefined ? [] : [x as number]));
    expect(errors).toHaveLength(29);
    expect(errors.at(-1)).toBeLessThan((errors[0] as number) / 2);
    expect(record.history.at(-1)).toMatchObject({ inputs: { "teacher's layers": "0,3" } });
  });

  it.each(["outputs", "hidden"] as const)("a student learns %s first, and resumes in it", async (transfer) => {
    const [student, settings] = [await shop.student("symmetric"), { transfer, steps: 6, transferSteps: 4 }];
    const straight = path(`${transfer}-straight`);
    const { settings: used } = await shop.distil(student, { output: straight, settings });
    expect(used.transferLr).toBe(transfer === "outputs" ? 2e-3 : 1e-3);
    const output = path(`${transfer}-stopped`);
    await failureOf(() => shop.distil(student, { output, settings, ...signalAt(2) }));
    await shop.distil(student, { output, settings, resume: true });
    expect(weightsOf(output).equals(weightsOf(straight))).toBe(true);
  });

  it("a student learns from a tied teacher with noise, at its mean", async () => {
    const teacher = await shop.student("noise-distance");
    await distilled(await shop.student("noise-per-head"), teacher, { transferSteps: 2 });
  });

  it("a teacher of another vocabulary, and one with fewer positions than the window, are refused", async () => {
    const student = await shop.student("symmetric");
    const other = await failureOf(async () => distilled(student, await model("other", { vocab: 62 })));
    expect([other.code, other.hint]).toEqual(["mismatch", "the teacher must have the student's vocabulary"]);
    expect(other.message).toMatch(/has 61 tokens, its teacher .*other 62$/);
    const short = await failureOf(async () => distilled(student, await model("short", { positions: 8 })));
    expect(short.code).toBe("mismatch");
    expect(short.message).toMatch(/^windows of 16 tokens, but the teacher .*short has 8 positions$/);
  });

  it("a student learns in windows as long as its positions, and in one window of two tokens", async () => {
    const student = await shop.student("noise-distance");
    await distilled(student, shop.base, { length: 32, batchSize: 2, transferSteps: 1, steps: 3 });
    await distilled(student, shop.base, { length: 2, batchSize: 1, transferSteps: 1, steps: 3 });
  });
});

describe("dtypes of the trained model", () => {
  it.each(["F16", "BF16", "F64"] as const)(
    "a model in %s is written back in it, its frozen tensors byte for byte",
    async (dtype) => {
      const source = await writeCheckpoint(path(dtype), { ...SHAPE, dtype });
      const output = path(`${dtype}-tuned`);
      // Weights of ±1 are far from what a model has: guessing is bad, but finite.
      await shop.run("finetune", source, {
        output,
        settings: { steps: 2, train: "attention", lr: 1e-2, evalEvery: 9 },
      });
      await opened(source, (before) =>
        opened(output, async (after) => {
          for (const { name } of listParameters(before.config)) {
            expect(after.tensors.get(name)?.dtype).toBe(dtype);
            const same = (await bytesOf(before, name)).equals(await bytesOf(after, name));
            expect([name, same]).toEqual([name, !name.includes(".attn.")]);
          }
        }),
      );
    },
  );

  it("a single file of weights with config.json beside it is trained", async () => {
    const source = `${await model("bare")}/model.safetensors`;
    const { folder, perplexity } = await shop.run("finetune", source, {
      output: path("tuned"),
      settings: { lr: 1e-2, evalEvery: 1 },
    });
    expect(perplexity.after).toBeLessThan(perplexity.before);
    await opened(folder, (trained) => expect(trained.config.n_embd).toBe(32));
  });
});

it("the training after the transfer begins with fresh moments: AdamW's first step is as long as the rate", async () => {
  const student = await shop.student("symmetric");
  const settings = { transferSteps: 3, lr: 1e-3, warmup: 0, floor: 1, decay: 0, clip: 0, evalEvery: 99 };
  await shop.distil(student, { output: path("transfer"), settings: { ...settings, steps: 3 } });
  await shop.distil(student, { output: path("and-one"), settings: { ...settings, steps: 4 } });
  const weights = (folder: string) => opened(path(folder), (model) => model.readF32("h.0.attn.c_attn.weight"));
  const [before, after] = [await weights("transfer"), await weights("and-one")];
  const moves = before.map((x, i) => Math.abs((after[i] as number) - x) / 1e-3).sort();
  expect(moves[Math.floor(moves.length / 10)]).toBeCloseTo(1, 2);
  expect(moves.at(-1)).toBeCloseTo(1, 2);
});

describe("sessions of a run", () => {
  it("are all closed where the one of the step does not open", async () => {
    const teacher = await shop.student("low-rank");
    const run = () =>
      opened(teacher, (checkpoint) =>
        shop.run("distill", shop.base, { output: path("leak"), teacher: checkpoint, settings: { steps: 2 } }),
      );
    // The scorer of the held-out text and that of the teacher come first, then teacher and step.
    expect(await countLeaks(4, run)).toBe(0);
  });
});
