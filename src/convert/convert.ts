// Converts a dense checkpoint into a smaller model and writes its folder.
import { join } from "node:path";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { collectModelFiles } from "../checkpoint/collect-files.ts";
import { makeFormMetadata } from "../checkpoint/form-keys.ts";
import { makeTensorSource, writeModelFiles, writeText } from "../checkpoint/model-folder.ts";
import { formatNfcRecord, NFC_RECORD_FILE, NFC_RECORD_FORMAT, type NfcRecord } from "../checkpoint/nfc-record.ts";
import { describeSource, dropScores } from "../checkpoint/provenance.ts";
import { refuseOwnSource } from "../checkpoint/source-guard.ts";
import { NfcError } from "../errors.ts";
import { writeSafetensors } from "../formats/safetensors/writer.ts";
import { withBackground } from "../io/settle.ts";
import { withStagedDirectory } from "../io/staging.ts";
import type { ModelConfig } from "../model/config.ts";
import { countParameters } from "../model/parameters.ts";
import { isPlainGpt2, refuseShortPositions, VARIANT_TRAITS } from "../model/variants.ts";
import { TOOL } from "../version.ts";
import { checkRanks, needsText } from "./attention/attention-options.ts";
import type { ConvertOptions } from "./convert-options.ts";
import type { CutFacts } from "./cut.ts";
import { checkLayers, resolveMlpUnits } from "./cuts/axis-settings.ts";
import { type CutSettings, makeSmaller, triesRepair } from "./make-smaller.ts";
import { type CalibrationText, readCalibrationText } from "./statistics/calibration-text.ts";
import { TensorScratch } from "./tensor-scratch.ts";

export interface ConvertResult {
  folder: string;
  config: ModelConfig;
  record: NfcRecord;
  parameters: { before: number; after: number };
  byteLength: number;
  files: { name: string; bytes: number }[];
}

/**
 * Makes the model smaller (`make-smaller.ts`) and writes config.json, model.safetensors, nfc.json and the tokenizer files;
 * every tensor that is not made anew is copied as bytes. The folder appears whole or not at all.
 * @throws NfcError "unsupported" for a checkpoint that is tied already, "usage" for options that do not go together and
 * for an output that would replace its own source
 */
export async function convert(checkpoint: Checkpoint, options: ConvertOptions): Promise<ConvertResult> {
  checkOptions(checkpoint, options);
  const { output, force = false } = options;
  await refuseOwnSource(output, checkpoint, [...(options.calibration ?? []), ...(options.vocabulary?.text ?? [])]);
  await collectModelFiles(checkpoint.folder); // a damaged file shows before the minutes of work
  return withStagedDirectory(output, { force }, async (folder) => {
    const { written, source, facts, model } = await writeWeights(folder, checkpoint, options);
    const { config } = model;
    const remarks = await writeModelFiles(folder, model, config, { dtype: options.dtype });
    const record: NfcRecord = {
      format: NFC_RECORD_FORMAT,
      tool: TOOL,
      variant: config.variant,
      command: [...(options.command ?? [])],
      history: makeHistory(checkpoint),
      notes: [...model.notes, ...remarks],
      ...joinCuts(checkpoint, source, facts),
      ...(options.plan && { plan: options.plan }),
    };
    await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(record));
    const parameters = { before: countParameters(checkpoint.config), after: countParameters(config) };
    return { folder: output, config, record, parameters, ...written };
  });
}

/** The cuts of the source come first, so that layers and tokens are known by their places in the first model. */
function joinCuts(
  { record }: Checkpoint,
  source: NfcRecord["source"],
  { tie = null, cuts = [] }: CutFacts,
): Pick<NfcRecord, "source" | "tie" | "cuts"> {
  const earlier = record?.cuts ?? [];
  const all = [...earlier, ...cuts];
  return {
    source: earlier.length > 0 ? { ...source, cuts: earlier.length } : source,
    tie,
    ...(all.length > 0 && { cuts: all }),
  };
}

/** The history of a source that nfc trained, and that it was converted then: later steps are the new model's own. */
function makeHistory({ record }: Checkpoint): NfcRecord["history"] {
  const before = dropScores(record);
  return before.length > 0 ? [...before, { step: "convert" }] : [];
}

/**
 * Writes the tensors while the source is hashed and tensors are made: the writer waits where it is ahead. What is made
 * passes through a scratch file in `folder`. A fault of one ends the others, which may have gigabytes to go.
 */
