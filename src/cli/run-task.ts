// nfc finetune --task: fine-tunes a classifier, prints what it is worth on the development set.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NfcError } from "../errors.ts";
import { alignTable, formatBytes, formatCount, formatThousands } from "../report/render/format.ts";
import type { FinetuneTaskResult } from "../tasks/train/finetune-task.ts";
import type { ClassifierSettings } from "../tasks/train/settings.ts";
import { type SourceFlags, toOpenOptions } from "./options.ts";
import type { Progress } from "./progress.ts";
import { SkippedLines } from "./skipped-lines.ts";
import { formatScores } from "./task-table.ts";
import { type Context, note, printResult } from "./terminal.ts";
import type { TrainFlags } from "./train-flags.ts";

export interface FinetuneTaskFlags extends TrainFlags, SourceFlags {
  task?: string;
  epochs?: number;
  patience?: number;
  splitDev?: number;
  skipInvalid?: boolean;
  distillFrom?: string;
}

/** Flags of training on text, which a task has no use for. */
const TEXT_FLAGS = {
  valid: "--valid",
  field: "--field",
  steps: "--steps",
  accumulate: "--accumulate",
  evalTokens: "--eval-tokens",
  saveEvery: "--save-every",
  train: "--train",
  cache: "--cache",
} as const;

export async function runTask(
  context: Context,
  flags: FinetuneTaskFlags & { task: string },
  source: Checkpoint,
  progress: Progress,
): Promise<void> {
  const { finetuneTask } = await import("../tasks/train/finetune-task.ts");
  const { findTask } = await import("../tasks/tasks.ts");
  const { openCheckpoint } = await import("../checkpoint/checkpoint.ts");
  const { checkDevice } = await import("../graph/session.ts");
  const [data, ...more] = flags.data;
  const unused = Object.entries(TEXT_FLAGS).find(([key]) => flags[key as keyof typeof TEXT_FLAGS] !== undefined);
  if (unused) throw new NfcError("usage", `${unused[1]} is for training on text`, { hint: "leave it out with --task" });
  if (data === undefined || more.length > 0)
    throw new NfcError("usage", "--data is one folder with --task", { hint: "name the folder of the task's files" });
  await checkDevice(flags.device);
  const teacher = flags.distillFrom ? await openCheckpoint(flags.distillFrom, toOpenOptions(flags)) : null;
  try {
    const { output, resume = false, force = false, device, threads, splitDev } = flags;
    const skipped = new SkippedLines(flags);
    const result = await finetuneTask(source, {
      ...{ output, data, teacher, resume, force },
      task: findTask(flags.task),
      settings: toClassifierSettings(flags),
      ...(splitDev !== undefined && { splitDev }),
      ...skipped.reading,
      session: { device, ...(threads !== undefined && { threads }) },
      command: ["nfc", ...context.io.argv.slice(2)],
      onProgress: progress.show,
      signal: context.signal,
    });
    progress.stop();
    skipped.tell(context.io, flags);
    if (result.best.step < result.steps)
      note(context.io, flags, `the best step, ${result.best.step} of ${result.steps}, is kept`);
    printResult(context.io, flags, toJson(result), () => formatResult(result));
  } finally {
    await teacher?.close();
  }
}

function toClassifierSettings(flags: FinetuneTaskFlags): Partial<ClassifierSettings> {
  const { epochs, patience, batchSize, length, seed, lr, noiseLr, beta1, beta2, clip, kd, temperature } = flags;
  const { noiseKl, noise, evalEvery, lrFloor: floor, weightDecay: decay, warmup } = flags;
  const given = {
    ...{ epochs, patience, batchSize, length, seed, lr, noiseLr, beta1, beta2, clip, kd, temperature },
    ...{ noiseKl, noise, evalEvery, floor, decay, warmup },
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function toJson({ folder, settings, steps, best, dev, examples, resumedFrom, byteLength, files }: FinetuneTaskResult) {
  return {
    output: folder,
    bytes: byteLength,
    files,
    task: settings.task,
    examples,
    steps,
    best,
    dev,
    resumedFrom,
    settings,
  };
}

function formatResult({ folder, dev, examples, steps, byteLength }: FinetuneTaskResult): string {
  return [
    ...alignTable(formatScores([{ name: folder, score: dev }]), { align: "llrrr", rulesBefore: [1] }),
    `${formatCount(examples, "example")}, ${formatThousands(steps)} steps planned; scored on ${formatCount(dev.examples, "example")}; ${formatBytes(byteLength)}`,
  ].join("\n");
}
