// Loads a model's parameters for training, and writes the trained model with the weights in their own dtypes.
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { makeFormMetadata } from "../checkpoint/form-keys.ts";
import { encodeWithin, makeTensorSource, writeModelFiles, writeText } from "../checkpoint/model-folder.ts";
import { formatNfcRecord, NFC_RECORD_FILE, type NfcRecord } from "../checkpoint/nfc-record.ts";
import { continueRecord } from "../checkpoint/provenance.ts";
import { viewBytes } from "../formats/dtype.ts";
import { makeBytesSource, type TensorSource, writeSafetensors } from "../formats/safetensors/writer.ts";
import type { SessionOptions } from "../graph/session.ts";
import { PIECE_BYTES } from "../io/positional-file.ts";
import { withStagedDirectory } from "../io/staging.ts";
import type { ModelConfig } from "../model/config.ts";
import { findParameterKind, isNoiseParameter, listParameters } from "../model/parameters.ts";
import { listWeightForms, type WeightForm } from "../model/weight-forms.ts";
import type { LongCall } from "../progress.ts";
import { openParameters, type RunParameters } from "./device/open-parameters.ts";
import { isRounded, toQuantization } from "./rounding-settings.ts";
import { METRICS_FILE } from "./run-folder.ts";
import type { ParameterState } from "./step/parameter-state.ts";
import { listTransferTargets } from "./step/transfer-step.ts";
import type { TrainSettings } from "./train-settings.ts";
import type { MixedBits } from "./trained-bits.ts";

export interface TrainedModel {
  folder: string;
  record: NfcRecord;
  /** One line for each file beside the source, or key of one, that was left out. */
  notes: string[];
  byteLength: number;
  files: { name: string; bytes: number }[];
}

export interface TrainedModelOptions {
  output: string;
  force: boolean;
  /** metrics.jsonl of the run. */
  metrics: string;
  /** Entry for the history in nfc.json. */
  step: NfcRecord["history"][number];
  /** What the model was trained for. */
  quantization?: NfcRecord["quantization"];
  command?: readonly string[] | undefined;
  onProgress?: LongCall["onProgress"];
}

interface StoreOptions {
  /** Names the device, on which the parameters are where it keeps tensors. */
  session: SessionOptions;
  accumulate?: boolean | undefined;
  average?: boolean | undefined;
  /** The forms of export that parameters are trained for, by name. */
  forms?: ReadonlyMap<string, WeightForm> | undefined;
  /** Whether the grids of a parameter's blocks stay those of the model; none do unless given. */
  isFixed?: ((name: string) => boolean) | undefined;
  onProgress?: LongCall["onProgress"];
}

/** Loads all parameters of the student; those that `train` names get gradients and moments. */
export async function loadStore(
  student: Checkpoint,
  settings: TrainSettings,
  {
    session,
    mixedBits,
    onProgress,
  }: Pick<StoreOptions, "session" | "onProgress"> & { mixedBits?: MixedBits | undefined },
): Promise<RunParameters> {
  const { quantize: precision } = settings;
  const choices = { ...toQuantization(settings), mixedBits };
  const forms = precision === "none" ? undefined : listWeightForms(student.config, precision, choices);
  const isFixed = (name: string) => hasFixedGrid(name, student.config, settings);
  const options = { accumulate: settings.accumulate > 1, average: settings.average > 0, forms, isFixed };
  return makeStore(student, (name) => isTrained(name, settings), { ...options, session, onProgress });
}

/** Fixed grids are those of the weights that are rounded first: a transfer moves its targets too far from theirs. */
function hasFixedGrid(name: string, config: ModelConfig, settings: TrainSettings): boolean {
  const { grid, transfer, transferSteps } = settings;
  const transferred = transferSteps > 0 && isRounded(transferSteps - 1, settings);
  return grid === "fixed" && !(transferred && listTransferTargets(config, transfer).includes(name));
}

/** What nfc.json says of the rounding that a model was trained for. */
export function describeQuantization(
  { quantize, ...settings }: TrainSettings,
  mixedBits?: MixedBits,
): NfcRecord["quantization"] {
  if (quantize === "none") return undefined;
  const { block = 0, symmetric = false, embeddingBits } = toQuantization(settings);
  const bits = mixedBits && { bits: Object.fromEntries(mixedBits) };
  return {
    precision: quantize,
    ...(block > 0 && { block, symmetric }),
    ...(embeddingBits && { embeddingBits }),
    ...bits,
  };
}

/** Whether a run moves a parameter. */
function isTrained(name: string, { train: part }: Pick<TrainSettings, "train">): boolean {
  if (part === "all" || isNoiseParameter(name)) return true;
  return part === "attention" && findParameterKind(name)?.startsWith("attention") === true;
}

/** Loads all parameters of a model; those that `trained` accepts get gradients and moments. */
export async function makeStore(
  model: Checkpoint,
  trained: (name: string) => boolean,
  { session, onProgress, forms, isFixed, ...options }: StoreOptions,
): Promise<RunParameters> {
  const specs = listParameters(model.config).map(({ name, shape }) => {
    return { name, shape, trained: trained(name), form: forms?.get(name), fixedGrid: isFixed?.(name) };
  });
  const store = await openParameters(specs, options, session);
  const event = { phase: "loading", detail: model.source, total: model.reader.byteLength, unit: "bytes" } as const;
  let done = 0;
  for (const { name } of specs) {
    await store.fill(name, "value", async (into) => into.set(await model.readF32(name)));
    done += requireTensor(model, name).byteLength;
    onProgress?.({ ...event, done, brief: true });
  }
  return store;
}

export async function writeTrainedModel(
  student: Checkpoint,
  store: ParameterState,
  { output, force, metrics, step, quantization, command, onProgress }: TrainedModelOptions,
): Promise<TrainedModel> {
  const { config } = student;
  return withStagedDirectory(output, { force }, async (folder) => {
    const sources = listParameters(config).map(({ name }) => {
      return quantization ? makeRoundedSource(student, store, name) : makeTrainedSource(student, store, name);
    });
    const written = await writeSafetensors(folder, sources, {
      metadata: makeFormMetadata(config),
      onBytes: (done, total) => onProgress?.({ phase: "writing", done, total, unit: "bytes", brief: true }),
    });
    const notes = await writeModelFiles(folder, student, config, { dtype: quantization && "F32" });
    await copyFile(metrics, join(folder, METRICS_FILE));
    const record = { ...(await continueRecord(student, step, { command })), ...(quantization && { quantization }) };
    await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(record));
    return { folder: output, record, notes, ...written };
  });
}

/** Encodes a trained tensor in the dtype that it was stored in, and copies the bytes of a frozen one. */
function makeTrainedSource(student: Checkpoint, store: ParameterState, name: string): TensorSource {
  const tensor = requireTensor(student, name);
  if (!store.trained.includes(name)) return makeTensorSource(student, tensor);
  const step = PIECE_BYTES / Float32Array.BYTES_PER_ELEMENT;
  return {
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    async *chunks() {
      const values = await store.read(name, "value");
      for (let at = 0; at < values.length; at += step)
        yield encodeWithin(values.subarray(at, at + step), name, tensor.dtype);
    },
  };
}

/** A tensor as the graphs have read it, in float32: no other dtype holds each s·(q − z). */
function makeRoundedSource(student: Checkpoint, store: ParameterState, name: string): TensorSource {
  const { shape } = requireTensor(student, name);
  return {
    name,
    dtype: "F32",
    shape,
    async *chunks() {
      yield* makeBytesSource(name, "F32", shape, viewBytes(await store.readRounded(name))).chunks();
    },
  };
}
