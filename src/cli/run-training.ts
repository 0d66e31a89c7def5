// Runs a training command: opens the tokenizer, trains, prints the table of perplexities.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { TrainOptions, TrainResult } from "../distill/run.ts";
import type { TrainMode } from "../distill/settings.ts";
import { alignTable, formatBytes, formatThousands } from "../report/render/format.ts";
import type { Progress } from "./progress.ts";
import { type Context, note, printResult } from "./terminal.ts";
import { type TrainFlags, toTrainSettings } from "./train-flags.ts";

export async function runTraining(
  context: Context,
  task: TrainMode,
  flags: TrainFlags,
  models: { student: Checkpoint; teacher: Checkpoint | null },
  progress: Progress,
): Promise<void> {
  const { train } = await import("../distill/train.ts");
  const { resolveTrainSettings } = await import("../distill/settings.ts");
  const { canTransfer } = await import("../distill/step/transfer-step.ts");
  const { checkDevice } = await import("../graph/session.ts");
  const { student, teacher } = models;
  await checkDevice(flags.device);
  const { device, threads } = flags;
  // A dense student has its teacher's attention already, or never will.
  const transferable =
    teacher !== null && student.config.variant !== "dense" && canTransfer(student.config, teacher.config);
  const result = await train(student, {
    ...toOptions(flags),
    settings: resolveTrainSettings(task, student.config, { ...toTrainSettings(flags), transferable }),
    teacher,
    session: { device, ...(threads !== undefined && { threads }) },
    command: ["nfc", ...context.io.argv.slice(2)],
    onProgress: progress.show,
    signal: context.signal,
  });
  progress.stop();
  if (result.best.step < result.settings.steps)
    note(context.io, flags, `the best step, ${result.best.step}, is kept: later ones were worse on held-out text`);
  printResult(context.io, flags, toJson(result), () => formatResult(result, models));
}

function toOptions(
  flags: TrainFlags,
): Pick<TrainOptions, "output" | "data" | "heldOut" | "field" | "cache" | "saveEvery" | "resume" | "force"> {
  const { output, data, valid, field, cache, saveEvery, resume = false, force = false } = flags;
  return {
    output,
    data,
    resume,
    force,
    ...(valid && { heldOut: valid }),
    ...(field !== undefined && { field }),
    ...(cache !== undefined && { cache }),
    ...(saveEvery !== undefined && { saveEvery }),
  };
}

function toJson({
  folder,
  settings,
  perplexity,
  best,
  heldOutTokens,
  tokens,
  resumedFrom,
  byteLength,
  files,
}: TrainResult): object {
  return { output: folder, bytes: byteLength, files, tokens, heldOutTokens, perplexity, best, resumedFrom, settings };
}

function formatResult(
  result: TrainResult,
  { student, teacher }: { student: Checkpoint; teacher: Checkpoint | null },
): string {
  const { folder, perplexity, best, settings, heldOutTokens, tokens, byteLength } = result;
  const rows = [
    ["model", "step", "held-out perplexity"],
    ...(teacher && perplexity.teacher !== null
      ? [[`${teacher.source} (teacher)`, "", perplexity.teacher.toFixed(3)]]
      : []),
    [`${student.source} (before)`, "0", perplexity.before.toFixed(3)],
    [`${folder} (after)`, String(best.step), perplexity.after.toFixed(3)],
  ];
  return [
    ...alignTable(rows, { align: "lrr", rulesBefore: [1] }),
    `${formatThousands(settings.steps)} ${settings.steps === 1 ? "step" : "steps"}, ${formatThousands(tokens)} tokens; scored on ${formatThousands(heldOutTokens)} held-out tokens; ${formatBytes(byteLength)}`,
  ].join("\n");
}
