// nfc eval --task: scores a classifier or its exports on a task of GLUE, with intervals and the confusion matrix.

import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import { NfcError } from "../../../errors.ts";
import type { Precision } from "../../../model/precision.ts";
import type { ProgressEvent } from "../../../progress.ts";
import { formatCount } from "../../../report/render/format.ts";
import { alignTable } from "../../../report/render/text.ts";

import type { Classifier, TaskScore } from "../../../tasks/classify.ts";
import type { EncodedExample } from "../../../tasks/examples.ts";
import type { Task } from "../../../tasks/glue-tasks.ts";
import { requireDevice, resolveDevice } from "../../device.ts";
import { withCheckpoint } from "../../open-checkpoint.ts";
import { Progress } from "../../progress.ts";
import { type Context, note, printResult } from "../../terminal.ts";
import type { EvalFlags } from "./flags.ts";
import { SkippedLines } from "./skipped-lines.ts";
import { formatConfusion, formatScores } from "./task-table.ts";

const DEFAULT_LENGTH = 128;

type EvalTaskFlags = EvalFlags & { task: string; data: string };

/** A classifier on one file of a task. */
interface Scored {
  file: string;
  /** The hash of the examples. */
  sha256: string;
  precision: Precision | null;
  score: TaskScore;
}

export async function evalTask(context: Context, model: string, given: EvalFlags & { task: string }): Promise<void> {
  const { data } = given;
  if (data === undefined)
    throw new NfcError("usage", "--task needs --data", { hint: "name the folder of the task's files" });
  refuseTextFlags(given);
  const { findTask } = await import("../../../tasks/glue-tasks.ts");
  const { hasOnnxFiles } = await import("../../../inference/exported/exported-model.ts");
  const task = findTask(given.task);
  await requireDevice(given);
  const flags = { ...given, data };
  const found =
    flags.precision || (await hasOnnxFiles(model))
      ? await scoreExport(context, model, task, flags)
      : await scoreCheckpoint(context, model, task, flags);
  const { labels, length, scores } = found;
  const files = scores.map(({ file, precision, score }) => ({ file, precision: precision ?? undefined, ...score }));
  printResult(context.io, flags, { model, task: task.name, length, files }, () => formatResult(model, labels, scores));
}

