// A run that was interrupted and goes on is, bit for bit, the run that was not; the same seed gives the same bytes.
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { RunFolder } from "../../src/distill/run-folder.ts";
import type { TrainOptions } from "../../src/distill/train.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { NfcError } from "../../src/errors.ts";
import { writeChecksums } from "../../src/io/checksums.ts";
import { VARIANTS, type Variant } from "../../src/model/variants.ts";
import { withWriteFault } from "../io/faults.ts";
import { failureOf } from "../support/failure.ts";
import { digest, opened } from "../support/fixture.ts";
import { overwrite } from "../support/poison.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import {
  countedSignal,
  metricsOf,
  signalAt,
  type Workshop,
  weightsOf,
  workshop,
  writeIds,
} from "../support/training.ts";

const path = temporaryFolder("resume");
let shop: Workshop;

beforeAll(async () => {
  shop = await workshop(path);
});

const CHANGING = { steps: 4, transferSteps: 1, lr: 1e-3, evalEvery: 2, warmup: 0 };
type Given = Omit<Partial<TrainOptions>, "settings"> & {
  settings?: Partial<TrainSettings>;
  model?: string;
  teacherFrom?: string;
};

const STEPS = { steps: 8, transferSteps: 3, evalEvery: 3, warmup: 1 };

/** The run in one go: its bytes and metrics, which `goesOn` expects. */
async function straight(name: string, variant: Variant, settings: Partial<TrainSettings>) {
  const student = await shop.student(variant);
  const result = await shop.distil(student, { output: path(name), settings });
  return { student, result, weights: weightsOf(path(name)), metrics: metricsOf(path(name)) };
}

/** Noise and transfer, and heads of their own widths. */
const QUICK: readonly Variant[] = ["noise-distance", "low-rank"];

describe.each(VARIANTS)("resuming a distillation to %s", (variant) => {
  // 2: in the transfer; 3: at its end; 4: one step on; 6: at an evaluation; 7: before the last step.
  it.each([
    ["one micro-batch", {}],
    ["two micro-batches", { accumulate: 2, batchSize: 2 }],
  ])(
    "a distillation with %s resumes after each step as if it had not stopped",
    slowUnless(QUICK.includes(variant)),
    async (name, more) => {
      const settings = { ...STEPS, transferSteps: variant === "dense" ? 0 : 3, ...more };
      const expected = await straight(`${variant}-${name}`, variant, settings);
      for (const step of [2, 3, 4, 6, 7]) {
        const output = path(`${variant}-${name}-${step}`);
        const options = { output, settings, saveEvery: 100 };
        const stopped = await failureOf(() => shop.distil(expected.student, { ...options, ...signalAt(step) }));
        expect(stopped.code).toBe("aborted");
        expect(stopped.message).toBe(`interrupted; step ${step} of 8 is saved in ${output}.run`);
        expect(stopped.hint).toContain("--resume");
        expect(existsSync(output)).toBe(false);
        const result = await shop.distil(expected.student, { ...options, resume: true });
        expect(result.resumedFrom).toBe(step);
        expect(result.perplexity).toEqual(expected.result.perplexity);
        expect(weightsOf(output).equals(expected.weights)).toBe(true);
        expect(metricsOf(output)).toEqual(expected.metrics);
        expect(existsSync(`${output}.run`)).toBe(false);
      }
    },
  );
});

it("a distillation resumes from wherever it was interrupted, at every reading of the signal", SLOW, async () => {
  const settings = { steps: 4, transferSteps: 1, evalEvery: 2, warmup: 0 };
  const expected = await straight("everywhere", "noise-distance", settings);
  const endings = { before: 0, saved: 0 };
  for (let count = 1; ; count++) {
    const output = path(`everywhere-${count}`);
    const { signal, readings } = countedSignal(count);
    const options = { output, settings, saveEvery: 3 };
    const outcome = await shop.distil(expected.student, { ...options, signal }).catch((error: unknown) => error);
    if (!(outcome instanceof NfcError)) {
      expect(readings()).toBeLessThan(count);
      break;
    }
    expect(outcome.code).toBe("aborted");
    if (outcome.hint) endings.saved++;
    else endings.before++;
    // Before the first step nothing is written, and nothing lies about.
    expect(existsSync(`${output}.run`)).toBe(outcome.hint !== undefined);
    await shop.distil(expected.student, { ...options, resume: outcome.hint !== undefined });
    expect(weightsOf(output).equals(expected.weights)).toBe(true);
    expect(metricsOf(output)).toEqual(expected.metrics);
  }
  expect(endings.before).toBeGreaterThan(2);
  expect(endings.saved).toBeGreaterThan(5);
  expect(readdirSync(path("")).filter((name) => /\.run$|\.nfc-/.test(name))).toEqual([]);
});

