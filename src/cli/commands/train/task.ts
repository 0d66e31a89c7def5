// nfc finetune --task: fine-tunes a classifier, and prints its score on the development set.

import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import { NfcError } from "../../../errors.ts";
import { formatBytes, formatCount, formatThousands } from "../../../report/render/format.ts";
import { alignTable } from "../../../report/render/text.ts";
import type { FinetuneTaskOptions, FinetuneTaskResult } from "../../../tasks/train/finetune-task.ts";
import { TASK_SETTINGS } from "../../../tasks/train/settings.ts";
import { requireDevice, resolveDevice } from "../../device.ts";
import { openModel } from "../../open-checkpoint.ts";
import type { SourceFlags } from "../../options.ts";
import type { Progress } from "../../progress.ts";
import type { Context } from "../../terminal.ts";
import { note, printResult } from "../../terminal.ts";
import { SkippedLines } from "../eval/skipped-lines.ts";
import { formatScores } from "../eval/task-table.ts";
import { printTaskDryRun } from "./dry-run.ts";
import { readSettings, refuseIdlePrice, type TrainFlags } from "./flags.ts";

export interface FinetuneTaskFlags extends TrainFlags, SourceFlags {
  task?: string;
  splitDev?: number;
  skipInvalid?: boolean;
  distillFrom?: string;
}

export async function runTask(
  context: Context,
  flags: FinetuneTaskFlags & { task: string },
  source: Checkpoint,
  progress: Progress,
): Promise<void> {
  const { finetuneTask } = await import("../../../tasks/train/finetune-task.ts");
  const { findTask } = await import("../../../tasks/glue-tasks.ts");
  const [data, ...more] = flags.data;
  if (data === undefined || more.length > 0)
    throw new NfcError("usage", "--data is one folder with --task", { hint: "name the folder of the task's files" });
  refuseIdlePrice(flags);
  await requireDevice(flags);
  const teacher = flags.distillFrom ? await openModel(context, flags.distillFrom, flags, progress) : null;
  try {
    const { output, resume = false, force = false, threads, splitDev } = flags;
    const skipped = new SkippedLines(flags);
    const options: FinetuneTaskOptions = {
      ...{ output, data, teacher, resume, force },
      task: findTask(flags.task),
      settings: readSettings(TASK_SETTINGS, flags),
      splitDev,
      ...skipped.reading,
      session: { device: await resolveDevice(context, flags, source.config, "train"), threads },
      command: ["nfc", ...context.io.argv.slice(2)],
      onProgress: progress.show,
      signal: context.signal,
    };
    if (flags.dryRun) return await printTaskDryRun(context, flags, source, options, progress);
    const result = await finetuneTask(source, options);
    progress.stop();
    for (const line of result.notes) note(context.io, flags, line);
    skipped.tell(context.io, flags);
    if (result.best.step < result.steps)
      note(context.io, flags, `the best step, ${result.best.step} of ${result.steps}, is kept`);
    printResult(context.io, flags, toJson(result), () => formatResult(result));
  } finally {
    await teacher?.close();
  }
}

function toJson({ folder: output, byteLength: bytes, ...rest }: FinetuneTaskResult): object {
  const { files, examples, steps, best, dev, resumedFrom, settings } = rest;
  return { output, bytes, files, task: settings.task, examples, steps, best, dev, resumedFrom, settings };
}

function formatResult({ folder, dev, examples, steps, byteLength }: FinetuneTaskResult): string {
  return [
    ...alignTable(formatScores([{ name: folder, score: dev }]), { align: "llrrr", rulesBefore: [1] }),
    `${formatCount(examples, "example")}, ${formatThousands(steps)} steps planned; scored on ${formatCount(dev.examples, "example")}; ${formatBytes(byteLength)}`,
  ].join("\n");
}
