// The settings that distill.py reads: those of a distillation of one model, resolved before its teacher is there.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NFC_RECORD_FILE } from "../checkpoint/nfc-record.ts";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import { escapeJson } from "../io/printable.ts";
import type { ModelConfig } from "../model/config.ts";
import { type Given, resolveSettings } from "./resolve-settings.ts";
import { findTeacherLayers } from "./teacher-layers.ts";
import { TEXT_SETTINGS, type TextContext, type TrainSettings } from "./train-settings.ts";
import type { LayerMap } from "./transfer-match.ts";

const { cacheTeacher, cacheKind, teacherPrecision, devicePrecision, extendedFrom, batchSize, ...others } =
  TEXT_SETTINGS;
const { quantize, quantizeSteps, budget, block, embeddingBits, symmetric, grid, ...SHARED } = others;
const NONE = {
  quantizeSteps: { ...quantizeSteps, default: 0 },
  budget: { ...budget, default: 0 },
  block: { ...block, default: 0 },
  grid: { ...grid, default: "fixed" },
};
const QUANTIZE = { quantize, embeddingBits, symmetric, ...NONE };
/**
 * What distill.py has not: it runs the teacher in every step, in float32 or bfloat16, extends no run, and trains for no
 * rounding of weights.
 */
const LEFT_OUT = { cacheTeacher, cacheKind, teacherPrecision, devicePrecision, extendedFrom, ...QUANTIZE };
/** A micro-batch need not fit into this machine: the run will be on another. */
const SCRIPT_SETTINGS = { ...SHARED, batchSize: { ...batchSize, check: () => null } };

/** Settings of a distillation by distill.py. */
export type ScriptSettings = Omit<TrainSettings, "task" | keyof typeof LEFT_OUT>;

export interface ScriptPlan {
  settings: ScriptSettings;
  /** The teacher's layer of each of the student's; null where that is not known. */
  layers: LayerMap;
}

/**
 * The settings of a distillation of `student` from its source: those given, nfc distill's defaults for the rest.
 * @throws NfcError "usage" for settings that do not go together
 */
export function planScript(
  student: Pick<Checkpoint, "config" | "record" | "source">,
  given: Given<ScriptSettings> = {},
): ScriptPlan {
  const teacher = describeSourceModel(student);
  const layers = findTeacherLayers(student, teacher);
  const facts = { task: "distill", config: student.config, teacher, layers } as const;
  const hasBatchSize = given.batchSize !== undefined;
  const makeContext = (settings: TextContext["settings"]): TextContext => ({
    ...{ ...facts, hasBatchSize, evalTokens: given.evalTokens },
    settings,
  });
  return { settings: resolveSettings(SCRIPT_SETTINGS, given, makeContext as never), layers };
}

/** The configuration of the model that the student came from, as far as a transfer depends on it. */
function describeSourceModel({ config, record }: Pick<Checkpoint, "config" | "record">): ModelConfig {
  const first = record?.cuts?.find(({ axis }) => axis === "layers");
  return typeof first?.from === "number" ? { ...config, n_layer: first.from } : config;
}

export interface FoundSettings {
  given: Given<ScriptSettings>;
  /** One line for what distill.py does otherwise. */
  notes: string[];
}

/**
 * Reads settings from the folder of a distilled model, or from a file: nfc.json, run.json, distill.json, or an object of
 * some settings.
 * @throws NfcError "invalid-file" for anything else, "not-found", "io"
 */
export async function readScriptSettings(path: string): Promise<FoundSettings> {
  const isFolder = (await withIoErrors(path, () => stat(path))).isDirectory();
  const file = isFolder ? join(path, NFC_RECORD_FILE) : path;
  const values = findSettings(await readJsonFile(file), file);
  const known: Record<string, unknown> = {};
  const lost: string[] = [];
  for (const [name, value] of Object.entries(values)) {
    if (name in SCRIPT_SETTINGS) known[name] = value;
    else if (name in LEFT_OUT) {
      if (value !== LEFT_OUT[name as keyof typeof LEFT_OUT].default) lost.push(`${name} ${escapeJson(value)}`);
    } else if (name !== "task") throw refuse(file, `has a setting ${escapeJson(name)}, which there is not`);
  }
  const notes = lost.length > 0 ? [`${file}: ${lost.join(", ")}: left out, which distill.py does not have`] : [];
  return { given: known as Given<ScriptSettings>, notes };
}

/** The settings of the last distillation in an nfc.json, those of a run or of distill.json, or the object itself. */
function findSettings(value: unknown, file: string): Readonly<Record<string, unknown>> {
  if (!isObject(value)) throw refuse(file, "is no object of settings");
  if (Array.isArray(value.history)) {
    const last = value.history.findLast((step) => step?.step === "distill" || step?.step === "distill.py");
    if (!isObject(last?.settings)) throw refuse(file, "names no distillation in its history");
    return last.settings;
  }
  if (!isObject(value.settings)) return value;
  const { settings } = value;
  if (typeof value.sha256 !== "string") return settings;
  // A run's file has the fingerprints of its inputs among the settings.
  return Object.fromEntries(Object.entries(settings).filter(([name]) => name in TEXT_SETTINGS));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(file: string, fact: string): NfcError {
  return new NfcError("invalid-file", `${file}: ${fact}`, {
    hint: 'give a model that nfc distill made, or settings such as {"steps": 2000, "lr": 0.0005}',
  });
}