it("a distillation resumes after a crash from the last checkpoint, evaluations included", SLOW, async () => {
  const expected = await straight("crash", "noise-shared", STEPS);
  for (let step = 1; step <= STEPS.steps; step++) {
    const options = { output: path(`crash-${step}`), settings: STEPS, saveEvery: 3 };
    const onProgress = ({ unit, done }: { unit: string; done: number }) => {
      if (unit === "steps" && done === step) throw new Error("crash");
    };
    await expect(shop.distil(expected.student, { ...options, onProgress })).rejects.toThrow("crash");
    const result = await shop.distil(expected.student, { ...options, resume: true });
    // Step 3 is saved once the loss of step 4 is known to be finite.
    expect(result.resumedFrom).toBe(step < 4 ? 0 : step < 7 ? 3 : 6);
    expect(weightsOf(options.output).equals(expected.weights)).toBe(true);
    expect(metricsOf(options.output)).toEqual(expected.metrics);
  }
});

it("a distillation stopped after every single step ends with the same bytes", async () => {
  const expected = await straight("often", "noise-per-head", STEPS);
  const options = { output: path("often-stopped"), settings: STEPS };
  for (let step = 1; step < STEPS.steps; step++)
    await failureOf(() => shop.distil(expected.student, { ...options, resume: step > 1, ...signalAt(step) }));
  await shop.distil(expected.student, { ...options, resume: true });
  expect(weightsOf(options.output).equals(expected.weights)).toBe(true);
  expect(metricsOf(options.output)).toEqual(expected.metrics);
});

it("a distillation killed when its output was in place ends again, and leaves another's output alone", async () => {
  const expected = await straight("ended", "symmetric", STEPS);
  const options = { output: path("ended-twice"), settings: STEPS };
  await failureOf(() => shop.distil(expected.student, { ...options, ...signalAt(5) }));
  cpSync(expected.result.folder, options.output, { recursive: true });
  const other = await failureOf(() => shop.distil(expected.student, { ...options, resume: true }));
  expect([other.code, other.hint]).toEqual(["exists", expect.stringContaining("--force")]);
  rmSync(options.output, { recursive: true });
  const remove = vi.spyOn(RunFolder.prototype, "remove").mockRejectedValueOnce(new Error("killed"));
  await expect(shop.distil(expected.student, { ...options, resume: true })).rejects.toThrow("killed");
  remove.mockRestore();
  expect([existsSync(options.output), existsSync(`${options.output}.run`)]).toEqual([true, true]);
  const result = await shop.distil(expected.student, { ...options, resume: true });
  expect(result.resumedFrom).toBe(8);
  expect(result.perplexity).toEqual(expected.result.perplexity);
  expect(weightsOf(options.output).equals(expected.weights)).toBe(true);
  expect(metricsOf(options.output)).toEqual(expected.metrics);
  expect(existsSync(`${options.output}.run`)).toBe(false);
});

it("a distillation resumes when the disk was full at any time, and the full disk is reported", SLOW, async () => {
  const settings = { steps: 3, evalEvery: 2, transferSteps: 1, warmup: 0 };
  const expected = await straight("disk", "symmetric", settings);
  const outcomes = { begun: 0, saved: 0 };
  for (let failing = 1; ; failing += 7) {
    const options = { output: path(`disk-${failing}`), settings, saveEvery: 1 };
    const { error } = await withWriteFault(failing, "ENOSPC", () => shop.distil(expected.student, options));
    if (error === undefined) break;
    // The second: the new checkpoint was in place, and the folder could not be written once the old one was gone.
    const told = expect.stringMatching(
      /: disk full$|: written, but the replaced output could not be removed completely: /,
    );
    expect(error).toMatchObject({ code: "io", message: told });
    const [resume, done] = [existsSync(`${options.output}.run/run.json`), existsSync(options.output)];
    if (!done) {
      const result = await shop.distil(expected.student, { ...options, resume });
      outcomes[result.resumedFrom ? "saved" : "begun"]++;
    }
    expect(weightsOf(options.output).equals(expected.weights)).toBe(true);
    expect(metricsOf(options.output)).toEqual(expected.metrics);
  }
  expect(outcomes.begun).toBeGreaterThan(2);
  expect(outcomes.saved).toBeGreaterThan(2);
});

it.each([
  ["an int8 teacher", { teacherPrecision: "int8" }],
  ["a cached teacher", { cacheTeacher: 8 }],
  ["noise at its mean", { noise: "mean" }],
  ["attention alone", { train: "attention" }],
] as [string, Partial<TrainSettings>][])("a distillation resumes with %s", async (name, more) => {
  const settings = { ...STEPS, ...more };
  const expected = await straight(name, "noise-distance", settings);
  const options = { output: path(`${name}-stopped`), settings };
  for (const step of [2, 5])
    await failureOf(() => shop.distil(expected.student, { ...options, resume: step > 2, ...signalAt(step) }));
  await shop.distil(expected.student, { ...options, resume: true });
  expect(weightsOf(options.output).equals(expected.weights)).toBe(true);
  expect(metricsOf(options.output)).toEqual(expected.metrics);
});

