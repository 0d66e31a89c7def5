// Prints what a training command will take, with --dry-run.
import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { DryRun } from "../../../distill/dry-run.ts";
import type { TrainOptions } from "../../../distill/train.ts";
import { formatBytes, formatCount, formatThousands } from "../../../report/render/format.ts";
import type { TaskDryRun } from "../../../tasks/train/dry-run-task.ts";
import type { FinetuneTaskOptions } from "../../../tasks/train/finetune-task.ts";
import type { Progress } from "../../progress.ts";
import { type Context, type OutputFlags, printResult } from "../../terminal.ts";

interface DryRunFlags extends OutputFlags {
  /** What an hour costs, in any currency. */
  price?: number;
}

export async function printDryRun(
  context: Context,
  flags: DryRunFlags,
  student: Checkpoint,
  options: TrainOptions,
  progress: Progress,
): Promise<void> {
  const { dryRun } = await import("../../../distill/dry-run.ts");
  const result = await dryRun(student, options);
  progress.stop();
  const price = computePrice(flags, result);
  printResult(context.io, flags, { dryRun: true, ...result, ...price }, () => formatDryRun(result, price));
}

export async function printTaskDryRun(
  context: Context,
  flags: DryRunFlags,
  source: Checkpoint,
  options: FinetuneTaskOptions,
  progress: Progress,
): Promise<void> {
  const { dryRunTask } = await import("../../../tasks/train/dry-run-task.ts");
  const result = await dryRunTask(source, options);
  progress.stop();
  const price = computePrice(flags, result);
  printResult(context.io, flags, { dryRun: true, ...result, ...price }, () => formatTaskDryRun(result, price));
}

/** What the run costs; empty where no price was given. */
type Price = { price?: { perHour: number; total: number } };

function computePrice({ price: perHour }: DryRunFlags, { seconds }: { seconds: { total: number } }): Price {
  return perHour === undefined ? {} : { price: { perHour, total: (perHour * seconds.total) / 3600 } };
}

type Row = readonly [name: string, value: string];

function formatDryRun(run: DryRun, price: Price): string {
  const { settings, steps, tokens, text, epochs, evaluations, seconds } = run;
  const { batchSize, accumulate, length } = settings;
  const phases = (["transfer", "train"] as const).filter((phase) => steps[phase] > 0);
  const names = { transfer: "attention transfer", train: "training" };
  const counts = phases.map((phase) => `${formatThousands(steps[phase])} of ${names[phase]}`).join(", ");
  const times = { transfer: seconds.transferStep, train: seconds.trainStep };
  const each = phases.map((phase) => `${formatSeconds(times[phase])} a step of ${names[phase]}`);
  return layOut({ ...run, ...price }, [
    ["steps", `${formatThousands(steps.transfer + steps.train)}${steps.done > 0 ? " more" : ""}: ${counts}`],
    ["tokens", `${formatThousands(tokens)}, ${formatThousands(batchSize * accumulate * length)} a step`],
    ["text", `${text.exact ? "" : "about "}${formatCount(text.tokens, "token")}, read ${epochs.toFixed(2)} times`],
    ["held-out", `${formatCount(evaluations.count, "evaluation")} on ${formatCount(evaluations.tokens, "token")}`],
    ["work", formatFlops(run.flopsPerToken)],
    ...(run.rate ? [["rate", formatRate(run.rate)] as const] : []),
    ["time", `about ${formatSeconds(seconds.total)}`],
    ...[...each, `${formatSeconds(seconds.evaluation)} an evaluation`].map((line): Row => ["", line]),
  ]);
}

function formatTaskDryRun(run: TaskDryRun, price: Price): string {
  const { settings, steps, examples, evaluations, seconds } = run;
  const more = steps.done > 0 ? " more" : "";
  return layOut({ ...run, ...price }, [
    ["steps", `${formatThousands(steps.train)}${more} at most, of ${settings.batchSize} examples`],
    ["examples", `${formatThousands(examples)}, read ${formatCount(settings.epochs, "time")}`],
    ["dev", `${formatCount(evaluations.count, "evaluation")} on ${formatCount(evaluations.examples, "example")}`],
    ["time", `about ${formatSeconds(seconds.total)} at most`],
    ["", `${formatSeconds(seconds.step)} a step, ${formatSeconds(seconds.evaluation)} an evaluation`],
  ]);
}

/** The rows of a run, followed by what it takes of the machine. */
function layOut(
  { output, memoryBytes, diskBytes, price }: Pick<DryRun, "output" | "memoryBytes" | "diskBytes"> & Price,
  rows: readonly Row[],
): string {
  const all: Row[] = [
    ...rows,
    ...(price ? [["money", `${formatMoney(price.total)} at ${price.perHour} an hour`] as const] : []),
    ["memory", formatBytes(memoryBytes)],
    ["disk", `${formatBytes(diskBytes.run)} while it runs, then ${formatBytes(diskBytes.output)}`],
    ...(diskBytes.cache > 0 ? [["", `${formatBytes(diskBytes.cache)} of cache files`] as const] : []),
  ];
  const lines = all.map(([name, value]) => `${name.padEnd(10)}${value}`);
  return [`dry run of ${output}: nothing was written`, ...lines].join("\n");
}

/** "1.02 GFLOP a token: 0.755 of the model, 0.266 of its teacher" */
function formatFlops({ student, teacher }: DryRun["flopsPerToken"]): string {
  const { unit, size } = chooseUnit(student + teacher);
  const all = `${formatThree((student + teacher) / size)} ${unit} a token`;
  if (teacher === 0) return all;
  return `${all}: ${formatThree(student / size)} of the model, ${formatThree(teacher / size)} of its teacher`;
}

function formatRate({ flopsPerSecond, tokensPerSecond }: NonNullable<DryRun["rate"]>): string {
  const { unit, size } = chooseUnit(flopsPerSecond);
  return `${formatThree(flopsPerSecond / size)} ${unit}/s measured, ${formatThree(tokensPerSecond)} tokens/s`;
}

function chooseUnit(flops: number): { unit: string; size: number } {
  if (flops < 1e9) return { unit: "MFLOP", size: 1e6 };
  return flops < 1e12 ? { unit: "GFLOP", size: 1e9 } : { unit: "TFLOP", size: 1e12 };
}

/** Three digits at least, without an exponent. */
const formatThree = (value: number): string =>
  value < 1000 ? value.toPrecision(3) : formatThousands(Math.round(value));

/** "about 1.20", in the currency of the price. */
const formatMoney = (amount: number): string => (amount < 0.01 ? "under 0.01" : `about ${amount.toFixed(2)}`);

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
