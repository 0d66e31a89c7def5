// Valid JSON files of nfc's own, which the fuzzers spoil.
import { createHash } from "node:crypto";
import { createReport } from "../../src/report/report.ts";
import { fakeCheckpoint, TINY } from "../support/fake-checkpoint.ts";

const SHA = "0".repeat(64);
const TOOL = { name: "nfc", version: "0.1.0" };
const MEASURED = { file: "valid.txt", sha256: SHA, tokens: 100, length: 16, stride: 16, perplexity: 12.5, source: 11 };

export const RECORD = {
  ...{ format: "nfc/1", tool: TOOL, variant: "symmetric" },
  tie: {
    strategy: "calibrated",
    calibration: { file: "text.txt", sha256: SHA, tokens: 100 },
    errors: [
      [0.1, 0.2],
      [0.1, 0.2],
    ],
  },
  source: { path: "base", files: [{ name: "model.safetensors", bytes: 4000, sha256: SHA }], parameters: 1000 },
  command: ["nfc", "convert", "base", "-o", "tied"],
  history: [
    { step: "convert" },
    { step: "finetune", task: "sst2", dev: { file: "dev.tsv", metrics: { accuracy: 0.8 } } },
  ],
  notes: ["a note"],
  perplexity: [MEASURED],
  exports: [
    {
      ...{ precision: "q4", file: "onnx/model_q4.onnx", bytes: 5000, block: 32, symmetric: false, method: "gptq" },
      perplexity: { ...MEASURED, kl: 0.1, agreement: 0.9, logitError: 0.2 },
    },
  ],
};

export const GENERATION = { bos_token_id: 0, eos_token_id: [0, 1], max_length: 50, _from_model_config: true };

export const SIZES = {
  baseline: "nfc.baseline.json",
  models: [
    { name: "base", path: "model.safetensors", limit: "80 MB", maxParameters: 100_000, maxGrowth: "1 %", dtype: "F32" },
    { path: "onnx/**/*.onnx", limit: 1e6, allow: ["dtype"] },
  ],
};

export const BASELINE = {
  ...{ format: "nfc-baseline/1", tool: TOOL },
  models: {
    base: {
      ...{ bytes: 15_000, parameters: 3500, attention: 3, dtypes: { F32: 15_000 } },
      groups: { embeddings: { bytes: 12_000, parameters: 3000 } },
      files: { "model.safetensors": { bytes: 15_000, sha256: SHA } },
    },
  },
};

const TEXT = { files: ["text.txt"], sha256: SHA, every: 3, tokens: 100, length: 16 };
const MODEL = { ...{ perplexity: 12.5, error: 0.01, kl: 0.1, klError: 0.01, seconds: 1 }, parameters: 1000 };
const BYTES = { fp32: 4000, int8: 1000, q4: null };
export const PLAN = {
  ...{ format: "nfc-plan/1", tool: TOOL, source: RECORD.source, calibration: TEXT, heldOut: TEXT },
  ...{ axes: [{ name: "mlp", values: [64, 32] }], floor: 0.4, complete: true },
  measurements: [
    { ...MODEL, cuts: {}, bytes: BYTES },
    { ...MODEL, cuts: { mlp: 32 }, parameters: 600, bytes: BYTES },
  ],
  steps: [{ axis: "mlp", value: 32, measurement: 1 }],
};

const SETTINGS = { steps: 10, lr: 0.001, teacher: SHA, valid: null };
export const RUN = {
  ...{ format: "nfc-run/2", settings: SETTINGS },
  sha256: createHash("sha256").update(JSON.stringify(SETTINGS)).digest("hex"),
};

export const REPORT = createReport(fakeCheckpoint(TINY), fakeCheckpoint({ ...TINY, variant: "symmetric" }));
