// What distill.py is told: the settings of nfc distill for the model, settings that are given, and the teacher's layers.
import { writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { NfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { planScript, readScriptSettings } from "../../src/distill/script-settings.ts";
import { resolveTrainSettings } from "../../src/distill/train-settings.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("script-settings");
const config = tinyModelConfig({ layers: 2 });
const studentOf = (cuts?: NfcRecord["cuts"], variant: (typeof VARIANTS)[number] = "symmetric") => ({
  config: { ...config, variant },
  record: cuts ? ({ cuts } as NfcRecord) : null,
  source: "out/model",
});

/** Writes a value as JSON, and reads settings from it. */
function read(name: string, value: unknown) {
  writeFileSync(path(name), JSON.stringify(value));
  return readScriptSettings(path(name));
}

describe("the settings of distill.py", () => {
  it.each(VARIANTS)("are those of nfc distill for a %s model and its source", (variant) => {
    const given = { steps: 40, seed: 3, transfer: "outputs" } as const;
    for (const settings of [{}, given]) {
      const student = studentOf(undefined, variant);
      const all = resolveTrainSettings("distill", student.config, settings, config);
      const { task, cacheTeacher, cacheKind, teacherPrecision, devicePrecision, extendedFrom, ...others } = all;
      const { quantize, quantizeSteps, budget, block, embeddingBits, symmetric, grid, ...shared } = others;
      expect(planScript(student, settings)).toEqual({ settings: shared, layers: [0, 1] });
    }
  });

  it("have a transfer from the layers that were kept, of a source that was deeper", () => {
    const cuts = [
      { axis: "layers", from: 6, kept: [0, 1, 4, 5] },
      { axis: "mlp" },
      { axis: "layers", from: 4, kept: [1, 3] },
    ];
    const { settings, layers } = planScript(studentOf(cuts));
    expect(layers).toEqual([1, 5]);
    expect(settings.transferSteps).toBe(50);
  });

  it("have no transfer where the layers' origin is not known", () => {
    const { settings, layers } = planScript(studentOf([{ axis: "layers", from: 6, kept: [0, 1, 4] }]));
    expect({ layers, steps: settings.transferSteps }).toEqual({ layers: null, steps: 0 });
  });

  it("may have micro-batches that this machine cannot hold", () => {
    const huge = { batchSize: 2 ** 21, length: 2 };
    expect(() => resolveTrainSettings("distill", { ...config, n_embd: 2 ** 16 }, huge)).toThrow("a micro-batch of");
    const student = { ...studentOf(), config: { ...config, n_embd: 2 ** 16 } };
    expect(planScript(student, huge).settings.batchSize).toBe(2 ** 21);
  });

  it.each([
    [{ length: 4096 }, "windows of 4096 tokens, but the model has"],
    [{ kd: 1.5 }, "--kd 1.5 is not between 0 and 1"],
    [{ steps: "many" as never }, '--steps is "many", expected: positive integer'],
    [{ train: "noise" as const }, "a symmetric model has no noise to train"],
  ])("are refused: %j", (given, message) => {
    expect(() => planScript(studentOf(), given)).toThrow(message);
  });
});

describe("settings are read from", () => {
  const settings = { steps: 8, lr: 0.25 };

  it.each<[string, unknown]>([
    ["an object of some", settings],
    ["distill.json", { format: "nfc-distill/1", settings, layers: null, tokens: null }],
    [
      "the file of a run",
      { format: "nfc-run/2", sha256: "0", settings: { ...settings, task: "distill", model: "ab" } },
    ],
    ["an nfc.json", { history: [{ step: "distill", settings }, { step: "export" }] }],
    [
      "an nfc.json of distill.py",
      {
        history: [
          { step: "distill", settings: {} },
          { step: "distill.py", settings },
        ],
      },
    ],
  ])("%s", async (_, value) => {
    expect(await read("found.json", value)).toEqual({ given: settings, notes: [] });
  });

  it("the folder of a model", async () => {
    await mkdir(path("model"));
    writeFileSync(path("model/nfc.json"), JSON.stringify({ history: [{ step: "distill", settings }] }));
    expect(await readScriptSettings(path("model"))).toEqual({ given: settings, notes: [] });
  });

  it("a run with a cached int8 teacher, with a note of what distill.py does not have", async () => {
    const own = { ...settings, cacheTeacher: 32, cacheKind: "sampled", teacherPrecision: "int8", extendedFrom: 0 };
    const { given, notes } = await read("cached.json", own);
    expect(given).toEqual(settings);
    expect(notes).toEqual([
      `${path("cached.json")}: cacheTeacher 32, cacheKind "sampled", teacherPrecision "int8": left out, which distill.py does not have`,
    ]);
  });

  it.each<[string, unknown, string]>([
    ["a list", [1], "is no object of settings"],
    ["a setting that there is not", { stepz: 1 }, 'has a setting "stepz", which there is not'],
    ["a model that was not distilled", { history: [{ step: "convert" }] }, "names no distillation in its history"],
    ["a damaged history", { history: [null] }, "names no distillation in its history"],
  ])("nothing else: %s", async (_, value, fact) => {
    const { code, message } = await failureOf(() => read("wrong.json", value));
    expect({ code, message }).toEqual({ code: "invalid-file", message: `${path("wrong.json")}: ${fact}` });
  });

  it("a path that is there", async () => {
    expect((await failureOf(() => readScriptSettings(path("nowhere")))).code).toBe("not-found");
  });
});
