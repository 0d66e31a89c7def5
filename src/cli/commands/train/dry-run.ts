// Prints what a training command will take, with --dry-run.
import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { DryRun } from "../../../distill/dry-run.ts";
import type { TrainOptions } from "../../../distill/train.ts";
import { formatBytes, formatCount, formatThousands } from "../../../report/render/format.ts";
import type { TaskDryRun } from "../../../tasks/train/dry-run-task.ts";
import type { FinetuneTaskOptions } from "../../../tasks/train/finetune-task.ts";
import type { Progress } from "../../progress.ts";
import type { OutputFlags } from "../../terminal.ts";
import { type Context, printResult } from "../../terminal.ts";

export async function printDryRun(
  context: Context,
  flags: OutputFlags,
  student: Checkpoint,
  options: TrainOptions,
  progress: Progress,
): Promise<void> {
  const { dryRun } = await import("../../../distill/dry-run.ts");
  const result = await dryRun(student, options);
  progress.stop();
  printResult(context.io, flags, { dryRun: true, ...result }, () => formatDryRun(result));
}

export async function printTaskDryRun(
  context: Context,
  flags: OutputFlags,
  source: Checkpoint,
  options: FinetuneTaskOptions,
  progress: Progress,
): Promise<void> {
  const { dryRunTask } = await import("../../../tasks/train/dry-run-task.ts");
  const result = await dryRunTask(source, options);
  progress.stop();
  printResult(context.io, flags, { dryRun: true, ...result }, () => formatTaskDryRun(result));
}

type Row = readonly [name: string, value: string];

function formatDryRun(run: DryRun): string {
  const { settings, steps, tokens, text, epochs, evaluations, seconds } = run;
  const { batchSize, accumulate, length } = settings;
  const phases = (["transfer", "train"] as const).filter((phase) => steps[phase] > 0);
  const names = { transfer: "attention transfer", train: "training" };
  const counts = phases.map((phase) => `${formatThousands(steps[phase])} of ${names[phase]}`).join(", ");
  const times = { transfer: seconds.transferStep, train: seconds.trainStep };
  const each = phases.map((phase) => `${formatSeconds(times[phase])} a step of ${names[phase]}`);
  return layOut(run, [
    ["steps", `${formatThousands(steps.transfer + steps.train)}${steps.done > 0 ? " more" : ""}: ${counts}`],
    ["tokens", `${formatThousands(tokens)}, ${formatThousands(batchSize * accumulate * length)} a step`],
    ["text", `${text.exact ? "" : "about "}${formatCount(text.tokens, "token")}, read ${epochs.toFixed(2)} times`],
    ["held-out", `${formatCount(evaluations.count, "evaluation")} on ${formatCount(evaluations.tokens, "token")}`],
    ["time", `about ${formatSeconds(seconds.total)}`],
    ...[...each, `${formatSeconds(seconds.evaluation)} an evaluation`].map((line): Row => ["", line]),
  ]);
}

function formatTaskDryRun(run: TaskDryRun): string {
  const { settings, steps, examples, evaluations, seconds } = run;
  const more = steps.done > 0 ? " more" : "";
  return layOut(run, [
    ["steps", `${formatThousands(steps.train)}${more} at most, of ${settings.batchSize} examples`],
    ["examples", `${formatThousands(examples)}, read ${formatCount(settings.epochs, "time")}`],
    ["dev", `${formatCount(evaluations.count, "evaluation")} on ${formatCount(evaluations.examples, "example")}`],
    ["time", `about ${formatSeconds(seconds.total)} at most`],
    ["", `${formatSeconds(seconds.step)} a step, ${formatSeconds(seconds.evaluation)} an evaluation`],
  ]);
}

/** The rows of a run, followed by what it takes of the machine. */
function layOut(run: Pick<DryRun, "output" | "memoryBytes" | "diskBytes">, rows: readonly Row[]): string {
  const { output, memoryBytes, diskBytes } = run;
  const all: Row[] = [
    ...rows,
    ["memory", formatBytes(memoryBytes)],
    ["disk", `${formatBytes(diskBytes.run)} while it runs, then ${formatBytes(diskBytes.output)}`],
    ...(diskBytes.cache > 0 ? [["", `${formatBytes(diskBytes.cache)} of cache files`] as const] : []),
  ];
  const lines = all.map(([name, value]) => `${name.padEnd(10)}${value}`);
  return [`dry run of ${output}: nothing was written`, ...lines].join("\n");
}

/** "0.03 s", "12 s", "4 min", "3 h 20 min", "2 days 4 h" */
export function formatSeconds(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toPrecision(2)} s`;
  if (seconds < 119.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days ${hours % 24} h`;
}
