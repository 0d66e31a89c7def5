// Opens a folder with the ONNX files of a classifier: reads its classes, and finds the file of each precision.
import { join, resolve } from "node:path";
import type { MeasuredFile } from "../checkpoint/change-record.ts";
import { readConfig } from "../checkpoint/checkpoint.ts";
import { CONFIG_FILE, parseConfig } from "../checkpoint/config-file.ts";
import { type NfcRecord, readNfcRecord } from "../checkpoint/nfc-record.ts";
import { NfcError } from "../errors.ts";
import type { OnnxStructure, OnnxValue } from "../formats/onnx/structure.ts";
import { ONNX_DATA_TYPE } from "../graph/ops.ts";
import { resolveExportedConfig } from "../inference/exported/config.ts";
import { findPrecisions, makeNoSuchFileError, openRunnableFile } from "../inference/exported/exported-model.ts";
import { locateData } from "../inference/exported/external-data.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Precision } from "../model/precision.ts";

export interface ExportedClassifier {
  /** The folder's name as the user gave it. */
  source: string;
  /** The folder's absolute path. */
  folder: string;
  /** Has `labels`. */
  config: ModelConfig;
  /** The precisions that were asked for, in the order of PRECISIONS. */
  files: readonly (MeasuredFile & { path: string })[];
  /** nfc.json, which exports of other tools lack. */
  record: NfcRecord | null;
}

/**
 * Reads config.json and headers; no weights.
 * @param wanted precisions, all that are there unless given
 * @throws NfcError "unsupported" for a folder of another model, "not-found" for a precision that is not there,
 * "invalid-file" and "mismatch" for files that are damaged or do not belong together
 */
export async function openExportedClassifier(
  source: string,
  wanted?: readonly Precision[],
): Promise<ExportedClassifier> {
  const there = await findPrecisions(source);
  const missing = wanted?.find((precision) => !there.includes(precision));
  if (missing) throw makeNoSuchFileError(source, missing, there);
  const configFile = join(source, CONFIG_FILE);
  const raw = await readConfig(source);
  // An export says "roberta", the type as which transformers.js runs a classifier with GPT-2's inputs.
  const parsed = raw && parseConfig(raw.model_type === "roberta" ? { ...raw, model_type: "gpt2" } : raw, configFile);
  if (!parsed?.labels)
    throw new NfcError("unsupported", `${configFile}: is not that of a classifier`, {
      hint: "score a language model with --text; make a classifier with nfc finetune --task, then export it",
    });
  const record = await readNfcRecord(source);
  const config = { ...resolveExportedConfig(parsed, record), labels: parsed.labels };
  const files = [];
  for (const precision of there.filter((one) => wanted?.includes(one) ?? true)) {
    const structure = await openRunnableFile(source, precision);
    checkClassifier(structure, parsed.labels.length);
    const { bytes } = await locateData(structure, source);
    files.push({ precision, bytes, path: resolve(structure.path) });
  }
  return { source, folder: resolve(source), config, files, record };
}

/** Inputs: input_ids, attention_mask, int64 [B, T]. Output: logits, float32 [B, labels]. */
function checkClassifier({ path, inputs, outputs, initializers }: OnnxStructure, labels: number): void {
  const fault = (fact: string) =>
    new NfcError("mismatch", `${path}: ${fact}`, { hint: "export the classifier again: nfc export" });
  const weights = new Set(initializers.map(({ name }) => name));
  const fed = inputs.filter(({ name }) => !weights.has(name));
  const isIds = ({ dtype, dims }: OnnxValue) => dtype === ONNX_DATA_TYPE.int64 && dims?.length === 2;
  const names = fed.map(({ name }) => name).sort();
  if (names.join() !== "attention_mask,input_ids" || !fed.every(isIds))
    throw fault("is not fed input_ids and attention_mask, int64 [B, T], alone");
  const logits = outputs.find(({ name }) => name === "logits");
  if (logits?.dtype !== ONNX_DATA_TYPE.float32 || logits.dims?.length !== 2)
    throw fault("has no output logits, float32 [B, labels]");
  if (logits.dims[1] !== labels)
    throw fault(`has ${logits.dims[1]} logits of a text, but config.json names ${labels} classes`);
}
