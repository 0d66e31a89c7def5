// Writes all ONNX files of an export: precision by precision, with calibration and a check on text.
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ExportEntry } from "../../checkpoint/nfc-record.ts";
import { TokenMeter } from "../../checkpoint/token-meter.ts";
import { sampleWindows } from "../../checkpoint/token-sample.ts";
import { openTokenStream, readThrough } from "../../checkpoint/token-stream.ts";
import type { BlockMatrix } from "../../graph/quantize/blocks.ts";
import { openExportedModel } from "../../inference/exported/exported-model.ts";
import { scorePrecisions } from "../../inference/score/precisions.ts";
import { describeScoredText, makeExportPerplexity } from "../../inference/score/record-perplexity.ts";
import { sha256File } from "../../io/sha256.ts";
import type { NoiseMode } from "../../model/attention.ts";
import { nameModelFile, PRECISIONS, type Precision } from "../../model/precision.ts";
import { blockBits, type Quantization, type QuantizationOptions } from "../../model/quantization.ts";
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
  /** Text on which the codes of uint8, q4 and q4f16 are chosen, by GPTQ. */
  calibration?: { file: string; tokens?: number | undefined } | undefined;
  /** Text on which every file is compared with the model in float32. */
  texts?: readonly string[] | undefined;
}

interface Common extends LongCall {
  threads?: number | undefined;
}

/**
 * Writes the files below `folder`. Precisions follow each other, as each holds its quantized weights.
 * @throws NfcError as `readThrough` for the texts, as `resolveQuantization`, `writeOnnxFile` and `quantizeCalibrated`
 */
export async function writeOnnxFiles(
  folder: string,
  checkpoint: Checkpoint,
  options: OnnxExportOptions,
  common: Common,
): Promise<OnnxFile[]> {
  const { weights, noise, precisions = ["fp32"] } = options;
  const quantization = resolveExport(checkpoint, precisions, options.quantization ?? options.quantisation);
  for (const paths of [options.texts ?? [], options.calibration ? [options.calibration.file] : []])
    await readThrough(paths, checkpoint, { signal: common.signal });
  const calibrated = new Map<number, ReadonlyMap<string, BlockMatrix>>();
  const files: OnnxFile[] = [];
  for (const precision of PRECISIONS.filter((each) => precisions.includes(each))) {
    const bits = blockBits(precision);
    if (bits && options.calibration && !calibrated.has(bits))
      calibrated.set(bits, await calibrate(checkpoint, bits, options.calibration, quantization, common));
    const known = bits === null ? undefined : calibrated.get(bits);
    const trained = hasTrainedCodes(checkpoint, precision, quantization);
    const settings = { ...common, precision, weights, noise, quantization, calibrated: known, trained };
    files.push(await writeOnnxFile(folder, checkpoint, settings));
  }
  return files;
}

async function calibrate(
  checkpoint: Checkpoint,
  bits: 4 | 8,
  { file, tokens = CALIBRATION_TOKENS }: { file: string; tokens?: number | undefined },
  { block, symmetric }: Quantization,
  common: Common,
): Promise<Map<string, BlockMatrix>> {
  const length = checkpoint.config.n_positions;
  const windows = await sampleWindows([file], checkpoint, { length, count: tokens, signal: common.signal });
  return quantizeCalibrated(checkpoint, windows, { ...common, bits, block, symmetric });
}

/** One line for each file of a model that was trained for a precision: whether it has the codes of that. */
export function explainOnnxFiles(checkpoint: Checkpoint, options: OnnxExportOptions): string[] {
  const { precisions = ["fp32"], calibration } = options;
  const quantization = resolveExport(checkpoint, precisions, options.quantization ?? options.quantisation);
  return explainTrainedCodes(checkpoint, precisions, { quantization, calibrated: calibration !== undefined });
}

/**
 * The entries of nfc.json for the files of a complete folder: size, rounding, and with `texts` their loss on text.
 * @throws NfcError "invalid-file" for a file that does not open or whose loss is not finite
 */
export async function makeExportEntries(
  folder: string,
  checkpoint: Checkpoint,
  written: readonly OnnxFile[],
  options: OnnxExportOptions,
  common: Common,
): Promise<ExportEntry[]> {
  const measured = options.texts ? await measure(folder, checkpoint, options.texts, common) : new Map();
  const calibration = options.calibration && {
    file: basename(options.calibration.file),
    sha256: await sha256File(options.calibration.file, common.signal),
    tokens: options.calibration.tokens ?? CALIBRATION_TOKENS,
  };
  const precisions = written.map(({ precision }) => precision);
  const quantization = resolveExport(checkpoint, precisions, options.quantization ?? options.quantisation);
  const entry = async ({ precision, files }: OnnxFile): Promise<ExportEntry> => {
    const sizes = await Promise.all(files.map(async (file) => (await stat(join(folder, file))).size));
    const blocks = blockBits(precision) !== null;
    const perplexity = measured.get(precision);
    const trained = hasTrainedCodes(checkpoint, precision, quantization);
    const method = trained ? "trained" : "least-squares";
    return {
      precision,
      file: `onnx/${nameModelFile(precision)}`,
      bytes: sizes.reduce((a, b) => a + b, 0),
      ...(blocks && { block: quantization.block, symmetric: quantization.symmetric }),
      ...((blocks || trained) && { method: blocks && calibration ? "gptq" : method }),
      ...(blocks && calibration && { calibration }),
      ...(precision === "int8" && { reduceRange: quantization.reduceRange }),
      ...(perplexity && { perplexity }),
    };
  };
  return Promise.all(written.map(entry));
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
