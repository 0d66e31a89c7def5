// Prints what a training command will take, with --dry-run.
import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { DryRun } from "../../../distill/dry-run.ts";
import type { TrainOptions } from "../../../distill/train.ts";
import { formatBytes, formatCount, formatThousands } from "../../../report/render/format.ts";
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

function formatDryRun({ output, settings, steps, tokens, text, epochs, evaluations, ...rest }: DryRun): string {
  const { seconds, memoryBytes, diskBytes } = rest;
  const { batchSize, accumulate, length } = settings;
  const phases = [
    ...(steps.transfer > 0 ? [`${formatThousands(steps.transfer)} of attention transfer`] : []),
    ...(steps.train > 0 ? [`${formatThousands(steps.train)} of training`] : []),
  ].join(", ");
  const each = [
    ...(steps.transfer > 0 ? [`${formatSeconds(seconds.transferStep)} a step of transfer`] : []),
    ...(steps.train > 0 ? [`${formatSeconds(seconds.trainStep)} a step of training`] : []),
    `${formatSeconds(seconds.evaluation)} an evaluation`,
  ].join(", ");
  const rows = [
    ["steps", `${formatThousands(steps.transfer + steps.train)}${steps.done > 0 ? " more" : ""}: ${phases}`],
    ["tokens", `${formatThousands(tokens)}, ${formatThousands(batchSize * accumulate * length)} a step`],
    ["text", `${text.exact ? "" : "about "}${formatCount(text.tokens, "token")}, read ${epochs.toFixed(2)} times`],
    ["held-out", `${formatCount(evaluations.count, "evaluation")} on ${formatCount(evaluations.tokens, "token")}`],
    ["time", `about ${formatSeconds(seconds.total)}`],
    ["", each],
    ["memory", formatBytes(memoryBytes)],
    ["disk", `${formatBytes(diskBytes.run)} while it runs, then ${formatBytes(diskBytes.output)}`],
    ...(diskBytes.cache > 0 ? [["", `${formatBytes(diskBytes.cache)} of cache files`]] : []),
  ] as const;
  const lines = rows.map(([name, value]) => `${name.padEnd(10)}${value}`);
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
