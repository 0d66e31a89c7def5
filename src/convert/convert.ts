// Converts a dense checkpoint into a tied variant: ties every layer, then writes the compact model folder.
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { encodeFloats, type FloatDtype } from "../io/dtype.ts";
import { bytesSource, type TensorSource, writeSafetensors } from "../io/safetensors-writer.ts";
import { withStagedDirectory } from "../io/staging.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { MIN_DISTANCE_POSITIONS, type ModelConfig, noiseShapes, type Variant } from "../model/config.ts";
import { tensorSource, writeModelFiles, writeText } from "../model/model-folder.ts";
import { formatNfcRecord, NFC_RECORD_FILE, NFC_RECORD_FORMAT, type NfcRecord } from "../model/nfc-record.ts";
import { parameterCount, parameterSpecs } from "../model/parameters.ts";
import { sourceOf } from "../model/provenance.ts";
import type { LongCall } from "../progress.ts";
import { TOOL } from "../version.ts";
import type { TieStrategy } from "./tie.ts";
import { type TiedLayer, tieLayers } from "./tie-layers.ts";
import { TieScratch, tiedSource } from "./tied-attention.ts";

/** σ of a fresh noise variant: the prior's own, N(0, 1). */
export const DEFAULT_NOISE_STD = 1;

export interface ConvertOptions extends LongCall {
  /** Folder to write. */
  output: string;
  variant: Exclude<Variant, "dense">;
  strategy: TieStrategy;
  /** Text files for `calibrated`, and for the distance means of `noise-distance`. */
  calibration?: readonly string[];
  /** Field of .jsonl calibration text. */
  field?: string;
  calibrationTokens?: number;
  noiseStd?: number;
  /** Dtype of all tensors; each keeps its own unless given. */
  dtype?: FloatDtype;
  maxShardSize?: number;
  force?: boolean;
  threads?: number;
  /** The command line, for the record. */
  command?: readonly string[];
}

export interface ConvertResult {
  folder: string;
  config: ModelConfig;
  record: NfcRecord;
  parameters: { before: number; after: number };
  byteLength: number;
  files: { name: string; bytes: number }[];
}

/**
 * Ties Q and K of every head (DESIGN of the tie: `tie.ts`) and writes config.json, model.safetensors, nfc.json and the
 * tokenizer files; every tensor but c_attn is copied as bytes. The folder appears whole or not at all.
 * @throws NfcError "unsupported" for a checkpoint that is tied already, "usage" for options that do not go together
 */
export async function convert(checkpoint: Checkpoint, options: ConvertOptions): Promise<ConvertResult> {
  checkOptions(checkpoint, options);
  const { output, force = false, signal, onProgress } = options;
  const config: ModelConfig = { ...checkpoint.config, variant: options.variant };
  return withStagedDirectory(output, { force }, async (folder) => {
    const source = sourceOf(checkpoint, signal);
    source.catch(() => {}); // awaited below; a fault of the tie must not leave it unhandled
    const scratch = await TieScratch.create(join(folder, ".ties"), config.n_embd);
    const { ties, calibration } = await tieLayers(checkpoint, options, scratch);
    const written = await writeSafetensors(folder, tensorSources(checkpoint, config, options, scratch, ties), {
      ...(options.maxShardSize !== undefined && { maxShardSize: options.maxShardSize }),
      onBytes: (done, total) => onProgress?.({ phase: "writing", done, total, unit: "bytes" }),
      signal,
    });
    await scratch.remove();
    await writeModelFiles(folder, checkpoint, config, options.dtype ? { dtype: options.dtype } : {});
    const tie = { strategy: options.strategy, calibration, errors: ties.map(({ errors }) => errors) };
    const record = { ...newRecord(checkpoint, options), source: await source, tie };
    await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(record));
    const parameters = { before: parameterCount(checkpoint.config), after: parameterCount(config) };
    return { folder: output, config, record, parameters, ...written };
  });
}

function checkOptions(checkpoint: Checkpoint, options: ConvertOptions): void {
  const { config, source } = checkpoint;
  if (config.variant !== "dense")
    throw new NfcError("unsupported", `${source}: already tied (variant ${config.variant})`, {
      hint: "convert the dense checkpoint that it came from",
    });
  const text = (options.calibration?.length ?? 0) > 0;
  if (options.strategy === "calibrated" && !text)
    throw new NfcError("usage", "the strategy calibrated needs calibration text", {
      hint: "give --calibration FILE, or take --tie spectral",
    });
  if (options.variant === "noise-distance" && config.n_positions < MIN_DISTANCE_POSITIONS)
    throw new NfcError(
      "unsupported",
      `${source}: n_positions ${config.n_positions} is too short for noise-distance, which needs ${MIN_DISTANCE_POSITIONS}`,
      { hint: "take --variant symmetric" },
    );
}

/** Everything the model stores: c_attn tied, noise fresh, the rest as it lies in the source. */
function tensorSources(
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: ConvertOptions,
  scratch: TieScratch,
  ties: readonly TiedLayer[],
): TensorSource[] {
  return parameterSpecs(config).map(({ name, shape, layer }) => {
    const tensor = checkpoint.tensors.get(name);
    if (layer !== null && name.includes(".attn.noise_")) return noiseSource(name, shape, layer, config, options, ties);
    if (!tensor) throw new Error(`${checkpoint.source}: no tensor ${name}`);
    const dtype = options.dtype ?? tensor.dtype;
    return layer !== null && name.includes(".attn.c_attn.")
      ? tiedSource(checkpoint, tensor, layer, scratch, dtype)
      : tensorSource(checkpoint, tensor, dtype);
  });
}

function noiseSource(
  name: string,
  shape: readonly number[],
  layer: number,
  config: ModelConfig,
  { noiseStd = DEFAULT_NOISE_STD }: ConvertOptions,
  ties: readonly TiedLayer[],
): TensorSource {
  const size = shape.reduce((a, b) => a * b, 1);
  const shapes = noiseShapes(config.variant, config.n_head);
  if (!shapes) throw new Error(`${config.variant} has no noise`);
  const values = name.endsWith("noise_mean")
    ? (ties[layer]?.noiseMean ?? new Float32Array(size))
    : new Float32Array(size).fill(Math.log(noiseStd));
  return bytesSource(name, "F32", shape, encodeFloats(values, "F32"));
}

function newRecord(
  checkpoint: Checkpoint,
  { variant, command = [] }: ConvertOptions,
): Omit<NfcRecord, "source" | "tie"> {
  return {
    format: NFC_RECORD_FORMAT,
    tool: TOOL,
    variant,
    command: [...command],
    history: [],
    notes: [...checkpoint.notes],
  };
}
