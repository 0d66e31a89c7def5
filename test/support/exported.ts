// Models of every variant made from the fixture, and what the export tests do with written ONNX files.
import { cpSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { type ExportOptions, type ExportResult, exportModel } from "../../src/export/export-model.ts";
import type { OnnxExportOptions } from "../../src/export/onnx/onnx-export.ts";
import { Session } from "../../src/graph/session.ts";
import { makePromptFeeds } from "../../src/inference/generate/decoder-feeds.ts";
import { computeLogits } from "../../src/inference/layerwise.ts";
import { PRECISIONS, type Precision } from "../../src/model/precision.ts";
import type { Variant } from "../../src/model/variants.ts";
import { converted, MODEL, opened, TEXT } from "./fixture.ts";
import { formOf } from "./narrow-models.ts";
import { once } from "./once.ts";

const proto = createRequire(import.meta.url)("onnx-proto") as { onnx: typeof Onnx };

/** The precisions that need no text: all but mixed. */
export const TEXTLESS: readonly Precision[] = PRECISIONS.filter((precision) => precision !== "mixed");

/** The ranks of q and k in the layers of the low-rank model. */
export const KEY_RANKS = [8, 4];

/** The fixture as a model of that variant in `output`; the dense one is the fixture itself. */
export async function modelOf(variant: Variant, output: string): Promise<string> {
  if (variant === "dense") return MODEL;
  cpSync(join(await once(`model-${variant}`, (folder) => makeModel(variant, join(folder, "model"))), "model"), output, {
    recursive: true,
  });
  return output;
}

function makeModel(variant: Variant, output: string): Promise<unknown> {
  if (variant === "pairwise") return formOf(MODEL, output, { variant });
  if (variant === "low-rank") return formOf(MODEL, output, { variant, qk: KEY_RANKS });
  // Calibrated, so that the distance means are not 0.
  return converted({ output, variant, strategy: "calibrated", calibration: [TEXT], calibrationTokens: 2048 });
}
/** Exports `model` with the defaults of a test: one thread, inline, noise at its mean. */
export function exported(
  model: string,
  output: string,
  options: Partial<OnnxExportOptions & Omit<ExportOptions, "onnx">> = {},
): Promise<ExportResult> {
  const { weights = "inline", noise = { kind: "mean" }, precisions = ["fp32"], quantization = {}, ...others } = options;
  const { texts, calibration, budget, ...rest } = others;
  const onnx = {
    weights,
    noise,
    precisions,
    quantization,
    ...(texts && { texts }),
    ...(calibration && { calibration }),
    ...(budget && { budget }),
  };
  return opened(model, (checkpoint) => exportModel(checkpoint, { output, onnx, threads: 1, ...rest }));
}

/** The graph of the float32 file, or of another, as an independent decoder reads it. */
export function decoded(
  folder: string,
  file = join(folder, "onnx/model.onnx"),
): { model: Onnx.ModelProto; graph: Onnx.GraphProto } {
  const model = proto.onnx.ModelProto.decode(readFileSync(file));
  return { model, graph: model.graph as Onnx.GraphProto };
}

export const PROMPTS: readonly (readonly number[])[] = [
  [5, 1, 383, 0, 77, 12, 12, 200],
  [9, 300, 2, 2, 41, 0, 355, 8],
];

/** Logits [B·T, V] of an exported folder, and those of our own forward pass. */
export async function onnxLogits(folder: string, prompts = PROMPTS, model = folder): Promise<Float32Array> {
  const config = await opened(model, (checkpoint) => checkpoint.config);
  const session = await Session.fromFile(join(folder, "onnx/model.onnx"), { threads: 1 });
  const { logits } = await session.run(makePromptFeeds(prompts, config));
  const copy = Float32Array.from(logits?.data as Float32Array);
  await session.close();
  return copy;
}

export function ownLogits(model: string, prompts = PROMPTS): Promise<Float32Array> {
  const windows = prompts.map((prompt) => Int32Array.from(prompt));
  return opened(model, (checkpoint) => computeLogits(checkpoint, windows, { threads: 1 }));
}
