// Fine-tunes a model on a task of GLUE, or goes on with such a run: reads the inputs, trains, and writes the classifier.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { collectModelFiles } from "../../checkpoint/collect-files.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { refuseOwnSource } from "../../checkpoint/source-guard.ts";
import { loadTokenizer } from "../../checkpoint/tokenizer.ts";
import type { RunParameters } from "../../distill/device/open-parameters.ts";
import { checkExtension, findBegunRun, loadBegunState } from "../../distill/extension.ts";
import type { Given } from "../../distill/resolve-settings.ts";
import { RunFolder, type RunIdentity } from "../../distill/run-folder.ts";
import { claimRun, fingerprintModel, listChangedSettings } from "../../distill/run-identity.ts";
import { checkTeacherFits, withMatchingTeacher } from "../../distill/teacher/teacher.ts";
import { makeStore, type TrainedModel, writeTrainedModel } from "../../distill/trained-model.ts";
import { TrainingLoop } from "../../distill/training-loop.ts";
import { NfcError } from "../../errors.ts";
import { checkProducts } from "../../graph/check-products.ts";
import type { SessionOptions } from "../../graph/session.ts";
import { formatCommand } from "../../io/printable.ts";
import { stageDirectory } from "../../io/staging.ts";
import { hasSameLabels } from "../../model/classifier.ts";
import type { LongCall } from "../../progress.ts";
import { Classifier, type TaskScore } from "../classify.ts";
import { type EncodedExample, encodeExamples } from "../examples.ts";
import { listOutputs, type Task } from "../glue-tasks.ts";
import type { TaskData } from "../task-file.ts";
import { addHead } from "./classifier-head.ts";
import { type FinishedTaskRun, FREE_SETTINGS, makeExtendedState, taskRuns } from "./extend-task.ts";
import { type ClassifierSettings, resolveClassifierSettings } from "./settings.ts";
import { readTask, type TaskParts, type TaskSource } from "./task-data.ts";
import { beginState, type ClassifierState, classifierStateSchema, TaskObjective } from "./task-objective.ts";

const SAVE_EVERY = 200;

export interface FinetuneTaskOptions extends LongCall, TaskSource {
  output: string;
  settings?: Given<ClassifierSettings> | undefined;
  /** A classifier of the same task. */
  teacher?: Checkpoint | null | undefined;
  /** "if-same" goes on with a run of the same settings and inputs, and starts any other over. */
  resume?: boolean | "if-same" | undefined;
  force?: boolean | undefined;
  session?: SessionOptions | undefined;
  /** The command line, for the record of what nfc's own commands write. @internal */
  command?: readonly string[] | undefined;
}

