// Converts a dense checkpoint into a tied variant: ties every layer, then writes the compact model folder.
import { join } from "node:path";
import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { collectModelFiles } from "../checkpoint/collect-files.ts";
import { makeTensorSource, writeModelFiles, writeText } from "../checkpoint/model-folder.ts";
import { formatNfcRecord, NFC_RECORD_FILE, NFC_RECORD_FORMAT, type NfcRecord } from "../checkpoint/nfc-record.ts";
import { describeSource, dropScores } from "../checkpoint/provenance.ts";
import { refuseOwnSource } from "../checkpoint/source-guard.ts";
import { NfcError } from "../errors.ts";
import { countElements, encodeFloats } from "../formats/dtype.ts";
import { type TensorSource, writeSafetensors } from "../formats/safetensors/writer.ts";
import { withStagedDirectory } from "../io/staging.ts";
import type { ModelConfig } from "../model/config.ts";
import { countParameters, findParameterKind, isNoiseParameter, listParameters } from "../model/parameters.ts";
import { countNeededPositions, VARIANT_TRAITS } from "../model/variants.ts";
import { TOOL } from "../version.ts";
import { type ConvertOptions, DEFAULT_NOISE_STD } from "./convert-options.ts";
import { startTies, type TiedLayer } from "./tie-layers.ts";
import { createTieScratch, makeTiedSource, type TieScratch } from "./tied-attention.ts";

export interface ConvertResult {
  folder: string;
  config: ModelConfig;
  record: NfcRecord;
  parameters: { before: number; after: number };
  byteLength: number;
  files: { name: string; bytes: number }[];
}

/**
 * Ties Q and K of every head (the mathematics: `tie-head.ts`) and writes config.json, model.safetensors, nfc.json and the
 * tokenizer files; every tensor but c_attn is copied as bytes. The folder appears whole or not at all.
 * @throws NfcError "unsupported" for a checkpoint that is tied already, "usage" for options that do not go together and
 * for an output that would replace its own source
 */
export async function convert(checkpoint: Checkpoint, options: ConvertOptions): Promise<ConvertResult> {
  checkOptions(checkpoint, options);
  const { output, force = false } = options;
  await refuseOwnSource(output, checkpoint, options.calibration);
  await collectModelFiles(checkpoint.folder); // a damaged file shows before the minutes of work
  const config: ModelConfig = { ...checkpoint.config, variant: options.variant };
  return withStagedDirectory(output, { force }, async (folder) => {
    const { written, source, ties, calibration } = await writeWeights(folder, checkpoint, config, options);
    const remarks = await writeModelFiles(folder, checkpoint, config, { dtype: options.dtype });
    const tie = { strategy: options.strategy, calibration, errors: ties.map(({ errors }) => errors) };
    const record: NfcRecord = {
      format: NFC_RECORD_FORMAT,
      tool: TOOL,
      variant: options.variant,
      command: [...(options.command ?? [])],
      history: makeHistory(checkpoint),
      notes: [...checkpoint.notes, ...remarks],
      source,
      tie,
    };
    await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(record));
    const parameters = { before: countParameters(checkpoint.config), after: countParameters(config) };
    return { folder: output, config, record, parameters, ...written };
  });
}

/** The history of a source that nfc trained, and that it was converted then: later steps are the new model's own. */
function makeHistory({ record }: Checkpoint): NfcRecord["history"] {
  const before = dropScores(record);
  return before.length > 0 ? [...before, { step: "convert" }] : [];
}

/**
 * Writes the tensors while the source is hashed and the layers are tied: the writer waits where it is ahead. S passes
 * through a scratch file in `folder`. A fault of one ends the others, which may have gigabytes to go.
 */
async function writeWeights(folder: string, checkpoint: Checkpoint, config: ModelConfig, options: ConvertOptions) {
  const { maxShardSize, onProgress } = options;
  const stop = new AbortController();
  const signal = AbortSignal.any(options.signal ? [options.signal, stop.signal] : [stop.signal]);
  const scratch = await createTieScratch(join(folder, ".ties"), config.n_embd);
  const source = describeSource(checkpoint, signal);
  const running = startTies(checkpoint, { ...options, signal }, scratch);
  // Attached before anything is awaited, so that no fault counts as unhandled.
  const settled = Promise.allSettled([source, running.calibration, running.settled]);
  try {
    const sources = makeTensorSources(checkpoint, config, options, scratch, running.layers);
    const written = await writeSafetensors(folder, sources, {
      onBytes: (done, total) => onProgress?.({ phase: "writing", done, total, unit: "bytes" }),
      maxShardSize,
      signal,
    });
    const ties = await Promise.all(running.layers);
    return { written, ties, source: await source, calibration: await running.calibration };
  } finally {
    stop.abort();
    await settled;
    await scratch.remove();
  }
}

function checkOptions(checkpoint: Checkpoint, options: ConvertOptions): void {
  const { config, source } = checkpoint;
  if (VARIANT_TRAITS[config.variant].tied)
    throw new NfcError("unsupported", `${source}: already tied (variant ${config.variant})`, {
      hint: "convert the dense checkpoint that it came from",
    });
  const text = (options.calibration?.length ?? 0) > 0;
  if (options.strategy === "calibrated" && !text)
    throw new NfcError("usage", "the strategy calibrated needs calibration text", {
      hint: "give --calibration FILE, or take --tie spectral",
    });
  if (options.noiseStd !== undefined && VARIANT_TRAITS[options.variant].noise === null)
    throw new NfcError("usage", `a ${options.variant} model has no noise to give a standard deviation`, {
      hint: "leave out --noise-std, or take another --variant",
    });
  const needed = countNeededPositions(options.variant);
  if (config.n_positions < needed)
    throw new NfcError(
      "unsupported",
      `${source}: n_positions ${config.n_positions} is too short for ${options.variant}, which needs ${needed}`,
      { hint: "take --variant symmetric" },
    );
}

/** Lists all tensors of the model: c_attn tied, noise fresh, the rest as it lies in the source. */
function makeTensorSources(
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: ConvertOptions,
  scratch: TieScratch,
  ties: readonly Promise<TiedLayer>[],
): TensorSource[] {
  return listParameters(config).map(({ name, shape, layer }) => {
    const tie = ties[layer ?? 0] as Promise<TiedLayer>;
    if (isNoiseParameter(name)) return makeNoiseSource(name, shape, tie, options);
    const tensor = requireTensor(checkpoint, name);
    const dtype = options.dtype ?? tensor.dtype;
    return layer !== null && findParameterKind(name) === "attention input"
      ? makeTiedSource(checkpoint, tensor, () => tie.then(() => scratch.read(layer)), dtype)
      : makeTensorSource(checkpoint, tensor, dtype);
  });
}

function makeNoiseSource(
  name: string,
  shape: readonly number[],
  tie: Promise<TiedLayer>,
  { noiseStd = DEFAULT_NOISE_STD, dtype = "F32" }: ConvertOptions,
): TensorSource {
  const size = countElements(shape);
  async function* chunks() {
    const values =
      findParameterKind(name) === "noise mean"
        ? ((await tie).noiseMean ?? new Float32Array(size))
        : new Float32Array(size).fill(Math.log(noiseStd));
    yield encodeFloats(values, dtype);
  }
  return { name, dtype, shape, chunks };
}
