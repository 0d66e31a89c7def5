// Says what fine-tuning on a task will take: plans the run, measures some of its real steps, and writes nothing.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../checkpoint/tokenizer.ts";
import { type DiskUse, estimateOutputBytes, estimateRunBytes } from "../../distill/disk-use.ts";
import { measure } from "../../distill/measure.ts";
import { withMatchingTeacher } from "../../distill/teacher/teacher.ts";
import { makeStore } from "../../distill/trained-model.ts";
import { throwIfAborted } from "../../errors.ts";
import { checkTarget, resolveTarget } from "../../io/output-guard.ts";
import { encodeExamples } from "../examples.ts";
import { type FinetuneTaskOptions, isTrainedOnTask, planTask } from "./finetune-task.ts";
import type { ClassifierSettings } from "./settings.ts";
import { TaskObjective } from "./task-objective.ts";

/** Seconds that are measured in all, and the share of steps and of scoring. */
const SECONDS = 10;
const SHARES = { train: 0.85, score: 0.15 };
/** Development examples that are scored at a time. */
const SCORED_EXAMPLES = 64;

/** What a run on a task will take at most: it ends before where the score does not get better. */
export interface TaskDryRun {
  output: string;
  settings: ClassifierSettings;
  /** Steps to come, and those that are done. */
  steps: { train: number; done: number };
  /** Examples of the training set. */
  examples: number;
  /** Scorings of the development set, and its examples. */
  evaluations: { count: number; examples: number };
  /** Seconds of a step or an evaluation, and of all; `prepare` is reading, and asking the teacher. */
  seconds: { step: number; evaluation: number; prepare: number; total: number };
  /** Most memory that this process has held while it took these steps. */
  memoryBytes: number;
  diskBytes: DiskUse;
}

/** Takes some real steps for about so many seconds. @throws NfcError as `finetuneTask` before its first step */
export async function dryRunTask(
  source: Checkpoint,
  given: FinetuneTaskOptions,
  seconds = SECONDS,
): Promise<TaskDryRun> {
  const started = performance.now();
  const options = await withMatchingTeacher(source, given);
  const { folder, settings, model, parts, force } = await planTask(source, options);
  const { output, task, teacher = null, session = {}, resume = false, signal, onProgress } = options;
  await checkTarget(await resolveTarget(output), output, force);
  if (!resume) await folder.refuseOccupied(force);
  const done = Math.max(settings.extendedFrom, resume && folder.exists() ? await folder.readStep() : 0);
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const train = encodeExamples(parts.train.examples, tokenizer, settings.length);
  const dev = encodeExamples(parts.dev.examples.slice(0, SCORED_EXAMPLES), tokenizer, settings.length);
  const store = await makeStore(model, isTrainedOnTask, { session });
  // The teacher's logits decide the values of a step, not its time.
  const asked = teacher !== null && settings.kd > 0;
  const logits = asked ? new Float32Array(train.length * (model.config.labels ?? []).length) : null;
  const objective = await TaskObjective.open({
    task,
    settings,
    model,
    store,
    session,
    signal,
    train,
    dev,
    teacher: logits,
  });
  try {
    const opened = performance.now();
    const step = await measure(SHARES.train * seconds, async (index, spent) => {
      throwIfAborted(signal);
      const total = Math.ceil(SHARES.train * seconds);
      onProgress?.({ phase: "measuring steps", done: Math.min(total, Math.floor(spent)), total, unit: "steps" });
      store.clearTotals();
      const { optimizer } = await objective.prepareStep(index % objective.steps);
      await optimizer.update(0, await optimizer.norm());
    });
    const example = (await measure(SHARES.score * seconds, () => objective.score({ interval: false }))) / dev.length;
    const steps = { train: objective.steps - done, done };
    const count = countEvaluations(objective, done) + 1; // the kept weights are scored once more
    const evaluation = example * parts.dev.examples.length;
    const prepare = (opened - started) / 1000 + (asked ? example * train.length : 0);
    const total = prepare + steps.train * step + count * evaluation;
    return {
      ...{ output, settings, steps, examples: train.length },
      evaluations: { count, examples: parts.dev.examples.length },
      seconds: { step, evaluation, prepare, total },
      memoryBytes: process.resourceUsage().maxRSS * 1024,
      diskBytes: {
        run: estimateRunBytes(store, objective.steps),
        output: estimateOutputBytes(model, { rounds: false }),
        cache: 0,
      },
    };
  } finally {
    await objective.close();
    await store.close();
  }
}

function countEvaluations(objective: TaskObjective, done: number): number {
  let count = 0;
  for (let step = done + 1; step <= objective.steps; step++)
    if (step === objective.steps || objective.isEvaluated(step)) count++;
  return count;
}
