// Writes all ONNX files of an export: precision by precision, with calibration and a check on text.
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ExportEntry } from "../../checkpoint/nfc-record.ts";
import { TokenMeter } from "../../checkpoint/token-meter.ts";
import { sampleWindows } from "../../checkpoint/token-sample.ts";
import { openTokenStream, readThrough } from "../../checkpoint/token-stream.ts";
import { NfcError } from "../../errors.ts";
import type { BlockMatrix } from "../../graph/quantize/blocks.ts";
import { openExportedModel } from "../../inference/exported/exported-model.ts";
import { drawWindows } from "../../inference/generate/draw-windows.ts";
import { chooseMixedBits, countBudget, planMeasured } from "../../inference/mixed-bits.ts";
import { scorePrecisions } from "../../inference/score/precisions.ts";
import { describeScoredText, makeExportPerplexity } from "../../inference/score/record-perplexity.ts";
import { sha256File } from "../../io/sha256.ts";
import type { NoiseMode } from "../../model/attention.ts";
import { nameModelFile, PRECISIONS, type Precision } from "../../model/precision.ts";
import {
  chooseBlockBits,
  findCodes,
  hasBlocks,
  MIXED_PERCENT,
  type Quantization,
  type QuantizationOptions,
} from "../../model/quantization.ts";
import type { LongCall } from "../../progress.ts";
import { quantizeCalibrated } from "../quantize/calibrate.ts";
import { type OnnxFile, type WeightStorage, writeOnnxFile } from "./onnx-file.ts";
import { explainTrainedCodes, hasTrainedCodes, resolveExport } from "./trained-codes.ts";

const CALIBRATION_TOKENS = 8192;

export interface OnnxExportOptions {
  weights: WeightStorage;
  noise: NoiseMode;
  /** One file each; float32 alone unless given. */
  precisions?: readonly Precision[] | undefined;
  quantization?: QuantizationOptions | undefined;
  /** An older spelling. @internal */
  quantisation?: QuantizationOptions | undefined;
  /**
   * Most bytes of the mixed file, or its share of the q4 file's with the same settings. Unless given, the bits are those
   * that the model was trained for, or else fit 1.1 of it.
   */
  budget?: { bytes: number } | { share: number } | undefined;
  /**
   * Text on which the codes of all precisions in blocks are chosen, by GPTQ, and the bits of a mixed file. Without one the
   * bits are chosen on text that the model draws itself.
   */
  calibration?: { file: string; tokens?: number | undefined } | undefined;
  /** Text on which every file is compared with the model in float32. */
  texts?: readonly string[] | undefined;
}

interface Common extends LongCall {
  threads?: number | undefined;
}

/** The options with all that they leave open. */
export interface OnnxExport extends OnnxExportOptions {
  precisions: readonly Precision[];
  quantization: Quantization;
}

/** @throws NfcError as `resolveQuantization` */
export function resolveOnnxExport(checkpoint: Checkpoint, options: OnnxExportOptions): OnnxExport {
  const { precisions = ["fp32"], budget } = options;
  const given = options.quantization ?? options.quantisation;
  const quantization = resolveExport(checkpoint, precisions, budget ? { ...given, mixedBits: new Map() } : given);
  return { ...options, precisions, quantization };
}

/**
 * Writes the files below `folder`. Precisions follow each other, as each holds its quantized weights.
 * @throws NfcError as `readThrough` for the texts, as `writeOnnxFile` and `quantizeCalibrated`
 */
export async function writeOnnxFiles(
  folder: string,
  checkpoint: Checkpoint,
  options: OnnxExport,
  common: Common,
): Promise<OnnxFile[]> {
  const { weights, noise, precisions, quantization } = options;
  if (precisions.includes("mixed")) checkMixed(checkpoint);
  for (const paths of [options.texts ?? [], options.calibration ? [options.calibration.file] : []])
    await readThrough(paths, checkpoint, { signal: common.signal });
  const known = new Map<Precision, Map<string, BlockMatrix>>();
  const files: OnnxFile[] = [];
  const ordered = PRECISIONS.filter((each) => precisions.includes(each));
  for (const [i, precision] of ordered.entries()) {
    const codes = findCodes(precision);
    const mixed = precision === "mixed" ? await mix(checkpoint, options, quantization, common) : undefined;
    const own = mixed ? { ...quantization, mixedBits: mixed.bits } : quantization;
    const trained = hasTrainedCodes(checkpoint, precision, quantization);
    const isLast = !ordered.slice(i + 1).some((later) => findCodes(later) === codes);
    if (hasBlocks(codes) && options.calibration && !trained && !known.has(codes))
      known.set(codes, await calibrate(checkpoint, codes, options.calibration, own, common));
    else if (hasBlocks(codes) && !isLast) known.set(codes, new Map()); // the later precision takes what this one chooses
    const settings = { ...common, precision, weights, noise, quantization: own, known: known.get(codes), trained };
    const file = await writeOnnxFile(folder, checkpoint, settings);
    files.push(mixed ? { ...file, mixed } : file);
    if (isLast) known.delete(codes);
  }
  return files;
}

type Calibration = NonNullable<OnnxExportOptions["calibration"]>;

/** @throws NfcError "usage" for a classifier, whose text has no next tokens */
function checkMixed({ source, config }: Checkpoint): void {
  if (config.labels)
    throw new NfcError("usage", `${source}: mixed is for language models, this is a classifier`, {
      hint: "write q4 or uint8 instead",
    });
}