export interface FinetuneTaskResult extends TrainedModel {
  settings: ClassifierSettings;
  steps: number;
  /** The score is null where the metric is not defined. */
  best: { step: number; score: number | null };
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
export async function finetuneTask(source: Checkpoint, given: FinetuneTaskOptions): Promise<FinetuneTaskResult> {
  const options = await withMatchingTeacher(source, given);
  const plan = await planTask(source, options);
  const { folder, identity, force } = plan;
  await (await stageDirectory(options.output, { force })).discard();
  const resume = options.resume === "if-same" ? await isSameRun(folder, identity) : (options.resume ?? false);
  const extending = plan.extended !== null && !folder.exists();
  if (plan.extended && extending) checkExtension(plan.extended, identity, FREE_SETTINGS);
  await claimRun(folder, identity, { resume: resume && !extending, force: force && !extending });
  try {
    return await run(plan, { ...options, resume });
  } finally {
    await folder.release();
  }
}

/** Whether the folder holds a run of this identity; one whose settings cannot be read counts as another. */
async function isSameRun(folder: RunFolder<ClassifierState>, identity: RunIdentity): Promise<boolean> {
  if (!folder.exists()) return false;
  const known = await folder.identity().catch((error: unknown) => {
    if (error instanceof NfcError) return null;
    throw error;
  });
  return known !== null && listChangedSettings(known, identity).length === 0;
}

/** A run before anything is written. */
export interface TaskPlan {
  settings: ClassifierSettings;
  /** The model with the head of the task. */
  model: Checkpoint;
  folder: RunFolder<ClassifierState>;
  parts: TaskParts;
  identity: RunIdentity;
  inputs: RunIdentity;
  force: boolean;
  /** The finished run that this one extends. */
  extended: FinishedTaskRun | null;
  /** The record that the new model's continues, where it is not the source's. */
  past: NfcRecord | null;
}

/** Reads and checks all inputs. */
export async function planTask(source: Checkpoint, options: FinetuneTaskOptions): Promise<TaskPlan> {
  const { output, task, teacher = null, signal } = options;
  const resume = options.resume === true;
  const folder = new RunFolder(output, classifierStateSchema);
  const { extended, past, ...begun } = await findBegunRun(folder, taskRuns(task), {
    ...{ output, resume },
    given: options.settings ?? {},
  });
  const seed = begun.settings.seed ?? 0;
  const parts = await readTask(options, seed);
  const context = { task, config: source.config, examples: parts.train.examples.length, hasTeacher: teacher !== null };
  const settings = resolveClassifierSettings(context, begun.settings);
  checkTeacher(source, teacher, task, settings);
  await checkProducts(settings.devicePrecision, options.session);
  await refuseOwnSource(output, source);
  const model = addHead(source, listOutputs(task), seed);
  const force = (options.force ?? false) || extended !== null || (resume && (await folder.hasEnded()));
  await collectModelFiles(model.folder); // a damaged file that goes with the model shows before the work
  const inputs = {
    variant: model.config.variant,
    model: await fingerprintModel(source, signal, options.onProgress),
    teacher: teacher ? await fingerprintModel(teacher, signal, options.onProgress) : null,
    data: parts.train.sha256,
    "development data": parts.dev.sha256,
  };
  return { settings, model, folder, parts, identity: { ...settings, ...inputs }, inputs, force, extended, past };
}

async function run(plan: TaskPlan, options: FinetuneTaskOptions & { resume: boolean }): Promise<FinetuneTaskResult> {
  const { settings, model } = plan;
  const { train, dev } = plan.parts;
  const { session = {}, onProgress } = options;
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const encode = (data: TaskData) => encodeExamples(data.examples, tokenizer, settings.length);
  const store = await makeStore(model, isTrainedOnTask, { session, onProgress });
  try {
    return await runWith(store, plan, options, { train: encode(train), dev: encode(dev) });
  } finally {
    await store.close();
  }
}

async function runWith(
  store: RunParameters,
  plan: TaskPlan,
  options: FinetuneTaskOptions & { resume: boolean },
  examples: { train: EncodedExample[]; dev: EncodedExample[] },
): Promise<FinetuneTaskResult> {
  const { settings, model, folder, identity, inputs, force, extended } = plan;
  const { train, dev } = plan.parts;
  const { output, task, teacher = null, resume, session = {}, signal, command, onProgress } = options;
  const makeState = (finished: FinishedTaskRun) => makeExtendedState(finished, settings);
  const saved = resume ? await loadBegunState(folder, identity, store, { extended, makeState }) : null;
  const asked = teacher && settings.kd > 0;
  const objective = await TaskObjective.open({
    ...{ task, settings, model, store, session, onProgress, signal },
    ...examples,
    teacher: asked ? await computeTeacherLogits(teacher, examples.train, settings, options) : null,
  });
  try {
    if (!resume) await folder.create(identity);
    const savedStep = saved?.step ?? null;
    const resumedFrom = resume ? (savedStep ?? 0) : null;
    const loopOptions = { folder, store, saveEvery: SAVE_EVERY, signal, onProgress };
    const loop = new TrainingLoop<ClassifierState>(objective, loopOptions, saved ?? beginState(settings), savedStep);
    const { best, step: steps } = await loop.finish();
    const score = await loop.orStop(objective.score({ interval: true }));
    const step = {
      step: "finetune",
      task: task.name,
      ...{ settings, inputs, steps, best },
      data: { train: { file: train.name, examples: train.examples.length, sha256: train.sha256 } },
      dev: { file: dev.name, sha256: dev.sha256, ...score },
    };
    const { metrics } = folder;
    const written = await writeTrainedModel({ ...model, record: plan.past ?? model.record }, store, {
      ...{ output, force, metrics, step, command, onProgress },
    });
    await folder.remove();
    const count = examples.train.length;
    return { ...written, settings, steps: objective.steps, best, dev: score, examples: count, resumedFrom };
  } finally {
    await objective.close();
  }
}

/** A language model's own head plays no part in a classifier. */
export const isTrainedOnTask = (name: string) => !name.startsWith("lm_head.");

/**
 * @throws NfcError "usage" where there is no teacher but `kd` asks for one, "mismatch" for a teacher of other classes or
 * tokens, or with too few positions
 */
function checkTeacher(
  student: Checkpoint,
  teacher: Checkpoint | null,
  task: Task,
  { kd, length }: ClassifierSettings,
): void {
  if (!teacher) {
    if (kd > 0) throw new NfcError("usage", "there is no teacher", { hint: "leave out --kd, or give --distill-from" });
    return;
  }
  const theirs = teacher.config.labels;
  if (!hasSameLabels(theirs, listOutputs(task)))
    throw new NfcError(
      "mismatch",
      `${teacher.source}: ${theirs ? `classifies as ${theirs.join(", ")}` : "is a language model"}, not a teacher for ${task.title}`,
      { hint: `fine-tune it first: ${formatCommand(["nfc", "finetune", teacher.source, "--task", task.name])}` },
    );
  checkTeacherFits(student, teacher, length);
}

/** Computes the teacher's logits once for all epochs: they do not depend on noise or the order of the examples. */
async function computeTeacherLogits(
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
      onProgress: (event) => onProgress?.({ ...event, phase: "asking the teacher", detail: teacher.source }),
    });
  } finally {
    await classifier.close();
  }
}
