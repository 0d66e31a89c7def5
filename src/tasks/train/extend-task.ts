// A finished run on a task that is extended to more epochs: its entry in nfc.json, and the longer run's settings and first state.
import { z } from "zod";
import {
  type FinishedRun,
  inheritSettings,
  measureMetrics,
  type RunKind,
  runEntrySchema,
} from "../../distill/extension.ts";
import type { Given } from "../../distill/resolve-settings.ts";
import { NfcError } from "../../errors.ts";
import type { Task } from "../glue-tasks.ts";
import { type ClassifierSettings, TASK_SETTINGS } from "./settings.ts";
import { beginState, type ClassifierState } from "./task-objective.ts";

/** Settings in which a longer run may differ. */
export const FREE_SETTINGS = ["epochs", "extendedFrom", "patience"];

const entrySchema = runEntrySchema.extend({
  /** Steps done. */
  steps: z.int().nonnegative(),
  best: z.object({ step: z.int().nonnegative(), score: z.number().nullable() }),
});
type TaskEntry = z.infer<typeof entrySchema>;
export type FinishedTaskRun = FinishedRun<TaskEntry>;

/** Runs on a task. */
export function taskRuns(task: Task): RunKind<ClassifierSettings, TaskEntry> {
  return {
    settings: TASK_SETTINGS,
    isOwn: (entry) => entry.step === "finetune" && entry.task === task.name,
    schema: entrySchema,
    countSteps: ({ steps }) => steps,
    extend: extendSettings,
  };
}

function extendSettings(
  { folder, steps, entry }: FinishedTaskRun,
  given: Given<ClassifierSettings>,
): Given<ClassifierSettings> {
  const done = Number(entry.settings.epochs);
  const { epochs = done } = given;
  if (epochs <= done)
    throw new NfcError("usage", `${folder}: its run has ended with ${done} epochs, ${epochs} are asked for`, {
      hint: `give more to extend it: --epochs ${2 * done}`,
    });
  return { ...inheritSettings(TASK_SETTINGS, entry.settings, given), extendedFrom: steps };
}

/** The state in which a longer run begins: the finished one's, with fresh moments and patience. */
export async function makeExtendedState(
  { folder, steps: step, entry }: FinishedTaskRun,
  settings: Pick<ClassifierSettings, "devicePrecision">,
): Promise<ClassifierState> {
  const { best } = entry;
  return { ...beginState(settings), step, metricsBytes: await measureMetrics(folder), evaluated: step, best };
}
