// Trains a model on text, or goes on with such a run: checks the inputs, opens the corpora, and writes the model.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { refuseOwnSource } from "../checkpoint/source-guard.ts";
import { loadTokenizer } from "../checkpoint/tokenizer.ts";
import { NfcError } from "../errors.ts";
import type { SessionOptions } from "../graph/session.ts";
import { stageDirectory } from "../io/staging.ts";
import { refuseClassifier } from "../model/classifier.ts";
import type { LongCall } from "../progress.ts";
import { detectCorpusKind, findCorpusFiles } from "./data/corpus.ts";
import { TokenCorpus } from "./data/token-cache.ts";
import { holdOut, type TokenRange } from "./data/windows.ts";
import { type FreshOptions, makeFreshModel } from "./fresh-model.ts";
import type { Given } from "./resolve-settings.ts";
import { RunFolder, type RunIdentity, type RunState, textStateSchema } from "./run-folder.ts";
import { claimRun, fingerprintModel } from "./run-identity.ts";
import { checkTeacherFits } from "./teacher/teacher.ts";
import { TextObjective } from "./text-objective.ts";
import { canTransfer, resolveTrainSettings, type TrainMode, type TrainSettings } from "./train-settings.ts";
import { loadStore, type TrainedModel, writeTrainedModel } from "./trained-model.ts";
import { TrainingLoop } from "./training-loop.ts";

const DEFAULT_SAVE_EVERY = 50;

export interface TrainOptions extends LongCall {
  output: string;
  /** Decides the defaults of the settings: "distill" with a teacher and "finetune" without one, unless given. */
  task?: TrainMode | undefined;
  settings?: Given<TrainSettings> | undefined;
  /** Files, folders and globs of training text, or token ids. */
  data: readonly string[];
  /** Files, folders and globs of held-out text; the end of `data` unless given. */
  heldOut?: readonly string[] | undefined;
  /** Field of .jsonl lines that holds the text. */
  field?: string | undefined;
  /** Folder of the token cache. */
  cache?: string | undefined;
  teacher?: Checkpoint | null | undefined;
  /** Steps between checkpoints; 50 unless given. */
  saveEvery?: number | undefined;
  resume?: boolean | undefined;
  force?: boolean | undefined;
  session?: SessionOptions | undefined;
  /** The command line, for the record of what nfc's own commands write. @internal */
  command?: readonly string[] | undefined;
}

export interface TrainResult extends TrainedModel {
  settings: TrainSettings;
  /** Held-out perplexity: of the teacher, before the first step, and of the model that is kept. */
  perplexity: { teacher: number | null; before: number; after: number };
  best: { step: number; perplexity: number };
  heldOutTokens: number;
  tokens: number;
  resumedFrom: number | null;
}

/**
 * Trains a model. While it runs, `OUTPUT.run` beside the output holds settings, checkpoint, best weights and metrics;
 * at the end the best weights become the output and that folder goes.
 * @throws NfcError "aborted" once the signal fires, after saving; "diverged" when the loss or its gradient is not finite
 * (the last checkpoint stays); "mismatch" for a resumed run whose settings or inputs changed, "exists", "invalid-file",
 * "usage" for settings that do not go together
 */
export async function train(student: Checkpoint, options: TrainOptions): Promise<TrainResult> {
  const { output, resume = false, teacher = null, signal } = options;
  for (const model of teacher ? [student, teacher] : [student]) refuseClassifier(model);
  const task = options.task ?? options.settings?.task ?? (teacher ? "distill" : "finetune");
  const settings = resolveTrainSettings(task, student.config, options.settings, teacher?.config);
  checkTeacher(student, teacher, settings);
  const files = await findCorpusFiles(options.data);
  const heldOutFiles = options.heldOut ? await findCorpusFiles(options.heldOut) : null;
  await refuseOwnSource(output, student, [...files, ...(heldOutFiles ?? [])]);
  if (teacher) await refuseOwnSource(output, teacher);
  const folder = new RunFolder(output, textStateSchema);
  const force = options.force || (resume && (await folder.hasEnded()));
  // An output that is there already is refused before hours are spent.
  await (await stageDirectory(output, { force })).discard();
  const corpus = await openCorpus(files, student, options);
  let separate: TokenCorpus | null = null;
  try {
    separate = heldOutFiles ? await openCorpus(heldOutFiles, student, options) : null;
    const split = separate ? { train: whole(corpus), heldOut: whole(separate) } : holdOut(corpus, settings.length);
    const identity = {
      ...settings,
      variant: student.config.variant,
      model: await fingerprintModel(student, signal),
      teacher: teacher ? await fingerprintModel(teacher, signal) : null,
      data: corpus.fingerprint,
      "held-out data": separate?.fingerprint ?? null,
    };
    await claimRun(folder, identity, { resume, force: options.force ?? false });
    try {
      return await run(student, { ...options, force }, { folder, identity, settings, split });
    } finally {
      await folder.release();
    }
  } finally {
    await corpus.close();
    await separate?.close();
  }
}

