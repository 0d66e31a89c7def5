// Training with products in float16, which the CPU computes by casts: losses near float32's, overflows, and resuming.
import { cpSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { listChangedSettings } from "../../src/distill/run-identity.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { ok, refused } from "../support/cli.ts";
import { compareSteps, runSteps, STEPS_CASES, type StepsCase, type StepsResult } from "../support/device-steps.ts";
import { failureOf } from "../support/failure.ts";
import { digest, MODEL, TEXT } from "../support/fixture.ts";
import { overwrite } from "../support/poison.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, signalAt, type Workshop, weightsOf, workshop } from "../support/training.ts";

const path = temporaryFolder("half");
const session = { threads: 1 };
const HALF = { devicePrecision: "fp16" } as const;
const inHalf = (given: StepsCase): StepsCase => ({ ...given, settings: { ...given.settings, ...HALF } });

/** The largest relative difference of a step's loss. */
const compareLosses = (full: StepsResult, half: StepsResult) =>
  Math.max(...full.reports.map(({ loss }, step) => Math.abs((half.reports[step]?.loss as number) / loss - 1)));

describe("20 steps in half precision are near those in float32", () => {
  // Measured: losses within 3.1e-4, values within 0.14 of what they moved (keys' biases, whose gradients are rounding).
  // Where weights are rounded, a difference of any size may take one to the next code: 1.6e-3.
  const limitOf = ({ settings }: StepsCase) => (settings?.quantize ? 5e-3 : 1e-3);
  const alsoOnHost = ({ name }: StepsCase) => /^(symmetric|noise-distance|low-rank|transfer of hidden)/.test(name);
  for (const given of STEPS_CASES)
    it(`on a device: ${given.name}`, slowUnless(alsoOnHost(given)), async () => {
      const [full, half] = [await runSteps(given, 20, { session }), await runSteps(inHalf(given), 20, { session })];
      const apart = compareLosses(full, half);
      expect(apart).toBeLessThan(limitOf(given));
      expect(apart).toBeGreaterThan(1e-6); // something was rounded
      const { values, worst } = compareSteps(full, half);
      expect(values, worst).toBeLessThan(0.4);
    });

  it.each(STEPS_CASES.filter(alsoOnHost))("in the host's memory: $name", async (given) => {
    const where = { session, onHost: true };
    const [full, half] = [await runSteps(given, 20, where), await runSteps(inHalf(given), 20, where)];
    expect(compareLosses(full, half)).toBeLessThan(1e-3);
    expect(half.reports).not.toEqual(full.reports);
  });
});

describe("a run in half precision", () => {
  let shop: Workshop;
  /** Its hidden units are tiny and their weights large, so that gradients overflow though the losses are as before. */
  const steep = path("steep");
  const settings: Partial<TrainSettings> = { ...HALF, steps: 6, transferSteps: 2, evalEvery: 3, warmup: 1 };
  const onCpu = { session: { threads: 1, halfOnCpu: true } };

  beforeAll(async () => {
    shop = await workshop(path);
    cpSync(await shop.student("noise-distance"), steep, { recursive: true });
    await overwrite(steep, "h.0.mlp.c_fc.weight", (x) => x * 2 ** -18);
    await overwrite(steep, "h.0.mlp.c_fc.bias", (x) => x * 2 ** -18);
    await overwrite(steep, "h.0.mlp.c_proj.weight", (x) => x * 2 ** 18);
  });

  it("lowers the scale of the loss when gradients overflow, and does the step again", async () => {
    await shop.distil(steep, { output: path("out"), settings: { ...settings, transferSteps: 0 }, ...onCpu });
    const lines = metricsOf(path("out")).filter((line) => "loss" in line);
    const scales = lines.map((line) => line.loss_scale as number);
    expect(scales).toHaveLength(6);
    expect(scales[0]).toBeLessThan(2 ** 12);
    expect(Number.isInteger(Math.log2(scales[0] as number))).toBe(true);
    const full = { ...settings, transferSteps: 0, devicePrecision: "fp32" } as const;
    await shop.distil(steep, { output: path("full"), settings: full });
    const expected = metricsOf(path("full")).filter((line) => "loss" in line);
    expect(expected.some((line) => "loss_scale" in line)).toBe(false);
    const [first, firstFull] = [lines[0], expected[0]] as Record<string, number>[];
    expect((first?.loss as number) / (firstFull?.loss as number)).toBeCloseTo(1, 2);
    expect((first?.grad_norm as number) / (firstFull?.grad_norm as number)).toBeCloseTo(1, 1);
  });

  it.each([
    ["whose gradients overflow", () => steep],
    ["of an ordinary model", () => shop.student("noise-distance")],
  ])("%s goes on to the same bits after any step", SLOW, async (name, make) => {
    const model = await make();
    const expected = path(`straight ${name}`);
    await shop.distil(model, { output: expected, settings, ...onCpu });
    for (const step of [1, 2, 4]) {
      const options = { output: path(`${name} ${step}`), settings, saveEvery: 100, ...onCpu };
      await failureOf(() => shop.distil(model, { ...options, ...signalAt(step) }));
      const state = JSON.parse(readFileSync(join(`${options.output}.run`, "checkpoint", "state.json"), "utf8"));
      expect(state.lossScale).toEqual({ factor: expect.any(Number), steps: expect.any(Number) });
      await shop.distil(model, { ...options, resume: true });
      expect(weightsOf(options.output).equals(weightsOf(expected))).toBe(true);
      expect(metricsOf(options.output)).toEqual(metricsOf(expected));
    }
  });

  it("does not go on in float32, nor one in float32 in half", async () => {
    const output = path("changed");
    const model = await shop.student("noise-distance");
    await failureOf(() => shop.distil(model, { output, settings, ...onCpu, ...signalAt(3) }));
    const before = digest(`${output}.run`);
    const full = { ...settings, devicePrecision: "fp32" } as const;
    const { code, message } = await failureOf(() => shop.distil(model, { output, settings: full, resume: true }));
    expect({ code, message }).toEqual({
      code: "mismatch",
      message: `${output}.run: this run had other settings: devicePrecision (fp16 → fp32)`,
    });
    expect(digest(`${output}.run`)).toEqual(before);
  });

  it("is refused on the CPU, before anything is written", async () => {
    const output = path("refused");
    const model = await shop.student("noise-distance");
    const { code, message, hint } = await failureOf(() => shop.distil(model, { output, settings }));
    expect(code).toBe("usage");
    expect(message).toBe("half precision is for devices with 16-bit floats, and the CPU computes in 32");
    expect(hint).toBe("leave out --device-precision fp16, or give --device");
    expect([existsSync(output), existsSync(`${output}.run`)]).toEqual([false, false]);
  });

  it("extends a finished one with a scale of its own", async () => {
    const output = path("extended");
    const model = await shop.student("symmetric");
    const short = { ...HALF, steps: 2, transferSteps: 0, lr: 1e-4 };
    await shop.distil(model, { output, settings: short, ...onCpu });
    await shop.distil(model, { output, settings: { ...short, steps: 4 }, resume: true, ...onCpu });
    const scales = metricsOf(output).flatMap((line) => ("loss" in line ? [line.loss_scale] : []));
    expect(scales).toEqual([4096, 4096, 4096, 4096]);
  });
});

it("a run of an earlier version, which has no such setting, was one in float32", () => {
  const [old, full, half] = [{ lr: 1 }, { lr: 1, devicePrecision: "fp32" }, { lr: 1, devicePrecision: "fp16" }];
  expect([listChangedSettings(old, full), listChangedSettings(full, old)]).toEqual([[], []]);
  expect(listChangedSettings(old, half)).toEqual(["devicePrecision (fp32 → fp16)"]);
  expect(listChangedSettings(half, old)).toEqual(["devicePrecision (fp16 → fp32)"]);
});

describe("--device-precision fp16 on the CPU", () => {
  const half = ["--device-precision", "fp16"];
  it.each([
    ["finetune", ["finetune", MODEL, "--data", TEXT]],
    ["a dry run", ["finetune", MODEL, "--data", TEXT, "--dry-run"]],
    ["distill", ["distill", MODEL, "--teacher", MODEL, "--data", TEXT]],
    ["pretrain", ["pretrain", "--config", join(MODEL, "config.json"), "--data", TEXT]],
  ])("is refused by nfc %s in one line", async (name, line) => {
    const output = path(`cli-${name}`);
    expect(await refused([...line, "-o", output, ...half])).toBe(
      "half precision is for devices with 16-bit floats, and the CPU computes in 32; leave out --device-precision fp16, or give --device",
    );
    expect([existsSync(output), existsSync(`${output}.run`)]).toEqual([false, false]);
  });

  it("fp32 is what runs have anyway, and stands in their settings", async () => {
    const line = [
      "finetune",
      MODEL,
      "--data",
      TEXT,
      "--steps",
      "1",
      "--length",
      "16",
      "--batch-size",
      "1",
      "--eval-tokens",
      "32",
    ];
    const run = async (...more: string[]) =>
      JSON.parse(
        (await ok(...line, "-o", path(`fp32 ${more.length}`), "--json", "-q", "--threads", "1", ...more)).stdout,
      );
    const [plain, named] = [await run(), await run("--device-precision", "fp32")];
    expect(named.settings).toEqual(plain.settings);
    expect(plain.settings.devicePrecision).toBe("fp32");
    expect(weightsOf(path("fp32 2")).equals(weightsOf(path("fp32 0")))).toBe(true);
  });
});
