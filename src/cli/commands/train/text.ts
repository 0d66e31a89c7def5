// Runs a training command, and prints the table of perplexities.

import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { Given } from "../../../distill/resolve-settings.ts";
import type { TrainOptions, TrainResult } from "../../../distill/train.ts";
import { TEXT_SETTINGS, type TrainMode, type TrainSettings } from "../../../distill/train-settings.ts";
import { explainNoTransfer, isTornByTying } from "../../../distill/transfer-match.ts";
import { describeWorse } from "../../../report/findings.ts";
import { formatBytes, formatThousands } from "../../../report/render/format.ts";
import { alignTable } from "../../../report/render/text.ts";
import { requireDevice, resolveDevice } from "../../device.ts";
import type { Progress } from "../../progress.ts";
import type { Context } from "../../terminal.ts";
import { note, printResult } from "../../terminal.ts";
import { warnOfFewTokens } from "../eval/few-tokens.ts";
import { printDryRun } from "./dry-run.ts";
import { readSettings, refuseIdlePrice, type TrainFlags } from "./flags.ts";

export async function runTraining(
  context: Context,
  task: TrainMode,
  flags: TrainFlags,
  models: { student: Checkpoint; teacher: Checkpoint | null },
  progress: Progress,
): Promise<void> {
  const { student, teacher } = models;
  refuseIdlePrice(flags);
  await requireDevice(flags);
  const { output, data, valid: heldOut, field, cache, saveEvery, resume, force, threads } = flags;
  const options: TrainOptions = {
    ...{ output, data, heldOut, field, cache, saveEvery, resume, force, task },
    settings: readSettings(TEXT_SETTINGS, flags),
    teacher,
    session: { device: await resolveDevice(context, flags, student.config, "train"), threads },
    command: ["nfc", ...context.io.argv.slice(2)],
    onProgress: progress.show,
    signal: context.signal,
  };
  if (teacher) await tellOfNoTransfer(context, flags, { student, teacher, settings: options.settings ?? {} });
  if (flags.dryRun) return printDryRun(context, flags, student, options, progress);
  const { train } = await import("../../../distill/train.ts");
  const result = await train(student, options);
  progress.stop();
  for (const line of result.notes) note(context.io, flags, line);
  if (result.best.step < result.settings.steps)
    note(context.io, flags, `the best step, ${result.best.step}, is kept: later ones were worse on held-out text`);
  if (isWorse(result)) {
    const remedy = "train for longer or on more text, or lower --lr";
    note(context.io, flags, `${describeWorse(result.perplexity)}: ${remedy}`);
  }
  warnOfFewTokens(context.io, flags, result.heldOutTokens);
  printResult(context.io, flags, toJson(result), () => formatResult(result, models));
}

/** Says why layers do not learn one by one, where they would by default or are to. */
async function tellOfNoTransfer(
  { io }: Context,
  flags: TrainFlags,
  { student, teacher, settings }: { student: Checkpoint; teacher: Checkpoint; settings: Given<TrainSettings> },
): Promise<void> {
  const { transfer, transferSteps } = settings;
  if (transferSteps !== undefined || !(transfer || isTornByTying(student.config))) return;
  const { findTeacherLayers } = await import("../../../distill/teacher-layers.ts");
  const layers = findTeacherLayers(student, teacher.config);
  const how = { kind: transfer ?? "probabilities", layers };
  const reason = explainNoTransfer(student.config, teacher.config, how);
  if (reason !== null) note(io, flags, `no layer learns alone first: the teacher ${teacher.source} ${reason}`);
}

function isWorse({ perplexity: { before, after } }: TrainResult): boolean {
  return after > before;
}

function toJson({ folder: output, byteLength: bytes, ...rest }: TrainResult): object {
  const { files, tokens, heldOutTokens, perplexity, best, resumedFrom, settings } = rest;
  return { output, bytes, files, tokens, heldOutTokens, perplexity, best, resumedFrom, settings };
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
    [`${folder} (after${isWorse(result) ? ", worse" : ""})`, String(best.step), perplexity.after.toFixed(3)],
  ];
  return [
    ...alignTable(rows, { align: "lrr", rulesBefore: [1] }),
    `${formatThousands(settings.steps)} ${settings.steps === 1 ? "step" : "steps"}, ${formatThousands(tokens)} tokens; scored on ${formatThousands(heldOutTokens)} held-out tokens; ${formatBytes(byteLength)}`,
  ].join("\n");
}