it("a distillation writes each step once, in order, and each evaluation after its step", async () => {
  const { metrics } = await straight("metrics", "noise-distance", STEPS);
  expect(metrics.map(({ step, phase }) => `${phase ?? "eval"} ${step}`)).toEqual(
    "transfer 1,transfer 2,transfer 3,train 4,train 5,train 6,eval 6,train 7,train 8,eval 8".split(","),
  );
  const [first] = metrics;
  expect(Object.keys(first as object)).toEqual(["step", "phase", "loss", "attention_kl", "lr", "grad_norm", "tokens"]);
  const fourth = metrics[3] as object;
  expect(Object.keys(fourth)).toEqual(["step", "phase", "loss", "nll", "kl", "noise_kl", "lr", "grad_norm", "tokens"]);
});

it("a distillation gives the same bytes for the same seed, and others for another", async () => {
  const weights = async (name: string, seed: number) =>
    (await straight(name, "noise-shared", { ...STEPS, seed })).weights;
  const [first, again, other] = [await weights("seed-a", 5), await weights("seed-b", 5), await weights("seed-c", 6)];
  expect(again.equals(first)).toBe(true);
  expect(other.equals(first)).toBe(false);
});

it("a checkpoint of more tokens than its steps have is refused", async () => {
  const student = await shop.student("dense");
  const options = { output: path("counted"), settings: { ...CHANGING, transferSteps: 0 } };
  await failureOf(() => shop.distil(student, { ...options, ...signalAt(2) }));
  const checkpoint = path("counted.run", "checkpoint");
  const read = (name: string) => JSON.parse(readFileSync(join(checkpoint, name), "utf8"));
  writeFileSync(join(checkpoint, "state.json"), JSON.stringify({ ...read("state.json"), tokens: 129 }));
  await writeChecksums(checkpoint, ["state.json"], read("checksums.json"));
  const failure = await failureOf(() => shop.distil(student, { ...options, resume: true }));
  expect(failure.code).toBe("invalid-file");
  expect(failure.message).toContain("129 tokens after step 2, which has 128");
});

describe("changes since a run began", () => {
  it.each<[string, () => Promise<Partial<Given>>]>([
    ["lr (0.001 → 0.002)", async () => ({ settings: { ...CHANGING, lr: 2e-3 } })],
    ["seed (0 → 1)", async () => ({ settings: { ...CHANGING, seed: 1 } })],
    ["steps (4 → 5), evalEvery (2 → 1)", async () => ({ settings: { ...CHANGING, steps: 5, evalEvery: 1 } })],
    ["train (all → attention)", async () => ({ settings: { ...CHANGING, train: "attention" } })],
    ["data", async () => ({ data: [writeIds(path("longer.bin"), 3001)] })],
    ["held-out data (null → ", async () => ({ heldOut: [writeIds(path("held.bin"), 300)] })],
    ["model", async () => ({ model: path("model-changed") })],
    ["teacher", async () => ({ teacherFrom: path("teacher-changed") })],
  ])("a change since the run began is refused by name: %s", async (change, options) => {
    const output = path("changing");
    if (!existsSync(`${output}.run`)) {
      const student = await shop.student("noise-distance");
      await failureOf(() => shop.distil(student, { output, settings: CHANGING, ...signalAt(2) }));
      cpSync(student, path("model-changed"), { recursive: true });
      await overwrite(path("model-changed"), "h.0.attn.noise_log_std", 0.5);
      cpSync(shop.base, path("teacher-changed"), { recursive: true });
      await overwrite(path("teacher-changed"), "ln_f.bias", 0.5);
    }
    const before = digest(`${output}.run`);
    const { model = await shop.student("noise-distance"), teacherFrom = shop.base, ...given } = await options();
    const failure = await failureOf(() =>
      opened(teacherFrom, (teacher) =>
        shop.run("distill", model, { output, settings: CHANGING, ...given, teacher, resume: true }),
      ),
    );
    expect(failure.code).toBe("mismatch");
    expect(failure.message).toContain(`${output}.run: this run had other settings: ${change}`);
    expect(failure.message.includes(", ")).toBe(change.includes(", "));
    expect(digest(`${output}.run`)).toEqual(before);
  });

  it("a change of the saving interval or the threads is accepted", async () => {
    const student = await shop.student("noise-distance");
    const output = path("unchanged");
    await failureOf(() => shop.distil(student, { output, settings: CHANGING, ...signalAt(2) }));
    const options = { output, settings: CHANGING, saveEvery: 1, session: { threads: 2 } };
    expect((await shop.distil(student, { ...options, resume: true })).resumedFrom).toBe(2);
  });
});
