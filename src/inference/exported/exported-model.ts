// Opens a folder that holds ONNX files of one model: its configuration, and what files of which precision there are.
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { readConfig } from "../../checkpoint/checkpoint.ts";
import { CONFIG_FILE, parseConfig } from "../../checkpoint/config-file.ts";
import { isHubReference } from "../../checkpoint/hub/hub.ts";
import { listFirstQuoted } from "../../checkpoint/naming/layout.ts";
import { type NfcRecord, readNfcRecord } from "../../checkpoint/nfc-record.ts";
import { NfcError } from "../../errors.ts";
import { readOnnxStructure } from "../../formats/onnx/reader.ts";
import type { OnnxStructure } from "../../formats/onnx/structure.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { formatCommand } from "../../io/printable.ts";
import type { ModelConfig } from "../../model/config.ts";
import { nameModelFile, PRECISIONS, type Precision } from "../../model/precision.ts";
import { checkRunnable } from "./check-runnable.ts";
import { resolveExportedConfig } from "./config.ts";
import { locateData, refuseLinkOut } from "./external-data.ts";
import { checkSignature } from "./signature.ts";

const ONNX_FOLDER = "onnx";
/** A part of the names of a checkpoint's weights and of their index. */
const SAFETENSORS = ".safetensors";

export interface ExportedFile {
  precision: Precision;
  path: string;
  /** Absolute paths of external data. */
  data: readonly string[];
  /** Bytes of the model file and its external data. */
  bytes: number;
  cacheDtype: "float32" | "float16";
  logitsDtype: "float32" | "float16";
  /** Whether a GPU has to have 16-bit floats (shader-f16) to run it. */
  halfFloats: boolean;
}

export interface ExportedModel {
  /** The name that the user gave. */
  source: string;
  /** The absolute path. */
  folder: string;
  config: ModelConfig;
  rawConfig: Record<string, unknown>;
  record: NfcRecord | null;
  /** The files in the order of PRECISIONS. */
  files: ReadonlyMap<Precision, ExportedFile>;
}

/**
 * Whether `path` can be read as an export only: it has a folder `onnx` and no safetensors weights (or is an ONNX file,
 * which `openExportedModel` refuses with advice). A folder with both is a checkpoint, unless the user asks for a
 * precision: commands test `precision !== undefined || (await hasOnnxFiles(path))`.
 */
export async function hasOnnxFiles(path: string): Promise<boolean> {
  if (path.endsWith(".onnx")) return true;
  const names = await readdir(path).catch((): string[] => []);
  return names.includes(ONNX_FOLDER) && !names.some((name) => name.includes(SAFETENSORS));
}

/**
 * Opens an export, of nfc or of a tool with the same layout. Every model file is held against config.json; no weights
 * are read.
 * @param source a folder with config.json and model files below `onnx/`
 * @throws NfcError naming file and fact when it is no such folder, or one that must not be trusted
 */
export async function openExportedModel(source: string): Promise<ExportedModel> {
  return openFiles(source, await findPrecisions(source));
}

/**
 * Opens an export and one file of it, without a look at the others.
 * @param precision fp32 or the first there is, unless given
 * @throws NfcError as `openExportedModel`, "not-found" listing the precisions that are there
 */
export async function openExportedFile(
  source: string,
  precision?: Precision,
): Promise<{ model: ExportedModel; file: ExportedFile }> {
  const there = await findPrecisions(source);
  const wanted = precision ?? there[0];
  if (wanted === undefined || !there.includes(wanted)) throw makeNoSuchFileError(source, precision, there);
  const model = await openFiles(source, [wanted]);
  return { model, file: model.files.get(wanted) as ExportedFile };
}

