// A finished run on text that is extended to more steps: its entry in nfc.json, and the longer run's settings and first state.
import { z } from "zod";
import { NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { type FinishedRun, inheritSettings, measureMetrics, type RunKind, runEntrySchema } from "./extension.ts";
import type { Given } from "./resolve-settings.ts";
import type { RunState } from "./run-folder.ts";
import { beginScale } from "./step/loss-scale.ts";
import { resolveTrainSettings, TEXT_SETTINGS, type TrainMode, type TrainSettings } from "./train-settings.ts";

/** The defaults of these follow from the number of steps, so that those of a longer run differ. */
export const FREE_SETTINGS = ["steps", "warmup", "evalEvery", "quantizeSteps", "extendedFrom"];

const scores = z.object({ before: z.number().positive(), teacher: z.number().positive().nullable() });
const entrySchema = runEntrySchema.extend({
  tokens: z.int().nonnegative(),
  best: z.object({ step: z.int().nonnegative(), perplexity: z.number().positive() }),
  held_out: z.object({ perplexity: scores }),
});
type TextEntry = z.infer<typeof entrySchema>;
export type FinishedTextRun = FinishedRun<TextEntry>;

/** Runs of a task on text, of models of that shape. */
export function textRuns(task: TrainMode, config: ModelConfig): RunKind<TrainSettings, TextEntry> {
  return {
    settings: TEXT_SETTINGS,
    isOwn: (entry) => entry.step === task && entry.task === undefined,
    schema: entrySchema,
    countSteps: ({ settings }) => Number(settings.steps),
    extend: (finished, given) => extendSettings(finished, task, given, config),
  };
}

/** What depends on the number of steps is as in a run of the added steps. */
function extendSettings(
  { folder, steps: done, entry }: FinishedTextRun,
  task: TrainMode,
  given: Given<TrainSettings>,
  config: ModelConfig,
): Given<TrainSettings> {
  const { steps = done } = given;
  if (steps <= done) {
    const hint = `give more to extend it: --steps ${2 * done}`;
    throw new NfcError("usage", `${folder}: its run has ended with ${done} steps, ${steps} are asked for`, { hint });
  }
  const own = inheritSettings(TEXT_SETTINGS, entry.settings, given);
  const { warmup, evalEvery, quantizeSteps } = given;
  const added = { ...own, steps: steps - done, transferSteps: 0, warmup, evalEvery, quantizeSteps };
  const resolved = resolveTrainSettings(task, config, added);
  const byAdded = { warmup: resolved.warmup, evalEvery: resolved.evalEvery, quantizeSteps: resolved.quantizeSteps };
  return { ...own, ...byAdded, steps, extendedFrom: done };
}

/** The state in which a longer run begins: the finished one's, with the weights that it kept and fresh moments. */
export async function makeExtendedState(
  { folder, steps, entry }: FinishedTextRun,
  settings: Pick<TrainSettings, "devicePrecision">,
): Promise<RunState> {
  const { tokens, best, held_out } = entry;
  const metricsBytes = await measureMetrics(folder);
  const { before, teacher } = held_out.perplexity;
  return { step: steps, tokens, metricsBytes, best, evaluated: steps, before, teacher, ...beginScale(settings) };
}
