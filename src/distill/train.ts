// Trains a model on text, or goes on with such a run: checks the inputs, opens the corpora, and writes the model.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { collectModelFiles } from "../checkpoint/collect-files.ts";
import { loadTokenizer } from "../checkpoint/tokenizer.ts";
import type { SessionOptions } from "../graph/session.ts";
import { detectCommonKind } from "../io/data-file.ts";
import { stageDirectory } from "../io/staging.ts";
import type { LongCall } from "../progress.ts";
import { TokenCorpus } from "./data/token-cache.ts";
import { holdOut, type TokenRange } from "./data/windows.ts";
import type { RunParameters } from "./device/open-parameters.ts";
import { type FinishedTextRun, FREE_SETTINGS, makeExtendedState } from "./extend-text.ts";
import { checkExtension, loadBegunState } from "./extension.ts";
import { type FreshOptions, makeFreshModel } from "./fresh-model.ts";
import type { Given } from "./resolve-settings.ts";
import type { RunFolder, RunIdentity, RunState } from "./run-folder.ts";
import { claimRun, fingerprintModel } from "./run-identity.ts";
import { planRun, type RunPlan } from "./run-plan.ts";
import { withMatchingTeacher } from "./teacher/teacher.ts";
import { TextObjective } from "./text-objective.ts";
import type { TrainMode, TrainSettings } from "./train-settings.ts";
import { BITS_INPUT, chooseBits, readBits } from "./trained-bits.ts";
import { describeQuantization, loadStore, type TrainedModel, writeTrainedModel } from "./trained-model.ts";
import { makeImpossibleStateError, TrainingLoop } from "./training-loop.ts";
import type { LayerMap } from "./transfer-match.ts";

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
export async function train(student: Checkpoint, given: TrainOptions): Promise<TrainResult> {
  const options = await withMatchingTeacher(student, given);
  const plan = await planRun(student, options);
  const { folder, settings, force } = plan;
  // An output that is there already is refused before hours are spent.
  await (await stageDirectory(options.output, { force })).discard();
  await collectModelFiles(student.folder); // so is a damaged file that goes with the model
  const corpus = await openCorpus(plan.files, student, options);
  let separate: TokenCorpus | null = null;
  try {
    separate = plan.heldOutFiles ? await openCorpus(plan.heldOutFiles, student, options) : null;
    const split = separate ? { train: whole(corpus), heldOut: whole(separate) } : holdOut(corpus, settings.length);
    const extending = plan.extended !== null && !folder.exists();
    const fingerprints = await fingerprintInputs(student, options, { corpus, separate, layers: plan.layers });
    const inputs = { ...fingerprints, ...(await findBits(student, options, plan, split.train)) };
    const identity = { ...settings, ...inputs };
    if (plan.extended && extending) checkExtension(plan.extended, identity, FREE_SETTINGS);
    const resume = (options.resume ?? false) && !extending;
    await claimRun(folder, identity, { resume, force: options.force ?? false });
    try {
      return await run(student, options, { ...plan, identity, inputs, split });
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
  const { config, variant, qkRank, tokenizerFolder, ...rest } = options;
  const model = await makeFreshModel({ config, variant, qkRank, tokenizerFolder, seed: rest.settings?.seed ?? 0 });
  return train(model, { ...rest, task: "pretrain" });
}

/** A run whose folder this process holds. */
interface ClaimedRun extends RunPlan {
  identity: RunIdentity;
  inputs: RunIdentity;
  split: { train: TokenRange; heldOut: TokenRange };
}

async function run(student: Checkpoint, options: TrainOptions, claimed: ClaimedRun): Promise<TrainResult> {
  const { session = {}, onProgress } = options;
  const mixedBits = readBits(claimed.inputs, claimed.folder.path);
  const store = await loadStore(student, claimed.settings, { session, mixedBits, onProgress });
  try {
    return await runWith(store, student, options, claimed);
  } finally {
    await store.close();
  }
}

async function runWith(
  store: RunParameters,
  student: Checkpoint,
  options: TrainOptions,
  claimed: ClaimedRun,
): Promise<TrainResult> {
  const { folder, settings, layers, split, force, inputs, extended } = claimed;
  const { output, teacher = null, session = {}, resume = false, saveEvery = DEFAULT_SAVE_EVERY } = options;
  const { cache, command, onProgress, signal } = options;
  const makeState = (finished: FinishedTextRun) => makeExtendedState(finished, settings);
  const check = (state: RunState) => checkTokens(folder, state, settings);
  const saved = resume ? await loadBegunState(folder, claimed.identity, store, { extended, makeState, check }) : null;
  const parts = { student, teacher, settings, layers, store, split, session, cache, onProgress, signal };
  const objective = await TextObjective.open(parts);
  try {
    const state = saved ?? (await objective.begin());
    if (!resume) await folder.create(claimed.identity);
    const savedStep = saved?.step ?? null;
    const loopOptions = { folder, store, saveEvery, signal, onProgress };
    const loop = new TrainingLoop<RunState>(objective, loopOptions, state, savedStep);
    const { best, tokens, before, teacher: taught } = await loop.finish();
    const perplexity = { teacher: taught, before, after: best.perplexity };
    const { corpus, start: from, end } = split.heldOut;
    const heldOutTokens = Math.min(settings.evalTokens, end - from);
    const heldOut = { data: corpus.name, tokens: heldOutTokens, perplexity };
    const step = { step: settings.task, settings, inputs, tokens, best, held_out: heldOut };
    const origin = { ...student, record: claimed.past ?? student.record };
    const { metrics } = folder;
    const quantization = describeQuantization(settings, readBits(inputs, folder.path));
    const written = { output, force, metrics, step, quantization, command, onProgress };
    const model = await writeTrainedModel(origin, store, written);
    await folder.remove();
    const resumedFrom = resume ? (savedStep ?? 0) : null;
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
  throw makeImpossibleStateError(path, fact);
}

const whole = (corpus: TokenCorpus): TokenRange => ({ corpus, start: 0, end: corpus.tokens });

async function openCorpus(files: readonly string[], student: Checkpoint, options: TrainOptions): Promise<TokenCorpus> {
  const { field, cache, session, onProgress, signal } = options;
  const tokenizer =
    (await detectCommonKind(files)) === "text" ? await loadTokenizer(student.folder, student.config) : null;
  const vocabulary = student.config.vocab_size;
  return TokenCorpus.open(files, tokenizer, {
    vocabulary,
    field,
    cache,
    threads: session?.threads,
    onProgress,
    signal,
  });
}

/** The bits of the run that goes on, or else those that are chosen now. */
async function findBits(
  student: Checkpoint,
  { resume = false, session, signal, onProgress }: TrainOptions,
  { folder, settings, extended }: RunPlan,
  text: TokenRange,
): Promise<Record<string, string>> {
  const begun = resume && folder.exists() ? await folder.identity() : extended?.entry.inputs;
  const known = begun?.[BITS_INPUT];
  if (typeof known === "string") return { [BITS_INPUT]: known };
  return chooseBits(student, { settings, text, threads: session?.threads, signal, onProgress });
}

/** The hashes by which a run knows its inputs. */
async function fingerprintInputs(
  student: Checkpoint,
  { teacher = null, signal, onProgress }: TrainOptions,
  { corpus, separate, layers }: { corpus: TokenCorpus; separate: TokenCorpus | null; layers: LayerMap },
): Promise<Record<string, string | null>> {
  const moved = layers?.some((layer, i) => layer !== i);
  return {
    variant: student.config.variant,
    model: await fingerprintModel(student, signal, onProgress),
    teacher: teacher ? await fingerprintModel(teacher, signal, onProgress) : null,
    data: corpus.fingerprint,
    "held-out data": separate?.fingerprint ?? null,
    ...(moved && { "teacher's layers": String(layers) }),
  };
}