async function openFiles(source: string, precisions: readonly Precision[]): Promise<ExportedModel> {
  const configFile = join(source, CONFIG_FILE);
  const rawConfig = await readConfig(source);
  if (!rawConfig)
    throw new NfcError("not-found", `${configFile}: no such file`, {
      hint: "copy the config.json of the model into the folder that holds onnx/",
    });
  if (isClassifierConfig(rawConfig))
    throw new NfcError("unsupported", `${configFile}: is that of a classifier, which writes no text`, {
      hint: "score it: nfc eval --task; run it with transformers.js or ONNX Runtime (docs/glue.md)",
    });
  const record = await readNfcRecord(source);
  const config = resolveExportedConfig(parseConfig(rawConfig, configFile), record);
  const files = new Map<Precision, ExportedFile>();
  for (const precision of precisions) {
    const structure = await openRunnableFile(source, precision);
    const types = checkSignature(structure, config, configFile);
    const { data, bytes } = await locateData(structure, source);
    const path = resolve(structure.path);
    const { halfFloats } = structure;
    files.set(precision, { precision, path, data: data.map((file) => resolve(file)), bytes, ...types, halfFloats });
  }
  return { source, folder: resolve(source), config, rawConfig, record, files };
}

/** The header of a folder's file of a precision, which may be of any model that can be run. */
export async function openRunnableFile(source: string, precision: Precision): Promise<OnnxStructure> {
  const path = join(source, ONNX_FOLDER, nameModelFile(precision));
  await refuseLinkOut(path, source);
  const structure = await readOnnxStructure(path);
  checkRunnable(structure);
  return structure;
}

/** Whether a config.json is that of a classifier: its export is opened by `openExportedClassifier`. */
export const isClassifierConfig = (config: Record<string, unknown>): boolean =>
  String(config.architectures).includes("ForSequenceClassification");

/** The precisions of the model files in a folder: at least one. */
export async function findPrecisions(source: string): Promise<Precision[]> {
  const usage = (fact: string, hint: string) => new NfcError("usage", `${source}: ${fact}`, { hint });
  if (isHubReference(source)) throw usage("is not a folder", "download the model and name its folder");
  const status = await withIoErrors(source, () => stat(source));
  if (!status.isDirectory()) throw usage("is a file", "name the model's folder, which holds config.json and onnx/");
  const entries = await withIoErrors(source, () => readdir(source));
  if (!entries.includes(ONNX_FOLDER)) {
    const checkpoint = entries.some((name) => name.includes(SAFETENSORS));
    const hint = checkpoint
      ? `export the checkpoint: ${formatCommand(["nfc", "export", source, "--onnx", "-o", "FOLDER"])}`
      : "check the path";
    throw new NfcError("not-found", `${source}: holds no folder ${ONNX_FOLDER}, and so no exported model`, { hint });
  }
  const onnx = join(source, ONNX_FOLDER);
  const names = await withIoErrors(onnx, () => readdir(onnx));
  const precisions = PRECISIONS.filter((precision) => names.includes(nameModelFile(precision)));
  if (precisions.length > 0) return precisions;
  const models = names.filter((name) => name.endsWith(".onnx"));
  const found = models.length > 0 ? `holds ${listFirstQuoted(models)}, but none of` : "holds none of";
  throw new NfcError("not-found", `${onnx}: ${found} ${PRECISIONS.map(nameModelFile).join(", ")}`, {
    hint: "export the model again, or rename its file",
  });
}

/**
 * The file of a precision; unless given, fp32 or the first there is.
 * @throws NfcError "not-found" listing the precisions that are there
 */
export function chooseFile(model: ExportedModel, precision?: Precision): ExportedFile {
  const file = precision === undefined ? [...model.files.values()][0] : model.files.get(precision);
  if (file !== undefined) return file;
  throw makeNoSuchFileError(model.source, precision, [...model.files.keys()]);
}

export function makeNoSuchFileError(
  source: string,
  precision: Precision | undefined,
  there: readonly Precision[],
): NfcError {
  return new NfcError("not-found", `${source}: has no ${precision} file; it has ${there.join(", ")}`, {
    hint: "take one of these, or export the model again with that precision",
  });
}