/** @throws NfcError "usage" for a flag that says how text is scored */
function refuseTextFlags({ text, against, stride, field, noise }: EvalFlags): void {
  const given = { text, against, stride, field, noise: noise === "sample" || undefined };
  const flags = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`]));
  if (flags.length > 0)
    throw new NfcError("usage", `${flags.join(", ")}: for text, which --task does not score`, {
      hint: flags.length > 1 ? "leave them out" : "leave it out",
    });
}

interface Found {
  labels: readonly string[];
  length: number;
  scores: Scored[];
}

function scoreCheckpoint(context: Context, model: string, task: Task, flags: EvalTaskFlags): Promise<Found> {
  return withCheckpoint(context, model, flags, async (checkpoint, progress) => {
    const { Classifier } = await import("../../../tasks/classify.ts");
    const device = await resolveDevice(context, flags, checkpoint.config, "run");
    const classifier = await Classifier.ofCheckpoint(checkpoint, { device, threads: flags.threads });
    try {
      const examples = await readExamples(context, checkpoint, task, flags);
      const scores = await scoreAll(context, classifier, task, examples, null, progress);
      return { labels: checkpoint.config.labels as readonly string[], length: examples.length, scores };
    } finally {
      await classifier.close();
    }
  });
}

/** Scores every file on every example, with one model in memory at a time. */
async function scoreExport(context: Context, model: string, task: Task, flags: EvalTaskFlags): Promise<Found> {
  const { openExportedClassifier } = await import("../../../tasks/exported-classifier.ts");
  const { Classifier } = await import("../../../tasks/classify.ts");
  const { recordScores } = await import("../../../tasks/record-scores.ts");
  const exported = await openExportedClassifier(model, flags.precision);
  const { config, files } = exported;
  const examples = await readExamples(context, exported, task, flags);
  const device = await resolveDevice(context, flags, config, "run");
  const scores: Scored[] = [];
  const progress = await Progress.open(context.io, flags);
  try {
    for (const { precision, path } of files) {
      const classifier = await Classifier.ofFile(config, path, { device, threads: flags.threads });
      try {
        scores.push(...(await scoreAll(context, classifier, task, examples, precision, progress)));
      } finally {
        await classifier.close();
      }
    }
  } finally {
    progress.stop();
  }
  if (flags.record) {
    const found = scores.flatMap(({ precision, ...rest }) =>
      precision ? [{ ...rest, precision, task: task.name, length: examples.length }] : [],
    );
    const recorded = await recordScores(exported, found);
    if (recorded) note(context.io, flags, `scores noted in ${recorded} (--no-record leaves them out)`);
  }
  return { labels: config.labels as readonly string[], length: examples.length, scores };
}

interface Examples {
  /** Most tokens of a text. */
  length: number;
  files: { file: string; sha256: string; examples: EncodedExample[] }[];
}

/**
 * The task's development files as ids.
 * @throws NfcError "mismatch" for a classifier of other classes, "usage" for texts of more tokens than positions
 */
async function readExamples(
  { io, signal }: Context,
  { source, folder, config, record }: Pick<Checkpoint, "source" | "folder" | "config" | "record">,
  task: Task,
  flags: EvalTaskFlags,
): Promise<Examples> {
  const { listOutputs } = await import("../../../tasks/glue-tasks.ts");
  const { readTaskFile } = await import("../../../tasks/task-file.ts");
  const { checkTextLength, encodeExamples } = await import("../../../tasks/examples.ts");
  const { hasSameLabels } = await import("../../../model/classifier.ts");
  const { loadTokenizer } = await import("../../../checkpoint/tokenizer.ts");
  const labels = config.labels as readonly string[];
  const unnamed = labels.length === listOutputs(task).length && labels.every((label, id) => label === `LABEL_${id}`);
  if (unnamed)
    note(io, flags, `${source}: its classes have no names; they are taken for ${listOutputs(task).join(", ")}`);
  else if (!hasSameLabels(labels, listOutputs(task)))
    throw new NfcError(
      "mismatch",
      `${source}: classifies as ${labels.join(", ")}, ${task.title} is ${listOutputs(task).join(", ")}`,
      {
        hint: "name the task that it was trained on",
      },
    );
  const tokenizer = await loadTokenizer(folder, config);
  const length = flags.length ?? readTrainedLength(record, task) ?? Math.min(DEFAULT_LENGTH, config.n_positions);
  checkTextLength(length, config);
  const files = [];
  const skipped = new SkippedLines(flags);
  for (const file of task.dev) {
    const read = await readTaskFile(flags.data, file, task, { signal, ...skipped.reading });
    files.push({ file, sha256: read.sha256, examples: encodeExamples(read.examples, tokenizer, length) });
  }
  skipped.tell(io, flags);
  return { length, files };
}

/** The length of its fine-tuning on the task, so that texts are cut as in training. */
function readTrainedLength(record: Checkpoint["record"], task: Task): number | null {
  const step = record?.history.findLast((one) => one.task === task.name);
  const length = (step?.settings as { length?: unknown } | undefined)?.length;
  return typeof length === "number" && Number.isSafeInteger(length) && length > 0 ? length : null;
}

async function scoreAll(
  { signal }: Context,
  classifier: Classifier,
  task: Task,
  { length, files }: Examples,
  precision: Precision | null,
  progress: Progress,
): Promise<Scored[]> {
  const { scoreAnswers } = await import("../../../tasks/classify.ts");
  const scores: Scored[] = [];
  for (const { file, sha256, examples } of files) {
    const phase = `scoring ${file}${precision === null ? "" : `, ${precision}`}`;
    const onProgress = (event: ProgressEvent) => progress.show({ ...event, phase });
    const logits = await classifier.logits(examples, { length, signal, onProgress });
    scores.push({ file, sha256, precision, score: scoreAnswers(task, examples, logits) });
  }
  return scores;
}

/** A table for each file of the task, and the confusion matrix where only one model was scored. */
function formatResult(model: string, labels: readonly string[], scores: readonly Scored[]): string {
  const files = [...new Set(scores.map(({ file }) => file))];
  return files
    .flatMap((name) => {
      const rows = scores.filter(({ file }) => file === name);
      const named = rows.map(({ precision, score }) => ({ name: precision ?? model, score }));
      const [only] = rows.length === 1 ? rows : [];
      return [
        ...alignTable(formatScores(named), { align: "llrrr", rulesBefore: [1] }),
        ...(only?.score.confusion ? ["", ...formatConfusionTable(labels, only.score.confusion)] : []),
        `${formatCount(rows[0]?.score.examples ?? 0, "example")} of ${name}`,
      ];
    })
    .join("\n");
}

function formatConfusionTable(labels: readonly string[], counts: readonly (readonly number[])[]): string[] {
  return alignTable(formatConfusion(labels, counts), { align: `l${"r".repeat(labels.length)}`, rulesBefore: [1] });
}