async function writeWeights(folder: string, checkpoint: Checkpoint, options: ConvertOptions) {
  const { dtype, maxShardSize, device, threads, onProgress } = options;
  const scratch = await TensorScratch.create(join(folder, ".tensors"));
  const make = async (signal: AbortSignal) => {
    const text = await readText(checkpoint, { ...options, signal });
    const common = { scratch, text, dtype, device, threads, signal, onProgress };
    return makeSmaller(checkpoint, toCutSettings(options), common);
  };
  const begin = (signal: AbortSignal) => {
    const making = make(signal);
    return [describeSource(checkpoint, signal), making, making.then((cut) => cut.finish())] as const;
  };
  try {
    return await withBackground(options.signal, begin, async ([source, making, finished], signal) => {
      const { model } = await making;
      const sources = [...model.tensors.values()].map((tensor) => makeTensorSource(model, tensor, dtype));
      const written = await writeSafetensors(folder, sources, {
        metadata: makeFormMetadata(model.config),
        onBytes: (done, total) => onProgress?.({ phase: "writing", done, total, unit: "bytes" }),
        maxShardSize,
        signal,
      });
      return { written, model, source: await source, facts: await finished };
    });
  } finally {
    await scratch.remove();
  }
}

/** The cuts that the options ask for. */
export function toCutSettings(options: Omit<ConvertOptions, "output">): CutSettings {
  const { variant, strategy, noiseStd, qkRank, voRank, layers, mlp, repair, vocabulary } = options;
  const attention = variant === "dense" ? undefined : { variant, strategy, noiseStd, qkRank, voRank };
  return { layers, mlp, attention, repair, vocabulary };
}

/** Whether the cuts run the model over the calibration text, where it is given. */
export function usesText(options: Omit<ConvertOptions, "output">): boolean {
  const { layers, mlp } = options;
  return needsText(options) || layers !== undefined || mlp !== undefined || triesRepair(options);
}

/** The calibration text, where it is given and used. */
async function readText(checkpoint: Checkpoint, options: ConvertOptions): Promise<CalibrationText | null> {
  const { calibration = [], calibrationTokens: tokens, calibrationEvery: every, field } = options;
  const { signal, onProgress } = options;
  const [first, ...others] = calibration;
  if (first === undefined || !usesText(options)) return null;
  return readCalibrationText([first, ...others], checkpoint, { field, tokens, every, signal, onProgress });
}

/** Losses on text are those of the next token, which a classifier does not predict. */
function checkRepair({ config, source }: Checkpoint, options: ConvertOptions, text: boolean): void {
  const { repair, layers, mlp, variant } = options;
  if (repair && variant === "dense" && layers === undefined && !mlp)
    throw new NfcError("usage", "there is nothing to repair: the vocabulary alone would be cut", {
      hint: "leave out --repair, or cut layers, MLPs or attention too",
    });
  if (repair && !text)
    throw new NfcError("usage", "a repair needs calibration text", { hint: "give --calibration FILE" });
  if (!config.labels || !text || !(repair || typeof layers === "number")) return;
  throw new NfcError("unsupported", `${source}: a classifier, whose loss on calibration text cannot be measured`, {
    hint: "leave out --repair and list the layers that stay, or cut the language model first",
  });
}

function checkOptions(checkpoint: Checkpoint, options: ConvertOptions): void {
  const { config, source } = checkpoint;
  if (!isPlainGpt2(config.variant)) {
    const state = VARIANT_TRAITS[config.variant].tied ? "already tied" : "not dense";
    throw new NfcError("unsupported", `${source}: ${state} (variant ${config.variant})`, {
      hint: "convert the dense checkpoint that it came from",
    });
  }
  const { layers, mlp, vocabulary } = options;
  if (options.variant === "dense" && layers === undefined && !mlp && !vocabulary)
    throw new NfcError("usage", "nothing would be cut: a dense model keeps its attention", {
      hint: "give --layers, --mlp or --vocab-from, or take another --variant",
    });
  if (layers !== undefined) checkLayers(layers, config);
  if (mlp) resolveMlpUnits(mlp, config);
  const text = (options.calibration?.length ?? 0) > 0;
  checkRepair(checkpoint, options, text);
  if (options.strategy === "calibrated" && !text)
    throw new NfcError("usage", "the strategy calibrated needs calibration text", {
      hint: "give --calibration FILE, or take --tie spectral",
    });
  checkRanks(config, options);
  if (options.noiseStd !== undefined && VARIANT_TRAITS[options.variant].noise === null)
    throw new NfcError("usage", `a ${options.variant} model has no noise to give a standard deviation`, {
      hint: "leave out --noise-std, or take another --variant",
    });
  refuseShortPositions(source, { ...config, variant: options.variant });
}
