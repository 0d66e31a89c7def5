// A finished run that is extended: what its output knows of it, and the settings of the longer run.

import { stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { NFC_RECORD_FILE, readNfcRecord } from "../checkpoint/nfc-record.ts";
import { NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { withIoErrors } from "../io/io-error.ts";
import { parseJsonWith } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Given } from "./resolve-settings.ts";
import { METRICS_FILE, type RunFolder, type RunIdentity, type RunState } from "./run-folder.ts";
import { listChangedSettings } from "./run-identity.ts";
import { beginScale } from "./step/loss-scale.ts";
import type { ParameterState } from "./step/parameter-state.ts";
import { resolveTrainSettings, TEXT_SETTINGS, type TrainMode, type TrainSettings } from "./train-settings.ts";

/** The defaults of these follow from the number of steps, so that those of a longer run differ. */
const BY_STEPS = ["steps", "warmup", "evalEvery", "quantizeSteps", "extendedFrom"];

const scores = z.object({ before: z.number().positive(), teacher: z.number().positive().nullable() });
/** The entry of a run on text in the history of nfc.json, as far as an extension needs it. */
const entrySchema = z.object({
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
  inputs: z.record(z.string(), z.string().nullable()),
  tokens: z.int().nonnegative(),
  best: z.object({ step: z.int().nonnegative(), perplexity: z.number().positive() }),
  held_out: z.object({ perplexity: scores }),
});

export const CANNOT_EXTEND = "its run cannot be extended: train the model on with another output, or anew with --force";

/** A model that a run on text has finished. */
export interface FinishedRun {
  folder: string;
  steps: number;
  entry: z.infer<typeof entrySchema>;
}

/** The run that made the model in a folder; null where that is no model, or was made by anything else. */
export async function readFinishedRun(folder: string, task: TrainMode): Promise<FinishedRun | null> {
  const last = (await readNfcRecord(folder))?.history.at(-1);
  if (last?.step !== task || last.task !== undefined) return null;
  const entry = parseJsonWith(entrySchema, last, join(folder, NFC_RECORD_FILE), CANNOT_EXTEND);
  return { folder, steps: Number(entry.settings.steps), entry };
}

/**
 * The settings of a run that extends a finished one: what is not given is as it was. What depends on the number of steps
 * is as in a run of the added steps.
 * @throws NfcError "usage" for no more steps than there are
 */
export function extendSettings(
  { folder, steps: done, entry }: FinishedRun,
  task: TrainMode,
  given: Given<TrainSettings>,
  config: ModelConfig,
): Given<TrainSettings> {
  const { steps = done } = given;
  if (steps <= done) {
    const hint = `give more to extend it: --steps ${2 * done}`;
    throw new NfcError("usage", `${folder}: its run has ended with ${done} steps, ${steps} are asked for`, { hint });
  }
  const own = { ...keepSettings(entry.settings), ...dropUndefined(given) };
  const { warmup, evalEvery, quantizeSteps } = given;
  const added = { ...own, steps: steps - done, transferSteps: 0, warmup, evalEvery, quantizeSteps };
  const resolved = resolveTrainSettings(task, config, added);
  const byAdded = { warmup: resolved.warmup, evalEvery: resolved.evalEvery, quantizeSteps: resolved.quantizeSteps };
  return { ...own, ...byAdded, steps, extendedFrom: done };
}

/** The settings among the values of a run's record. */
export function keepSettings(values: Readonly<Record<string, unknown>>): Given<TrainSettings> {
  return Object.fromEntries(Object.keys(TEXT_SETTINGS).map((name) => [name, values[name]])) as Given<TrainSettings>;
}

export function dropUndefined<T extends object>(values: T): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}

/** @throws NfcError "mismatch" naming each setting and input in which the longer run differs from the finished one */
export function checkExtension({ folder, entry }: FinishedRun, identity: RunIdentity): void {
  checkSameRun(folder, { ...entry.settings, ...entry.inputs }, identity, BY_STEPS);
}

/** @param free names of settings that may differ. @throws NfcError "mismatch" naming each other one that does */
export function checkSameRun(folder: string, old: object, identity: RunIdentity, free: readonly string[]): void {
  const keep = (values: object) => Object.fromEntries(Object.entries(values).filter(([key]) => !free.includes(key)));
  const changed = listChangedSettings(keep(old), keep(identity));
  if (changed.length === 0) return;
  throw new NfcError("mismatch", `${folder}: its run had other settings: ${changed.join(", ")}`, {
    hint: "extend it with the settings that it had, or train the model on with another output",
  });
}

/** The state in which a longer run begins: the finished one's, with the weights that it kept and fresh moments. */
export async function makeExtendedState(
  { folder, steps, entry }: FinishedRun,
  settings: Pick<TrainSettings, "devicePrecision">,
): Promise<RunState> {
  const { tokens, best, held_out } = entry;
  const metricsBytes = await measureMetrics(folder);
  const { before, teacher } = held_out.perplexity;
  return { step: steps, tokens, metricsBytes, best, evaluated: steps, before, teacher, ...beginScale(settings) };
}

/** Bytes of a model's metrics.jsonl; 0 where it has none. */
export async function measureMetrics(folder: string): Promise<number> {
  const file = join(folder, METRICS_FILE);
  return fileExists(file) ? (await withIoErrors(file, () => stat(file))).size : 0;
}

/**
 * Begins, or goes on with, a run that extends a finished one: the weights that this kept go into the store, and with
 * `state` into the first checkpoint of the longer run.
 * @param finished the folder of the model that the finished run made; null where it is not there any more
 * @returns null for a run that extends none
 * @throws NfcError "not-found" for a run that was killed before its first checkpoint, and whose beginning is gone since;
 * "mismatch" for a model of another form
 */
export async function beginExtension<State extends { metricsBytes: number }>(
  folder: RunFolder<State>,
  identity: RunIdentity,
  store: ParameterState,
  finished: { folder: string; makeState: () => Promise<State> } | null,
): Promise<State | null> {
  if (!finished) {
    if (Number(identity.extendedFrom ?? 0) === 0) return null;
    throw new NfcError("not-found", `${folder.path}: the finished run that this one extends is not there any more`, {
      hint: `remove ${folder.path} and start over`,
    });
  }
  const state = await finished.makeState();
  await loadFinished(finished.folder, store);
  await folder.createExtended(identity, finished.folder, store, state);
  return state;
}

/**
 * Reads the weights that a finished run kept. Where they are rounded, their grids are found anew: the student's are others.
 * @throws NfcError "mismatch" for a model of another form
 */
async function loadFinished(folder: string, store: ParameterState): Promise<void> {
  const model = await openCheckpoint(folder);
  await store.setRounding(false);
  try {
    for (const name of store.names)
      await store.fill(name, "value", async (into) => into.set(await model.readF32(name)));
    await store.setRounding(true);
  } finally {
    await model.close();
  }
}
