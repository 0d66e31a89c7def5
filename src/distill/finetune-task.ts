// Fine-tunes a model on a task of GLUE, or takes such a run up again: inputs, the run, and the classifier that it makes.
import { NfcError } from "../errors.ts";
import type { SessionOptions } from "../graph/session.ts";
import { type EncodedExample, encodeExamples } from "../inference/tasks/batches.ts";
import { Classifier, type TaskScore } from "../inference/tasks/classify.ts";
import type { TaskData } from "../inference/tasks/task-file.ts";
import { outputsOf, type Task } from "../inference/tasks/tasks.ts";
import { stageDirectory } from "../io/staging.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { refuseOwnSource } from "../model/own-source.ts";
import { loadTokenizer } from "../model/tokenizer.ts";
import type { LongCall } from "../progress.ts";
import { withHead } from "./classifier-head.ts";
import { ClassifierRun, classifierStateSchema } from "./classifier-run.ts";
import { type ClassifierSettings, classifierSettings } from "./classifier-settings.ts";
import { RunFolder } from "./run-folder.ts";
import { readTask, type TaskSource } from "./task-data.ts";
import { checkRun, fingerprint } from "./train.ts";
import { storeOf, type TrainedModel, writeTrainedModel } from "./trained-model.ts";

export interface FinetuneTaskOptions extends LongCall, TaskSource {
  output: string;
  settings?: Partial<ClassifierSettings>;
  /** A classifier of the same task. */
  teacher?: Checkpoint | null;
  resume?: boolean;
  force?: boolean;
  session?: SessionOptions;
  command?: readonly string[];
}

export interface FinetuneTaskResult extends TrainedModel {
  settings: ClassifierSettings;
  steps: number;
  best: { step: number; score: number };
  dev: TaskScore;
  /** Examples trained on. */
  examples: number;
  resumedFrom: number | null;
}

/**
 * While it runs, `OUTPUT.run` beside the output holds settings, checkpoint, best weights and metrics.
 * @throws NfcError "aborted" once the signal fires, after saving; "diverged"; "mismatch" for a resumed run whose settings
 * or inputs changed, or a teacher of other labels; "exists", "invalid-file", "not-found"
 */
export async function finetuneTask(source: Checkpoint, options: FinetuneTaskOptions): Promise<FinetuneTaskResult> {
  const { output, task, teacher = null, resume = false, session = {}, signal, command } = options;
  const seed = options.settings?.seed ?? 0;
  const { train, dev } = await readTask(options, seed);
  const settings = classifierSettings(task, source.config, train.examples.length, {
    ...(teacher && { kd: 0.5 }),
    ...options.settings,
  });
  checkTeacher(teacher, task, settings);
  await refuseOwnSource(output, source);
  const model = withHead(source, outputsOf(task), seed);
  const folder = new RunFolder(output, classifierStateSchema);
  const force = options.force || (resume && (await folder.hasEnded()));
  await (await stageDirectory(output, { force: force ?? false })).discard();
  const identity = {
    ...settings,
    variant: model.config.variant,
    model: await fingerprint(source, signal),
    teacher: teacher ? await fingerprint(teacher, signal) : null,
    data: train.sha256,
    "development data": dev.sha256,
  };
  await checkRun(folder, identity, { resume, force: force ?? false });
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const encoded = (data: TaskData) => encodeExamples(data.examples, tokenizer, settings.length);
  const examples = { train: encoded(train), dev: encoded(dev) };
  const store = await storeOf(model, (name) => !name.startsWith("lm_head."));
  const saved = resume ? await folder.load(store) : null;
  const parts = {
    ...{ task, settings, model, store, folder, session },
    ...examples,
    teacher: teacher && (await teacherLogits(teacher, examples.train, settings, options)),
    ...(options.onProgress && { onProgress: options.onProgress }),
    ...(signal && { signal }),
  };
  const run = await ClassifierRun.open(parts, saved);
  try {
    if (!resume) await folder.create(identity);
    const { best, dev: score } = await run.finish();
    const step = {
      step: "finetune",
      task: task.name,
      settings,
      best,
      data: { train: { file: train.name, examples: train.examples.length, sha256: train.sha256 } },
      dev: { file: dev.name, sha256: dev.sha256, ...score },
    };
    const written = await writeTrainedModel(model, store, {
      output,
      force: force ?? false,
      metrics: folder.metrics,
      step,
      ...(command && { command }),
    });
    await folder.remove();
    const { steps } = run;
    return {
      ...written,
      settings,
      steps,
      best,
      dev: score,
      examples: examples.train.length,
      resumedFrom: saved?.step ?? null,
    };
  } finally {
    await run.close();
  }
}

function checkTeacher(teacher: Checkpoint | null, task: Task, { kd }: ClassifierSettings): void {
  if (!teacher) {
    if (kd > 0) throw new NfcError("usage", "there is no teacher", { hint: "leave out --kd, or give --distill-from" });
    return;
  }
  const [own, theirs] = [outputsOf(task), teacher.config.labels];
  if (theirs && own.length === theirs.length && own.every((label, id) => label === theirs[id])) return;
  throw new NfcError(
    "mismatch",
    `${teacher.source}: ${theirs ? `classifies as ${theirs.join(", ")}` : "is a language model"}, not a teacher for ${task.title}`,
    { hint: `fine-tune it first: nfc finetune ${teacher.source} --task ${task.name}` },
  );
}

/** Once for all epochs: the teacher is in no noise, and sees no other order. */
async function teacherLogits(
  teacher: Checkpoint,
  train: readonly EncodedExample[],
  { length }: ClassifierSettings,
  { session = {}, signal, onProgress }: FinetuneTaskOptions,
): Promise<Float32Array> {
  const classifier = await Classifier.ofCheckpoint(teacher, session);
  try {
    return await classifier.logits(train, {
      length,
      signal,
      onProgress: (done) =>
        onProgress?.({ phase: "asking the teacher", done, total: train.length, unit: "steps", detail: teacher.source }),
    });
  } finally {
    await classifier.close();
  }
}
