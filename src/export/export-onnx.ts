// Writes onnx/model.onnx in the layout of transformers.js and optimum, and checks it against our own forward pass.
import { mkdir, rename, symlink } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { encodeOnnx, MAX_INLINE_BYTES, onnxChunks, type ParameterPlacement } from "../graph/onnx.ts";
import { withIoErrors } from "../io/io-error.ts";
import { writeChunks } from "../io/write-chunks.ts";
import type { NoiseMode } from "../model/attention.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { decoderGraph } from "../model/decoder-graph.ts";
import type { LongCall } from "../progress.ts";
import { TOOL } from "../version.ts";
import { writeModelTensors } from "./export-safetensors.ts";
import { inlineWeights, safetensorsWeights, weightBytes, writeExternalWeights } from "./onnx-weights.ts";
import { type Verification, verifyOnnx, verifySampled } from "./verify.ts";

const MODEL = "model.onnx";
const SAFETENSORS = "model.safetensors";
const DATA = `${MODEL}_data`;
/** Room for the graph beside the weights in a file of at most 2 GiB. */
const GRAPH_RESERVE = 16 * 2 ** 20;

/** inline: one file. external: weights in model.onnx_data. shared: model.safetensors is that file. */
export type WeightStorage = "inline" | "external" | "shared";

export interface OnnxExportOptions extends LongCall {
  weights: WeightStorage;
  noise: NoiseMode;
  threads?: number;
}

export interface OnnxExport {
  /** Paths below the folder. */
  files: string[];
  weights: WeightStorage;
  /** null for a graph that draws its own noise. */
  verification: Verification | null;
  /** For config.json, so that browsers know how many data files to fetch. */
  transformersJsConfig: Record<string, unknown> | null;
}

/**
 * Writes and verifies the float32 model below `folder`, a staging folder.
 * @throws NfcError "mismatch" when the written file does not reproduce our logits
 */
export async function writeOnnxExport(
  folder: string,
  checkpoint: Checkpoint,
  options: OnnxExportOptions,
): Promise<OnnxExport> {
  const graph = decoderGraph(checkpoint.config, options.noise);
  const total = weightBytes(graph, checkpoint);
  // protobuf holds 2 GiB: beyond, external data is the only way.
  const weights =
    options.weights === "inline" && total > MAX_INLINE_BYTES - GRAPH_RESERVE ? "external" : options.weights;
  const onBytes = (done: number) =>
    options.onProgress?.({ phase: "writing ONNX", done: Math.min(done, total), total, unit: "bytes" });
  const hooks = { onBytes, ...(options.signal && { signal: options.signal }) };
  const onnx = join(folder, "onnx");
  await withIoErrors(onnx, () => mkdir(onnx));
  const { placement, files } =
    weights === "inline"
      ? { placement: inlineWeights(checkpoint), files: [] }
      : weights === "external"
        ? await writeExternalWeights(onnx, MODEL, graph, checkpoint, hooks)
        : await writeSharedWeights(folder, checkpoint, hooks);
  const model = { parameters: placement, producer: TOOL, metadata: { variant: checkpoint.config.variant } };
  const path = join(onnx, MODEL);
  if (weights === "inline") await writeChunks(path, onnxChunks(graph, model), hooks);
  else await writeChunks(path, once(encodeOnnx(graph, model)));
  options.onProgress?.({ phase: "verifying", done: 0, total: null, unit: "steps" });
  const verification = await verify(path, checkpoint, options);
  return {
    files: [MODEL, ...files].map((file) => `onnx/${file}`),
    weights,
    verification,
    transformersJsConfig: files.length > 0 ? { use_external_data_format: { [MODEL]: files.length } } : null,
  };
}

async function verify(
  path: string,
  checkpoint: Checkpoint,
  { noise, threads = 0, signal }: OnnxExportOptions,
): Promise<Verification | null> {
  if (noise.kind === "mean") return verifyOnnx(path, checkpoint, { threads, signal });
  await verifySampled(path, checkpoint, { threads, signal });
  return null;
}

/** onnx/model.onnx_data is a safetensors file; model.safetensors is a link to it, so weights lie on disk once. */
async function writeSharedWeights(
  folder: string,
  checkpoint: Checkpoint,
  hooks: { onBytes: (done: number) => void; signal?: AbortSignal },
): Promise<{ placement: ParameterPlacement; files: string[] }> {
  const onnx = join(folder, "onnx");
  await writeModelTensors(onnx, checkpoint, { dtype: "F32", ...hooks });
  await withIoErrors(onnx, () => rename(join(onnx, SAFETENSORS), join(onnx, DATA)));
  await withIoErrors(folder, () => symlink(join("onnx", DATA), join(folder, SAFETENSORS)));
  return { placement: await safetensorsWeights(join(onnx, DATA), DATA), files: [DATA] };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** @throws NfcError "usage" for noise that the variant does not have */
export function checkNoise(checkpoint: Checkpoint, noise: NoiseMode): void {
  const { variant } = checkpoint.config;
  if (noise.kind === "generated" && (variant === "dense" || variant === "symmetric"))
    throw new NfcError("usage", `${checkpoint.source}: a ${variant} model has no noise to sample`, {
      hint: "leave out --noise sample",
    });
}
