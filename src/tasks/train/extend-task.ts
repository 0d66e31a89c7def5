// A finished run on a task that is extended to more epochs: what its output knows of it, and the longer run's settings.
import { join } from "node:path";
import { z } from "zod";
import { NFC_RECORD_FILE, type NfcRecord, readNfcRecord } from "../../checkpoint/nfc-record.ts";
import { CANNOT_EXTEND, checkSameRun, dropUndefined, measureMetrics } from "../../distill/extension.ts";
import type { Given } from "../../distill/resolve-settings.ts";
import type { RunFolder, RunIdentity } from "../../distill/run-folder.ts";
import { NfcError } from "../../errors.ts";
import { parseJsonWith } from "../../io/json.ts";
import type { Task } from "../glue-tasks.ts";
import { type ClassifierSettings, TASK_SETTINGS } from "./settings.ts";
import { beginState, type ClassifierState } from "./task-objective.ts";

/** The entry of a run on a task in the history of nfc.json, as far as an extension needs it. */
const entrySchema = z.object({
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
  inputs: z.record(z.string(), z.string().nullable()),
  /** Steps done. */
  steps: z.int().nonnegative(),
  best: z.object({ step: z.int().nonnegative(), score: z.number().nullable() }),
});

/** A classifier that a run on a task has finished. */
export interface FinishedTask {
  folder: string;
  entry: z.infer<typeof entrySchema>;
  record: NfcRecord;
}

/** The settings of a run, and the finished one that it extends. */
export interface BegunTask {
  settings: Given<ClassifierSettings>;
  extended: FinishedTask | null;
  /** The record that the new model's continues, where it is not the source's. */
  past: NfcRecord | null;
}

/**
 * The settings that are given, and where the run extends a finished one, those that it had.
 * @throws NfcError "usage" for no more epochs than there are, "invalid-file" for a run that cannot be extended
 */
export async function findBegunTask(
  folder: RunFolder<ClassifierState>,
  task: Task,
  { output, resume, given }: { output: string; resume: boolean; given: Given<ClassifierSettings> },
): Promise<BegunTask> {
  const own = { settings: { ...given, extendedFrom: 0 }, extended: null, past: null };
  if (!resume) return own;
  const finished = await readFinishedTask(output, task);
  if (!folder.exists()) {
    if (!finished) return own;
    return { settings: extendSettings(finished, given), extended: finished, past: finished.record };
  }
  const identity = await folder.identity();
  const from = Number(identity.extendedFrom ?? 0);
  if (from === 0) return own;
  const settings = { ...keepSettings(identity), ...dropUndefined(given), extendedFrom: from };
  if (finished?.entry.steps === from) return { settings, extended: finished, past: finished.record };
  const replaced = finished && (await folder.hasEnded()) ? finished.record : null;
  return { settings, extended: null, past: replaced && { ...replaced, history: replaced.history.slice(0, -1) } };
}

async function readFinishedTask(folder: string, task: Task): Promise<FinishedTask | null> {
  const record = await readNfcRecord(folder);
  const last = record?.history.at(-1);
  if (!record || last?.step !== "finetune" || last.task !== task.name) return null;
  return { folder, record, entry: parseJsonWith(entrySchema, last, join(folder, NFC_RECORD_FILE), CANNOT_EXTEND) };
}

function extendSettings({ folder, entry }: FinishedTask, given: Given<ClassifierSettings>): Given<ClassifierSettings> {
  const done = Number(entry.settings.epochs);
  const { epochs = done } = given;
  if (epochs <= done)
    throw new NfcError("usage", `${folder}: its run has ended with ${done} epochs, ${epochs} are asked for`, {
      hint: `give more to extend it: --epochs ${2 * done}`,
    });
  return { ...keepSettings(entry.settings), ...dropUndefined(given), extendedFrom: entry.steps };
}

function keepSettings(values: Readonly<Record<string, unknown>>): Given<ClassifierSettings> {
  return Object.fromEntries(Object.keys(TASK_SETTINGS).map((name) => [name, values[name]]));
}

/** @throws NfcError "mismatch" naming each setting and input in which the longer run differs from the finished one */
export function checkExtendedTask({ folder, entry }: FinishedTask, identity: RunIdentity): void {
  checkSameRun(folder, { ...entry.settings, ...entry.inputs }, identity, ["epochs", "extendedFrom", "patience"]);
}

/** The state in which a longer run begins: the finished one's, with fresh moments and patience. */
export async function makeExtendedState(
  { folder, entry }: FinishedTask,
  settings: Pick<ClassifierSettings, "devicePrecision">,
): Promise<ClassifierState> {
  const { steps: step, best } = entry;
  return { ...beginState(settings), step, metricsBytes: await measureMetrics(folder), evaluated: step, best };
}
