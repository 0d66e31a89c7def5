// nfc eval --task: a classifier's metrics on a task of GLUE, with intervals and the confusion matrix.
import { NfcError } from "../../errors.ts";
import { alignTable, plural } from "../../export/format.ts";
import type { TaskScore } from "../../inference/tasks/classify.ts";
import type { Context } from "../context.ts";
import { withCheckpoint } from "../open.ts";
import { confusionLines, scoreLines } from "../task-table.ts";
import { printResult } from "../terminal.ts";
import type { EvalFlags } from "./eval.ts";

const DEFAULT_LENGTH = 128;

export async function evalTask(context: Context, model: string, flags: EvalFlags & { task: string }): Promise<void> {
  const { taskOf, outputsOf } = await import("../../inference/tasks/tasks.ts");
  const { readTaskFile } = await import("../../inference/tasks/task-file.ts");
  const { encodeExamples } = await import("../../inference/tasks/batches.ts");
  const { Classifier, scoreOf } = await import("../../inference/tasks/classify.ts");
  const { loadTokenizer } = await import("../../model/tokenizer.ts");
  const { data } = flags;
  if (data === undefined)
    throw new NfcError("usage", "--task needs --data", { hint: "name the folder of the task's files" });
  if (flags.text || flags.precision || flags.against)
    throw new NfcError("usage", "--task goes with --data alone, not with --text, --precision or --against", {
      hint: "leave them out",
    });
  const task = taskOf(flags.task);
  await withCheckpoint(context, model, flags, async (checkpoint, progress) => {
    const { config } = checkpoint;
    const { threads } = flags;
    const classifier = await Classifier.ofCheckpoint(checkpoint, threads === undefined ? {} : { threads });
    try {
      const [labels, wanted] = [config.labels as readonly string[], outputsOf(task)];
      if (labels.length !== wanted.length)
        throw new NfcError(
          "mismatch",
          `${model}: has ${plural(labels.length, "output")}, ${task.title} ${wanted.length}`,
          {
            hint: "name the task that it was trained on",
          },
        );
      const tokenizer = await loadTokenizer(checkpoint.folder, config);
      const length = flags.length ?? Math.min(DEFAULT_LENGTH, config.n_positions);
      const scores: { file: string; score: TaskScore }[] = [];
      for (const file of task.dev) {
        const read = await readTaskFile(data, file, task, context.signal);
        const examples = encodeExamples(read.examples, tokenizer, length);
        const logits = await classifier.logits(examples, {
          length,
          signal: context.signal,
          onProgress: (done) =>
            progress.show({ phase: `scoring ${file}`, done, total: examples.length, unit: "steps" }),
        });
        scores.push({ file, score: scoreOf(task, examples, logits) });
      }
      progress.stop();
      const json = { model, task: task.name, length, files: scores.map(({ file, score }) => ({ file, ...score })) };
      printResult(context.io, flags, json, () => textOf(model, labels, scores));
    } finally {
      await classifier.close();
    }
  });
}

function textOf(
  model: string,
  labels: readonly string[],
  scores: readonly { file: string; score: TaskScore }[],
): string {
  return scores
    .flatMap(({ file, score }) => [
      ...alignTable(scoreLines([{ name: model, score }]), { align: "llrrr", rulesBefore: [1] }),
      ...(score.confusion
        ? [
            "",
            ...alignTable(confusionLines(labels, score.confusion), {
              align: `l${"r".repeat(labels.length)}`,
              rulesBefore: [1],
            }),
          ]
        : []),
      `${plural(score.examples, "example")} of ${file}`,
    ])
    .join("\n");
}