/** `settings.seed` decides the weights as well as the windows. */
export interface PretrainOptions extends Omit<FreshOptions, "seed">, Omit<TrainOptions, "teacher" | "task"> {}

/** Trains a model of any variant from random weights. @throws NfcError as `makeFreshModel` and `train` */
export async function pretrain(options: PretrainOptions): Promise<TrainResult> {
  const { config, variant, tokenizerFolder, ...rest } = options;
  const model = await makeFreshModel({ config, variant, tokenizerFolder, seed: rest.settings?.seed ?? 0 });
  return train(model, { ...rest, task: "pretrain" });
}

/** A run whose folder this process holds. */
interface RunPlan {
  folder: RunFolder<RunState>;
  identity: RunIdentity;
  settings: TrainSettings;
  split: { train: TokenRange; heldOut: TokenRange };
}

async function run(
  student: Checkpoint,
  options: TrainOptions,
  { folder, identity, settings, split }: RunPlan,
): Promise<TrainResult> {
  const { output, teacher = null, session = {}, resume, saveEvery = DEFAULT_SAVE_EVERY } = options;
  const { cache, force = false, command, onProgress, signal } = options;
  const store = await loadStore(student, settings);
  const saved = resume ? await folder.load(store) : null;
  if (saved) checkTokens(folder, saved, settings);
  const parts = { student, teacher, settings, store, split, session, cache, onProgress, signal };
  const objective = await TextObjective.open(parts);
  try {
    const state = saved ?? (await objective.begin());
    if (!resume) await folder.create(identity);
    const loop = new TrainingLoop<RunState>(
      objective,
      { folder, store, saveEvery, signal },
      state,
      saved?.step ?? null,
    );
    const { best, tokens, before, teacher: taught } = await loop.finish();
    const perplexity = { teacher: taught, before, after: best.perplexity };
    const { corpus, start: from, end } = split.heldOut;
    const heldOutTokens = Math.min(settings.evalTokens, end - from);
    const heldOut = { data: corpus.name, tokens: heldOutTokens, perplexity };
    const step = { step: settings.task, settings, tokens, best, held_out: heldOut };
    const model = await writeTrainedModel(student, store, { output, force, metrics: folder.metrics, step, command });
    await folder.remove();
    const resumedFrom = resume ? (saved?.step ?? 0) : null;
    return { ...model, settings, perplexity, best, heldOutTokens, tokens, resumedFrom };
  } finally {
    await objective.close();
  }
}

/** @throws NfcError "invalid-file" for a count of tokens that so many steps do not have */
function checkTokens({ path }: RunFolder<RunState>, saved: RunState, settings: TrainSettings): void {
  const { batchSize, accumulate, length } = settings;
  const tokens = saved.step * batchSize * accumulate * length;
  if (saved.tokens === tokens) return;
  const fact = `${saved.tokens} tokens after step ${saved.step}, which has ${tokens}`;
  throw new NfcError("invalid-file", `${path}: the saved state is impossible: ${fact}`, {
    hint: `the run cannot go on: remove ${path} and start it again`,
  });
}

const whole = (corpus: TokenCorpus): TokenRange => ({ corpus, start: 0, end: corpus.tokens });

async function openCorpus(files: readonly string[], student: Checkpoint, options: TrainOptions): Promise<TokenCorpus> {
  const { field, cache, onProgress, signal } = options;
  const tokenizer = detectCorpusKind(files) === "text" ? await loadTokenizer(student.folder, student.config) : null;
  const vocabulary = student.config.vocab_size;
  return TokenCorpus.open(files, tokenizer, { vocabulary, field, cache, onProgress, signal });
}

/** @throws NfcError "mismatch" where the two cannot be compared token by token, "usage" for settings without a teacher */
function checkTeacher(student: Checkpoint, teacher: Checkpoint | null, settings: TrainSettings): void {
  const { kd, transferSteps, length } = settings;
  if (!teacher) {
    if (kd > 0 || transferSteps > 0)
      throw new NfcError("usage", "there is no teacher", { hint: "set kd and transferSteps to 0" });
    return;
  }
  checkTeacherFits(student, teacher, length);
  if (transferSteps > 0 && !canTransfer(student.config, teacher.config))
    throw new NfcError(
      "mismatch",
      `${student.source} and its teacher ${teacher.source} differ in layers, heads or width`,
      { hint: "no attention can be transferred: give --transfer-steps 0" },
    );
}
