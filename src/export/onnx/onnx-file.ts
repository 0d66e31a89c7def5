// Writes the ONNX files of a model in the layout of transformers.js and optimum, and checks each against our forward pass.

import { mkdir, rename, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { streamBytes } from "../../checkpoint/model-folder.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { SINGLE_FILE } from "../../formats/safetensors/shard-plan.ts";
import type { BlockBits } from "../../graph/passes/quantized-blocks.ts";
import { encodeOnnx, MAX_INLINE_BYTES, type ParameterPlacement, streamOnnx } from "../../graph/to-onnx.ts";
import { syncFile, writeChunks } from "../../io/durable.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { settleAll } from "../../io/settle.ts";
import { timePhase } from "../../io/timings.ts";
import type { NoiseMode } from "../../model/attention.ts";
import { nameModelFile, type Precision } from "../../model/precision.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import type { LongCall } from "../../progress.ts";
import { TOOL } from "../../version.ts";
import { writeModelTensors } from "../safetensors.ts";
import { checkStoredWeights } from "./check-weights.ts";
import { type PlanOptions, type PrecisionPlan, planPrecision } from "./precision-plan.ts";
import { type Verification, verifyOnnx, verifySampled } from "./verify.ts";
import { locateInSafetensors, type ProgressHooks, sumWeightBytes, writeExternalWeights } from "./weight-placement.ts";

/** Room for the graph beside the weights in a file of at most 2 GiB. */
const GRAPH_RESERVE = 16 * 2 ** 20;

/** inline: one file. external: weights in model.onnx_data. shared: model.safetensors is that file. */
export type WeightStorage = "inline" | "external" | "shared";

export interface OnnxFileOptions extends LongCall, Omit<PlanOptions, "onWeight"> {
  precision: Precision;
  weights: WeightStorage;
  threads?: number | undefined;
}

/** One written file, and its external data. */
export interface OnnxFile {
  precision: Precision;
  /** Paths below the folder, the model first. */
  files: string[];
  weights: WeightStorage;
  /** null for a graph that draws its own noise. */
  verification: Verification | null;
  /** The bits of each weight of a mixed file, and the most bytes that it might have unless the model was trained for them. */
  mixed?: { budget?: number; bits: ReadonlyMap<string, BlockBits> } | undefined;
}

/**
 * Writes and verifies one model file below `folder`, a staging folder.
 * @throws NfcError "mismatch" when the written file does not reproduce our logits; see `planPrecision`
 */
export async function writeOnnxFile(
  folder: string,
  checkpoint: Checkpoint,
  options: OnnxFileOptions,
): Promise<OnnxFile> {
  const { precision, onProgress, signal } = options;
  const name = nameModelFile(precision);
  const onWeight = (detail: string, done: number, total: number) => {
    throwIfAborted(signal);
    onProgress?.({ phase: `${precision}: quantising`, done, total, unit: "steps", detail });
  };
  const plan = await timePhase("quantizing", () => planPrecision(checkpoint, precision, { ...options, onWeight }));
  const total = sumWeightBytes(plan.graph, plan.data);
  // A protobuf file holds at most 2 GiB, so larger models need external data.
  const weights =
    options.weights === "inline" && total > MAX_INLINE_BYTES - GRAPH_RESERVE ? "external" : options.weights;
  const onBytes = (done: number) =>
    onProgress?.({ phase: `${precision}: writing`, done: Math.min(done, total), total, unit: "bytes" });
  const hooks = { onBytes, signal };
  const onnx = join(folder, "onnx");
  await withIoErrors(onnx, () => mkdir(onnx, { recursive: true }));
  const { placement, files } =
    weights === "inline"
      ? { placement: plan.data, files: [] }
      : weights === "external"
        ? await writeExternalWeights(onnx, name, plan.graph, plan.data, hooks)
        : await writeSharedWeights(folder, checkpoint, hooks);
  const metadata = { variant: checkpoint.config.variant, precision };
  const model = { parameters: placement, producer: TOOL, metadata };
  const path = join(onnx, name);
  const bytes = weights === "inline" ? streamOnnx(plan.graph, model) : streamBytes(encodeOnnx(plan.graph, model));
  const written = weights === "inline" ? { ...hooks, unsynced: true } : { unsynced: true };
  await timePhase("writing", () => writeChunks(path, bytes, written));
  onProgress?.({ phase: `${precision}: verifying`, done: 0, total: null, unit: "steps" });
  // The disk writes the file while it is checked.
  const [verification] = await settleAll([verify(path, plan, options), syncFile(path)]);
  return { precision, files: [name, ...files].map((file) => `onnx/${file}`), weights, verification };
}

async function verify(
  path: string,
  plan: PrecisionPlan,
  { precision, noise, threads = 0, signal }: OnnxFileOptions,
): Promise<Verification | null> {
  await timePhase("comparing bytes", () => checkStoredWeights(path, plan, signal));
  const { decoded } = plan;
  if (noise.kind === "mean") return verifyOnnx(path, decoded, { precision, threads, signal });
  await verifySampled(path, decoded, { precision, threads, signal });
  return null;
}

/** onnx/model.onnx_data is a safetensors file; model.safetensors is a link to it, so weights lie on disk once. */
async function writeSharedWeights(
  folder: string,
  checkpoint: Checkpoint,
  hooks: ProgressHooks,
): Promise<{ placement: ParameterPlacement; files: string[] }> {
  const onnx = join(folder, "onnx");
  const data = `${nameModelFile("fp32")}_data`;
  await writeModelTensors(onnx, checkpoint, { dtype: "F32", ...hooks });
  await withIoErrors(onnx, () => rename(join(onnx, SINGLE_FILE), join(onnx, data)));
  await withIoErrors(folder, () => symlink(join("onnx", data), join(folder, SINGLE_FILE)));
  return { placement: await locateInSafetensors(join(onnx, data), data), files: [data] };
}

/** @throws NfcError "usage" for noise that the variant does not have */
export function checkNoise(checkpoint: Checkpoint, noise: NoiseMode): void {
  const { variant } = checkpoint.config;
  if (noise.kind === "generated" && VARIANT_TRAITS[variant].noise === null)
    throw new NfcError("usage", `${checkpoint.source}: a ${variant} model has no noise to sample`, {
      hint: "leave out --noise sample",
    });
}
