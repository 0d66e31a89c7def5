// Says what a run on text will take: plans it, measures some of its real steps, and writes nothing.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { loadTokenizer } from "../checkpoint/tokenizer.ts";
import { throwIfAborted } from "../errors.ts";
import { detectCommonKind } from "../io/data-file.ts";
import { openAll } from "../io/open-all.ts";
import { checkTarget, resolveTarget } from "../io/output-guard.ts";
import type { LongCall } from "../progress.ts";
import { countTokenFlops, type TokenFlops } from "./cost.ts";
import { type CorpusSample, sampleText } from "./data/sample.ts";
import { TokenCorpus } from "./data/token-cache.ts";
import { Batches, holdOut, type TokenRange } from "./data/windows.ts";
import { type DiskUse, estimateCache, estimateOutputBytes, estimateRunBytes } from "./disk-use.ts";
import { countEvaluationsAfter } from "./evaluation-plan.ts";
import { openHeldOut } from "./held-out.ts";
import { measure } from "./measure.ts";
import { openPhase, type PhaseContext } from "./phases.ts";
import { planRun, type RunPlan } from "./run-plan.ts";
import { withMatchingTeacher } from "./teacher/teacher.ts";
import type { TrainOptions } from "./train.ts";
import type { TrainSettings } from "./train-settings.ts";
import { loadStore } from "./trained-model.ts";

/** Seconds that are measured in all, and the share of each phase's steps and of scoring. */
const SECONDS = 10;
const SHARES = { transfer: 0.3, train: 0.55, score: 0.15 };
/** Tokens of a text that are read; windows are taken from them again and again. */
const SAMPLE_TOKENS = 200_000;
/** Windows that are scored at a time. */
const SCORED_WINDOWS = 4;

/** What a run will take. Seconds are estimates from what was measured; a count of 0 is of a phase that the run lacks. */
export interface DryRun {
  output: string;
  settings: TrainSettings;
  /** Steps to come, and the tokens in them. */
  steps: { transfer: number; train: number; done: number };
  tokens: number;
  /** Tokens of the training text; estimated from a part of it unless `exact`. */
  text: { tokens: number; exact: boolean };
  /** How often the run goes through the training text. */
  epochs: number;
  /** Scorings of held-out text, and the tokens of each. */
  evaluations: { count: number; tokens: number };
  /** Seconds of a step or an evaluation, and of all. `prepare` is tokenizing and opening the models. */
  seconds: { transferStep: number; trainStep: number; evaluation: number; prepare: number; total: number };
  /** Operations of a token of training, by the sizes of the models. */
  flopsPerToken: TokenFlops;
  /** What training made of them on this machine; null for a run without steps of training. */
  rate: { flopsPerSecond: number; tokensPerSecond: number } | null;
  /** Most memory that this process has held while it took these steps. */
  memoryBytes: number;
  diskBytes: DiskUse;
}

/**
 * Takes some real steps of a run, each of one micro-batch, for about so many seconds; one of a large model takes longer.
 * @throws NfcError as `train` before its first step
 */
export async function dryRun(student: Checkpoint, given: TrainOptions, seconds = SECONDS): Promise<DryRun> {
  const started = performance.now();
  const options = await withMatchingTeacher(student, given);
  const plan = await planRun(student, options);
  await checkTarget(await resolveTarget(options.output), options.output, plan.force);
  if (!options.resume) await plan.folder.refuseOccupied(options.force ?? false);
  const saved = options.resume && plan.folder.exists() ? await plan.folder.readStep() : 0;
  const done = Math.max(plan.settings.extendedFrom, saved);
  const corpora = await openSamples(plan, student, options);
  // The cache of the teacher's output is filled here, not where the run keeps it.
  const cache = plan.settings.cacheTeacher > 0 ? await mkdtemp(join(tmpdir(), "nfc-dry-run-")) : undefined;
  try {
    const { teacher = null, session = {}, signal, onProgress } = options;
    const store = await loadStore(student, plan.settings, { session });
    const { settings, layers } = plan;
    const context: PhaseContext = { student, teacher, settings, layers, store, session, split: corpora.split, cache };
    const evaluationTokens = corpora.heldOutTokens;
    const measuring = { signal, onProgress, seconds, done, evaluationTokens };
    const runBytes = estimateRunBytes(store, settings.steps);
    const measured = await measureRun(context, measuring).finally(() => store.close());
    const prepare = (performance.now() - started) / 1000 - measured.spent;
    return makeDryRun(student, options, { plan, done, corpora, measured, prepare, runBytes });
  } finally {
    if (cache) await rm(cache, { recursive: true, force: true });
    await corpora.close();
  }
}

