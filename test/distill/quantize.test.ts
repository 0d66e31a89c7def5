// Training for the rounding of an export: what is trained, kept and scored is what the exported file holds.
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { openTrainingStep } from "../../src/distill/step/training-step.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { exportModel } from "../../src/export/export-model.ts";
import { planPrecision } from "../../src/export/onnx/precision-plan.ts";
import { hasTrainedCodes, resolveExport } from "../../src/export/onnx/trained-codes.ts";
import type { MatrixFormat } from "../../src/graph/passes/quantized-blocks.ts";
import { quantizeBlocks } from "../../src/graph/quantize/blocks.ts";
import { findBlocks } from "../../src/graph/quantize/find-grid.ts";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import type { Precision } from "../../src/model/precision.ts";
import { VARIANTS, type Variant } from "../../src/model/variants.ts";
import { listWeightForms, roundWeight } from "../../src/model/weight-forms.ts";
import { exported } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { opened } from "../support/fixture.ts";
import { overwrite } from "../support/poison.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { signalAt, type Workshop, weightsOf, workshop, writeIds } from "../support/training.ts";

const path = temporaryFolder("quantize");
let shop: Workshop;

beforeAll(async () => {
  shop = await workshop(path);
});

type Settings = Partial<TrainSettings>;
const FORMS: readonly Settings[] = [
  { quantize: "q4" },
  { quantize: "q4", block: 16, symmetric: "yes" },
  { quantize: "q4", grid: "refit" },
  { quantize: "uint8" },
  { quantize: "int8" },
  { quantize: "mixed", budget: 130 },
  { quantize: "q4", embeddingBits: 8 },
];
const CHANGING: Settings = { steps: 4, transferSteps: 1, evalEvery: 2, warmup: 0, lr: 1e-2 };

/** Trains a student, and gives the folder of the model. */
async function trained(name: string, variant: Variant, settings: Settings) {
  const output = path(name);
  const student = await shop.student(variant);
  const transferSteps = variant === "dense" ? 0 : 1;
  const result = await shop.distil(student, { output, settings: { ...CHANGING, transferSteps, ...settings } });
  return { output, result };
}

/** The weights of a model's file in a precision, as its bytes decode. */
async function decode(checkpoint: Checkpoint, precision: Precision): Promise<Map<string, Float32Array>> {
  const quantization = resolveExport(checkpoint, [precision]);
  const known = hasTrainedCodes(checkpoint, precision, quantization);
  const plan = await planPrecision(checkpoint, precision, { noise: { kind: "mean" }, quantization, trained: known });
  const names = [...checkpoint.tensors.keys()];
  return new Map(await Promise.all(names.map(async (name) => [name, await plan.decoded.readF32(name)] as const)));
}

/** Noise and transfer, and heads of their own widths. */
const QUICK: readonly Variant[] = ["noise-distance", "low-rank"];

describe.each(VARIANTS)("a %s model that is trained for a precision", (variant) => {
  it.each(FORMS)(
    "is what its export holds, number for number: %j",
    slowUnless(QUICK.includes(variant)),
    async (settings) => {
      const { output, result } = await trained(`${variant} ${JSON.stringify(settings)}`, variant, settings);
      const precision = settings.quantize as Precision;
      await opened(output, async (model) => {
        const file = await decode(model, precision);
        const forms = listWeightForms(model.config, precision, resolveExport(model, [precision]));
        expect(forms.size).toBeGreaterThan(8);
        for (const [name, values] of file) expect(values, name).toEqual(await model.readF32(name));
        // The student of a plain export changes: so the grid is that of the training.
        const before = await opened(await shop.student(variant), (student) => student.readF32("h.0.mlp.c_fc.weight"));
        expect(file.get("h.0.mlp.c_fc.weight")).not.toEqual(before);
        expect(model.record?.quantization).toMatchObject({ precision });
      });
      expect(result.perplexity.after).toBeGreaterThan(0);
    },
  );
});