/** The bits of each matrix of a mixed file: those of the training, or else the best within a budget. */
async function mix(
  checkpoint: Checkpoint,
  { budget = { share: MIXED_PERCENT / 100 }, calibration, noise }: OnnxExportOptions,
  quantization: Quantization,
  common: Common,
): Promise<NonNullable<OnnxFile["mixed"]>> {
  if (hasTrainedCodes(checkpoint, "mixed", quantization)) return { bits: quantization.mixedBits };
  const bytes =
    "bytes" in budget ? budget.bytes : countBudget(checkpoint.config, budget.share, { noise, quantization });
  const windows = calibration
    ? await sampleCalibration(checkpoint, calibration, common)
    : await drawWindows(checkpoint, { ...common, ...planMeasured(checkpoint.config) });
  const bits = await chooseMixedBits(checkpoint, windows, { ...common, budget: bytes, quantization, noise });
  return { budget: bytes, bits };
}

function sampleCalibration(checkpoint: Checkpoint, { file, tokens = CALIBRATION_TOKENS }: Calibration, common: Common) {
  const length = checkpoint.config.n_positions;
  return sampleWindows([file], checkpoint, { length, count: tokens, signal: common.signal });
}

async function calibrate(
  checkpoint: Checkpoint,
  precision: Precision,
  calibration: Calibration,
  quantization: Quantization,
  common: Common,
): Promise<Map<string, BlockMatrix>> {
  const windows = await sampleCalibration(checkpoint, calibration, common);
  const bits = (name: string) => chooseBlockBits(precision, quantization, name);
  return quantizeCalibrated(checkpoint, windows, { ...common, ...quantization, bits });
}

/**
 * One line for each file of a model that was trained for a precision: whether it has the codes of that; and one for a mixed
 * file without a text: on what its bits were chosen.
 */
export function explainOnnxFiles(
  checkpoint: Checkpoint,
  { precisions, quantization, calibration }: OnnxExport,
): string[] {
  const trained = explainTrainedCodes(checkpoint, precisions, quantization);
  if (!precisions.includes("mixed") || calibration || hasTrainedCodes(checkpoint, "mixed", quantization))
    return trained;
  return [...trained, "mixed: bits chosen on text that the model drew; --calibration FILE takes yours, and GPTQ"];
}

/**
 * The entries of nfc.json for the files of a complete folder: size, rounding, and with `texts` their loss on text.
 * @throws NfcError "invalid-file" for a file that does not open or whose loss is not finite
 */
export async function makeExportEntries(
  folder: string,
  checkpoint: Checkpoint,
  written: readonly OnnxFile[],
  options: OnnxExport,
  common: Common,
): Promise<ExportEntry[]> {
  const measured = options.texts ? await measure(folder, checkpoint, options.texts, common) : new Map();
  const calibration = options.calibration && {
    file: basename(options.calibration.file),
    sha256: await sha256File(options.calibration.file, common.signal),
    tokens: options.calibration.tokens ?? CALIBRATION_TOKENS,
  };
  const { quantization } = options;
  const entry = async ({ precision, files, mixed }: OnnxFile): Promise<ExportEntry> => {
    const sizes = await Promise.all(files.map(async (file) => (await stat(join(folder, file))).size));
    const blocks = hasBlocks(precision);
    const perplexity = measured.get(precision);
    const method = nameMethod(checkpoint, precision, { quantization, calibrated: calibration !== undefined });
    const own = { ...quantization, mixedBits: mixed?.bits ?? new Map() };
    return {
      precision,
      file: `onnx/${nameModelFile(precision)}`,
      bytes: sizes.reduce((a, b) => a + b, 0),
      ...(blocks && { block: quantization.block, symmetric: quantization.symmetric }),
      ...(blocks && { embeddingBits: chooseBlockBits(precision, own, "wte.weight") }),
      ...(mixed && { bits: Object.fromEntries(mixed.bits) }),
      ...(mixed?.budget !== undefined && { budget: mixed.budget }),
      ...(method !== null && { method }),
      ...(method === "gptq" && { calibration }),
      ...(precision === "int8" && { reduceRange: quantization.reduceRange }),
      ...(perplexity && { perplexity }),
    };
  };
  return Promise.all(written.map(entry));
}

/** How the codes of a file were chosen; null for int8's, which have one rule, and for floats. */
function nameMethod(
  checkpoint: Checkpoint,
  precision: Precision,
  { quantization, calibrated }: { quantization: Quantization; calibrated: boolean },
): string | null {
  if (hasTrainedCodes(checkpoint, precision, quantization)) return "trained";
  if (!hasBlocks(precision)) return null;
  if (calibrated) return "gptq";
  return precision === "q2" ? "extremes" : "least-squares";
}

async function measure(
  folder: string,
  checkpoint: Checkpoint,
  texts: readonly string[],
  { threads, signal, onProgress }: Common,
): Promise<Map<Precision, NonNullable<ExportEntry["perplexity"]>>> {
  const { files, config } = await openExportedModel(folder);
  const meter = await TokenMeter.open(texts);
  const stream = await openTokenStream(texts, checkpoint, { signal, onBytes: meter.onBytes, onText: meter.onText });
  const scores = await scorePrecisions([...files.values()], config, checkpoint, {
    tokens: () => meter.count(stream()),
    countTokens: meter.estimate,
    onProgress: (event) => onProgress?.({ ...event, phase: "comparing on text" }),
    ...{ threads, signal },
  });
  const text = await describeScoredText(texts);
  const entries = scores.flatMap((score) => {
    const entry = makeExportPerplexity({ ...score, bitsPerByte: meter.toBitsPerByte(score.nll) }, text);
    return entry ? [[score.precision, entry] as const] : [];
  });
  return new Map(entries);
}