interface Samples {
  /** Ranges of what was read. */
  split: PhaseContext["split"];
  text: { tokens: number; exact: boolean };
  /** Whether the corpus is text, which the run writes as token ids to its cache. */
  tokenized: boolean;
  /** Of the whole corpus. */
  trainTokens: number;
  heldOutTokens: number;
  /** Seconds that the run will spend on tokenizing, beyond those of the sample. */
  seconds: number;
  close(): Promise<void>;
}

/** Opens token ids as the run does, and the first tokens of text. */
async function openSamples(plan: RunPlan, student: Checkpoint, options: TrainOptions): Promise<Samples> {
  const { settings } = plan;
  const { data, separate } = await openAll(async (keep) => ({
    data: keep(await openSample(plan.files, student, options, settings.length)),
    separate: plan.heldOutFiles && keep(await openSample(plan.heldOutFiles, student, options, settings.length)),
  }));
  const whole = ({ corpus, tokens }: CorpusSample): TokenRange => ({ corpus, start: 0, end: tokens });
  const planned = separate
    ? { train: whole(data), heldOut: whole(separate) }
    : holdOut({ ...data.corpus, tokens: data.tokens }, settings.length);
  const part = ({ corpus }: CorpusSample): TokenRange => ({ corpus, start: 0, end: corpus.tokens });
  const split = separate ? { train: part(data), heldOut: part(separate) } : holdOut(data.corpus, settings.length);
  return {
    split,
    text: { tokens: data.tokens, exact: data.exact },
    tokenized: data.tokenized,
    trainTokens: planned.train.end - planned.train.start,
    heldOutTokens: Math.min(settings.evalTokens, planned.heldOut.end - planned.heldOut.start),
    seconds: data.seconds + (separate?.seconds ?? 0),
    async close() {
      await data.close();
      await separate?.close();
    },
  };
}

type OpenedSample = CorpusSample & Pick<Samples, "tokenized" | "close">;

async function openSample(
  files: readonly string[],
  student: Checkpoint,
  { field, cache, signal, onProgress }: TrainOptions,
  length: number,
): Promise<OpenedSample> {
  const options = { vocabulary: student.config.vocab_size, field, cache, signal, onProgress };
  if ((await detectCommonKind(files)) === "ids") {
    const corpus = await TokenCorpus.open(files, null, options);
    const { tokens } = corpus;
    return { corpus, tokens, exact: true, seconds: 0, tokenized: false, close: () => corpus.close() };
  }
  const tokenizer = await loadTokenizer(student.folder, student.config);
  const wanted = Math.max(SAMPLE_TOKENS, 4 * (length + 1));
  const sample = await sampleText(files, tokenizer, options, wanted);
  return { ...sample, tokenized: true, close: async () => undefined };
}

interface Measured {
  transferStep: number;
  trainStep: number;
  evaluation: number;
  /** Seconds that measuring took. */
  spent: number;
}