describe("a model that is trained for q4", () => {
  it("has the perplexity that the training says, and its exported file has these codes", async () => {
    const student = await shop.student("low-rank");
    const heldOut = writeIds(path("held-out.bin"), 400);
    const output = path("scored");
    const settings: Settings = { ...CHANGING, quantize: "q4", evalTokens: 400 };
    const result = await shop.distil(student, { output, settings, heldOut: [heldOut] });
    const score = (folder: string) =>
      opened(folder, (model) => evaluate(model, { text: [heldOut], length: 16, threads: 1 }));
    expect((await score(output)).perplexity).toBe(result.perplexity.after);
    // A student that is to be rounded is scored rounded, from the beginning.
    expect((await score(student)).perplexity).not.toBe(result.perplexity.before);
    const { notes, exports } = await exported(output, path("scored-onnx"), {
      precisions: ["q4", "q4f16", "int8"],
    });
    expect(notes).toContain("q4: the codes and scales that the model was trained with");
    expect(notes).toContain("q4f16: the codes and scales that the model was trained with");
    expect(notes).toContain("int8: not the codes that the model was trained for, which are q4 in blocks of 32");
    expect(exports.map(({ method }) => method)).toEqual([undefined, "trained", "trained"]);
  });

  it("is told from what other choices of the export make of it", async () => {
    const { output } = await trained("told", "dense", { quantize: "q4", block: 16 });
    const notesOf = async (name: string, quantization: object) =>
      (await exported(output, path(name), { precisions: ["q4"], quantization })).notes;
    expect(await notesOf("as it was", {})).toContain("q4: the codes and scales that the model was trained with");
    const lost = "q4: not the codes that the model was trained for, which are q4 in blocks of 16";
    expect(await notesOf("wider", { block: 32 })).toContain(lost);
    expect(await notesOf("symmetric", { symmetric: true })).toContain(lost);
  });

  it("has the bits of its embedding in every export that is not told otherwise", async () => {
    const { output, result } = await trained("wide embedding", "dense", { quantize: "q4", embeddingBits: 8 });
    expect(result.record.quantization).toEqual({ precision: "q4", block: 32, symmetric: false, embeddingBits: 8 });
    const own = await exported(output, path("wide-onnx"), { precisions: ["q4", "q2"] });
    expect(own.notes).toEqual([
      "q4: the codes and scales that the model was trained with",
      "q2: not the codes that the model was trained for, which are q4 in blocks of 32, the embedding in 8 bits",
    ]);
    expect(own.exports.map(({ embeddingBits }) => embeddingBits)).toEqual([8, 8]);
    const narrow = await exported(output, path("narrow-onnx"), {
      precisions: ["q4"],
      quantization: { embeddingBits: 4 },
    });
    expect(narrow.notes[0]).toContain("q4: not the codes that the model was trained for");
    expect(narrow.exports[0]?.embeddingBits).toBe(4);
  });

  it("keeps its codes where a calibration text is given for other files", async () => {
    const { output } = await trained("kept", "dense", { quantize: "q4" });
    const calibration = { file: writeIds(path("calibration.bin"), 400), tokens: 256 };
    const { notes, exports } = await exported(output, path("kept-onnx"), { precisions: ["uint8", "q4"], calibration });
    expect(notes).toContain("q4: the codes and scales that the model was trained with");
    expect(exports.map(({ method, calibration: own }) => [method, own?.tokens])).toEqual([
      ["gptq", 256],
      ["trained", undefined],
    ]);
  });

  it("in mixed bits has those that its training text chose, unless the export is given a budget", async () => {
    const { output } = await trained("mixed", "dense", { quantize: "mixed", budget: 130 });
    const bits = await opened(output, ({ record }) => record?.quantization?.bits ?? {});
    expect(new Set(Object.values(bits))).toEqual(new Set([4, 8]));
    const first = await exported(output, path("mixed-onnx"), { precisions: ["mixed"] });
    expect(first.notes).toEqual(["mixed: the codes and scales that the model was trained with"]);
    expect(first.exports).toMatchObject([{ method: "trained", bits }]);
    expect(first.exports[0]).not.toHaveProperty("budget");
    const other = await exported(output, path("other-onnx"), { precisions: ["mixed"], budget: { share: 1.6 } });
    expect(other.notes[0]).toBe("mixed: not the codes that the model was trained for, which are mixed in blocks of 32");
    expect(other.exports[0]?.bits).not.toEqual(bits);
  });

  it("in mixed bits measures a text that is shorter than its context", async () => {
    const data = [writeIds(path("short.bin"), 40)];
    const settings: Settings = {
      ...CHANGING,
      transferSteps: 0,
      quantize: "mixed",
      length: 8,
      batchSize: 1,
      accumulate: 1,
    };
    const options = { output: path("of a short text"), settings, data };
    const { record } = await shop.distil(await shop.student("dense"), options);
    expect(Object.keys(record.quantization?.bits ?? {})).toHaveLength(9);
  });

  it("in mixed bits keeps them when its finished run is extended", async () => {
    const { output, result } = await trained("extended", "dense", { quantize: "mixed", transferSteps: 0 });
    const settings: Settings = { ...CHANGING, transferSteps: 0, quantize: "mixed", steps: 6 };
    const student = await shop.student("dense");
    const longer = await shop.distil(student, { output, settings, resume: true });
    expect(longer.record.quantization).toEqual(result.record.quantization);
    expect(longer.settings.extendedFrom).toBe(CHANGING.steps);
  });

  it("keeps its weights where its run is extended and none are better", async () => {
    // The scales move far at this rate, and no later model is better.
    const settings: Settings = { ...CHANGING, transferSteps: 0, quantize: "q4", evalEvery: 4, lr: 3e-2 };
    const student = await shop.student("low-rank");
    const output = path("kept best");
    const { best } = await shop.distil(student, { output, settings });
    const kept = weightsOf(output);
    const longer = await shop.distil(student, { output, settings: { ...settings, steps: 7 }, resume: true });
    expect(longer.best).toEqual(best);
    expect(weightsOf(output).equals(kept)).toBe(true);
  });

  it("is scored rounded before its steps round, too", async () => {
    const student = await shop.student("low-rank");
    const settings: Settings = { ...CHANGING, transferSteps: 0, quantize: "q2", lr: 1e-9, evalEvery: 1 };
    const { perplexity } = await shop.distil(student, { output: path("scored early"), settings });
    const lines = readFileSync(path("scored early/metrics.jsonl"), "utf8").trim().split("\n");
    const scores = lines.flatMap((line) => JSON.parse(line).eval?.perplexity ?? []);
    expect(scores).toHaveLength(4);
    const rounded = lines.flatMap((line) => (JSON.parse(line).rounded ? [JSON.parse(line).step] : []));
    expect(rounded).toEqual([3, 4]);
    for (const score of scores) expect(score / perplexity.before).toBeCloseTo(1, 5);
    const plain = await shop.distil(student, {
      output: path("scored plain"),
      settings: { ...CHANGING, transferSteps: 0, lr: 1e-9 },
    });
    expect(Math.abs(perplexity.before / plain.perplexity.before - 1)).toBeGreaterThan(1e-4);
  });

  it("is refused by the export once its weights are others", async () => {
    const { output } = await trained("changed", "dense", { quantize: "q4" });
    await overwrite(output, "h.0.mlp.c_fc.weight", (weight) => Math.fround(weight ** 2 + 1e-3));
    const failure = await failureOf(() => exported(output, path("changed-onnx"), { precisions: ["q4"] }));
    expect(failure.code).toBe("invalid-file");
    expect(failure.message).toContain("h.0.mlp.c_fc.weight is not rounded as nfc.json says");
  });

  it("is one of floats again when it is trained on without", async () => {
    const { output } = await trained("first", "dense", { quantize: "q4" });
    await shop.distil(output, { output: path("second"), settings: CHANGING });
    await opened(path("second"), async (model) => expect(model.record?.quantization).toBeUndefined());
  });

  describe.each<[string, Settings]>([
    ["with scales that are chosen anew", { grid: "refit" }],
    ["plain", {}],
    ["with the mean of the weights", { average: 0.5 }],
    ["in micro-batches", { accumulate: 2, batchSize: 2 }],
    ["in mixed bits", { quantize: "mixed" }],
    ["in all its steps", { quantizeSteps: 6 }],
  ])("trained %s", (name, more) =>
    it("goes on after an interruption as if there had been none", slowUnless("grid" in more), async () => {
      const settings: Settings = { ...CHANGING, steps: 6, quantize: "q4", ...more };
      const student = await shop.student("noise-distance");
      const whole = await shop.distil(student, { output: path(`whole ${name}`), settings });
      for (const step of [1, 3, 4, 5]) {
        const output = path(`parts ${name} ${step}`);
        const options = { output, settings, saveEvery: 100 };
        expect((await failureOf(() => shop.distil(student, { ...options, ...signalAt(step) }))).code).toBe("aborted");
        const result = await shop.distil(student, { ...options, resume: true });
        expect(result.perplexity).toEqual(whole.perplexity);
        expect(weightsOf(output).equals(weightsOf(path(`whole ${name}`)))).toBe(true);
      }
    }),
  );

  it("keeps the scales that its student had, where the transfer has not moved them, unless they are chosen anew", async () => {
    const scalesOf = (folder: string) =>
      opened(folder, async ({ config, readF32 }) => {
        const form = listWeightForms(config, "q4", { block: 32 });
        const { format } = form.get("h.0.mlp.c_fc.weight") as { format: MatrixFormat };
        const values = await readF32("h.0.mlp.c_fc.weight");
        const options = { ...format, name: "w" };
        return (findBlocks(values, options) ?? quantizeBlocks(values, options)).scales;
      });
    const student = await scalesOf(await shop.student("symmetric"));
    const share = async (grid: "fixed" | "refit") => {
      const settings: Settings = { quantize: "q4", quantizeSteps: 4, grid };
      const { output } = await trained(`scales ${grid}`, "symmetric", settings);
      const scales = await scalesOf(output);
      return scales.filter((scale, i) => scale === student[i]).length / scales.length;
    };
    // A block all of whose codes have a common divisor is found to have that multiple of its scale.
    expect(await share("fixed")).toBeGreaterThan(0.95);
    expect(await share("refit")).toBeLessThan(0.2);
  });

  it("does not go on with the settings of another rounding", async () => {
    const student = await shop.student("dense");
    const settings: Settings = { ...CHANGING, transferSteps: 0, quantize: "q4" };
    const options = { output: path("other"), saveEvery: 1 };
    await failureOf(() => shop.distil(student, { ...options, settings, ...signalAt(2) }));
    const resumed = { ...options, settings: { ...settings, quantize: "none" as const }, resume: true };
    const failure = await failureOf(() => shop.distil(student, resumed));
    expect(failure.code).toBe("mismatch");
    expect(failure.message).toContain("quantize (q4 → none)");
  });

  it("is written in float32, which holds its numbers, also from a model in bfloat16", async () => {
    const half = path("half");
    await opened(shop.base, (base) => exportModel(base, { output: half, safetensors: { dtype: "BF16" } }));
    const { output } = await trained("of half", "dense", { quantize: "q4" });
    await shop.distil(half, { output: path("from half"), settings: { ...CHANGING, transferSteps: 0, quantize: "q4" } });
    for (const folder of [output, path("from half")])
      await opened(folder, async (model) => {
        expect(new Set([...model.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F32"]));
      });
  });
});

describe("the gradient of a rounded model", () => {
  it("is that of the unrounded graph at the rounded weights", async () => {
    await opened(await shop.student("low-rank"), async ({ config, tensors, readF32 }) => {
      const forms = listWeightForms(config, "q4", { block: 16 });
      const make = (rounds: boolean) =>
        new ParameterStore(
          [...tensors.values()].map(({ name, shape }) => {
            return { name, shape, trained: true, form: rounds ? forms.get(name) : undefined };
          }),
        );
      const [rounded, plain] = [make(true), make(false)];
      for (const name of rounded.names) {
        const values = await readF32(name);
        await rounded.fill(name, "value", async (into) => into.set(values));
        const form = forms.get(name);
        const seen = values.slice();
        if (form) roundWeight(values, form, name, seen);
        await plain.fill(name, "value", async (into) => into.set(seen));
        expect(rounded.value(name)).toEqual(values);
      }
      const options = { config, batch: 4, length: 16, trained: new Set(plain.trained), teacher: null };
      const open = (store: ParameterStore) => openTrainingStep({ ...options, noise: "mean" }, store, { threads: 1 });
      const steps = { rounded: await open(rounded), plain: await open(plain) };
      const ids = new Uint16Array(readFileSync(shop.data).buffer.slice(0));
      const batch = { inputs: Int32Array.from(ids.subarray(0, 64)), labels: Int32Array.from(ids.subarray(1, 65)) };
      const weights = { nll: 1, kl: 0 };
      expect(await steps.rounded.run(batch, weights)).toEqual(await steps.plain.run(batch, weights));
      for (const name of plain.trained) expect(rounded.slot(name).gradient, name).toEqual(plain.slot(name).gradient);
      // Along its own direction: (L(w + h·g/|g|) − L(w − h·g/|g|)) / 2h = |g|
      for (const name of ["wte.weight", "h.0.attn.c_attn.weight", "h.1.mlp.c_proj.weight"]) {
        const gradient = rounded.slot(name).gradient.slice();
        const norm = Math.hypot(...gradient);
        const start = plain.value(name).slice();
        const h = 0.01;
        const lossAt = async (side: number) => {
          await plain.fill(name, "value", async (into) =>
            into.set(start.map((w, i) => w + (side * h * (gradient[i] as number)) / norm)),
          );
          return (await steps.plain.run(batch, weights)).nll;
        };
        const slope = ((await lossAt(1)) - (await lossAt(-1))) / (2 * h);
        await plain.fill(name, "value", async (into) => into.set(start));
        expect(slope / norm, name).toBeGreaterThan(0.98);
        expect(slope / norm, name).toBeLessThan(1.02);
      }
      await steps.rounded.close();
      await steps.plain.close();
    });
  });
});