async function measureRun(
  context: PhaseContext,
  { seconds, done, evaluationTokens, ...call }: LongCall & { seconds: number; done: number; evaluationTokens: number },
): Promise<Measured> {
  const { settings, student, store, session, split } = context;
  const { length, steps, transferSteps } = settings;
  const tokens = Math.min(evaluationTokens, SCORED_WINDOWS * length, split.heldOut.end - split.heldOut.start);
  const heldOut = await openHeldOut(student, store, {
    range: split.heldOut,
    tokens,
    length,
    session,
    signal: call.signal,
  });
  try {
    const started = performance.now();
    const scoring = await measure(SHARES.score * seconds, () => heldOut.perplexity());
    const transferStep = done < transferSteps ? await measureStep(0, context, SHARES.transfer * seconds, call) : 0;
    const trainStep =
      steps > transferSteps ? await measureStep(transferSteps, context, SHARES.train * seconds, call) : 0;
    const spent = (performance.now() - started) / 1000;
    return { transferStep, trainStep, evaluation: (scoring * evaluationTokens) / tokens, spent };
  } finally {
    await heldOut.close();
  }
}

/** Seconds of a step of the phase that `step` belongs to: all its micro-batches, and the move of the parameters. */
async function measureStep(
  step: number,
  context: PhaseContext,
  seconds: number,
  { signal, onProgress }: LongCall,
): Promise<number> {
  const { settings, store, split } = context;
  const phase = await openPhase(step, context);
  try {
    const batches = new Batches(split.train, settings);
    const micro = await measure(seconds, async (index, spent) => {
      throwIfAborted(signal);
      const detail = `steps of ${phase.name === "train" ? "training" : "attention transfer"}`;
      const total = Math.ceil(seconds);
      onProgress?.({ phase: "measuring", detail, done: Math.min(total, Math.floor(spent)), total, unit: "steps" });
      store.clearTotals();
      await phase.gradients(index, [await batches.batch(index)]);
    });
    const move = await measure(0, async () => phase.optimizer.update(0, await phase.optimizer.norm()));
    return settings.accumulate * micro + move;
  } finally {
    await phase.close();
  }
}

interface Facts {
  plan: RunPlan;
  done: number;
  corpora: Samples;
  measured: Measured;
  /** Seconds of everything but measuring, of which tokenizing the sample is a part. */
  prepare: number;
  /** Most of OUTPUT.run. */
  runBytes: number;
}

function makeDryRun(student: Checkpoint, options: TrainOptions, facts: Facts): DryRun {
  const { plan, done, corpora, measured } = facts;
  const { settings } = plan;
  const { steps: total, transferSteps, batchSize, accumulate, length } = settings;
  const steps = { transfer: Math.max(0, transferSteps - done), train: total - Math.max(done, transferSteps), done };
  const tokens = (total - done) * batchSize * accumulate * length;
  // A run that begins scores the student, and the teacher, before its first step.
  const first = done === 0 ? (options.teacher ? 2 : 1) : 0;
  const count = countEvaluationsAfter(done, settings) + first;
  const { transferStep, trainStep, evaluation } = measured;
  const prepare = facts.prepare + corpora.seconds;
  const flopsPerToken = countTokenFlops({ student: student.config, teacher: options.teacher?.config ?? null, length });
  const tokensPerSecond = (batchSize * accumulate * length) / trainStep;
  const flops = flopsPerToken.student + flopsPerToken.teacher;
  const working = steps.transfer * transferStep + steps.train * trainStep + count * evaluation;
  return {
    ...{ output: options.output, settings, steps, tokens, text: corpora.text },
    epochs: tokens / corpora.trainTokens,
    evaluations: { count, tokens: corpora.heldOutTokens },
    seconds: { transferStep, trainStep, evaluation, prepare, total: prepare + working },
    flopsPerToken,
    rate: steps.train === 0 ? null : { flopsPerSecond: flops * tokensPerSecond, tokensPerSecond },
    memoryBytes: process.resourceUsage().maxRSS * 1024,
    diskBytes: {
      run: facts.runBytes,
      output: estimateOutputBytes(student, { rounds: settings.quantize !== "none" }),
      cache: estimateCache(student, settings, {
        textTokens: corpora.tokenized ? corpora.text.tokens : 0,
        windows: Math.min((total - done) * batchSize * accumulate, Math.floor(corpora.trainTokens / length)),
      }),
    },
  };
}
