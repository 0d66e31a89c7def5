// The loop of a training run: steps, metrics, evaluations, checkpoints, and the best weights at the end.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { describeError, NfcError } from "../errors.ts";
import type { SessionOptions } from "../graph/session.ts";
import type { LongCall } from "../progress.ts";
import { Batches, type TokenRange } from "./data/windows.ts";
import { HeldOut, type HeldOutOptions, scoreCheckpoint } from "./held-out.ts";
import { openPhase, type Phase, type PhaseContext, type StepReport } from "./phases.ts";
import type { RunFolder, RunState } from "./run-folder.ts";
import type { TrainSettings } from "./settings.ts";
import { StepClock } from "./step-clock.ts";
import { loadStore, type TrainedModel, writeTrainedModel } from "./trained-model.ts";

/** Steps between checkpoints. */
const DEFAULT_SAVE_EVERY = 50;
/** A loss this many times ln V is far worse than guessing: the run has diverged. */
const DIVERGED = 3;

export interface TrainOptions extends LongCall {
  output: string;
  settings: TrainSettings;
  /** Files, folders and globs of training text, or token ids. */
  data: readonly string[];
  /** The same for the held-out text; the end of `data` unless given. */
  heldOut?: readonly string[];
  field?: string;
  /** Folder of the token cache. */
  cache?: string;
  teacher?: Checkpoint | null;
  saveEvery?: number;
  resume?: boolean;
  force?: boolean;
  session?: SessionOptions;
  command?: readonly string[];
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

/** A run from its first step, or from its checkpoint, to the model that it makes. */
export class Run {
  private readonly options: TrainOptions;
  private readonly student: Checkpoint;
  private readonly folder: RunFolder;
  private readonly context: PhaseContext;
  private readonly batches: Batches;
  private readonly heldOut: HeldOut;
  private readonly heldOutOptions: HeldOutOptions;
  private readonly clock: StepClock;
  private readonly resumedFrom: number | null;
  private state: RunState;
  /** Step of the checkpoint. */
  private savedStep: number | null;
  private phase: Phase | null = null;

  private constructor(parts: {
    options: TrainOptions;
    student: Checkpoint;
    folder: RunFolder;
    context: PhaseContext;
    batches: Batches;
    heldOut: HeldOut;
    heldOutOptions: HeldOutOptions;
    state: RunState;
    saved: RunState | null;
    resume: boolean;
  }) {
    this.options = parts.options;
    this.student = parts.student;
    this.folder = parts.folder;
    this.context = parts.context;
    this.batches = parts.batches;
    this.heldOut = parts.heldOut;
    this.heldOutOptions = parts.heldOutOptions;
    this.state = parts.state;
    this.resumedFrom = parts.resume ? parts.state.step : null;
    this.savedStep = parts.saved ? parts.saved.step : null;
    const { settings, onProgress } = parts.options;
    this.clock = new StepClock(settings, onProgress);
  }

  static async open(
    student: Checkpoint,
    options: TrainOptions,
    folder: RunFolder,
    split: { train: TokenRange; heldOut: TokenRange },
  ): Promise<Run> {
    const { settings, teacher = null, session = {}, resume = false, signal } = options;
    const { length, accumulate, batchSize } = settings;
    const store = await loadStore(student, settings);
    const saved = resume ? await folder.load(store) : null;
    const batches = new Batches(split.train, { length, batchSize: batchSize * accumulate, seed: settings.seed });
    const heldOutOptions = { range: split.heldOut, tokens: settings.evalTokens, length, session, signal };
    const heldOut = await HeldOut.open(student, store, heldOutOptions);
    try {
      const state = saved ?? {
        step: 0,
        tokens: 0,
        metricsBytes: 0,
        best: null,
        evaluated: 0,
        before: await heldOut.perplexity(),
        teacher: teacher ? await scoreCheckpoint(teacher, heldOutOptions) : null,
      };
      const inputs = { range: split.train, cache: options.cache };
      const context = { settings, config: student.config, store, teacher, session, ...inputs };
      return new Run({ options, student, folder, context, batches, heldOut, heldOutOptions, state, saved, resume });
    } catch (error) {
      await heldOut.close();
      throw error;
    }
  }

  async finish(): Promise<TrainResult> {
    const { settings, signal } = this.options;
    for (;;) {
      if (signal?.aborted) await this.stop();
      if (this.evaluationIsDue()) await this.evaluate();
      if (this.state.step === settings.steps) break;
      await this.step();
    }
    await this.save();
    return this.result();
  }

  async close(): Promise<void> {
    await this.phase?.close();
    await this.heldOut.close();
  }

  private async step(): Promise<void> {
    const { settings, saveEvery = DEFAULT_SAVE_EVERY } = this.options;
    const { step } = this.state;
    const phase = await this.phaseOf(step);
    const batches = await this.microBatches(step);
    this.clock.start();
    this.context.store.clearTotals();
    const report = await phase.gradients(step - phase.start, batches);
    const norm = phase.optimizer.norm();
    this.checkFinite(report, norm);
    // Before the parameters move: now they are known to be good.
    if (step > 0 && step % saveEvery === 0 && step !== this.savedStep) await this.save();
    const lr = phase.optimizer.update(step - phase.start, norm);
    const tokens = settings.batchSize * settings.accumulate * settings.length;
    this.state = { ...this.state, step: step + 1, tokens: this.state.tokens + tokens };
    const speed = this.clock.stop(this.state.step, report, lr, tokens);
    await this.log({
      step: step + 1,
      phase: phase.name,
      ...report,
      lr,
      grad_norm: norm,
      ...speed,
      tokens: this.state.tokens,
    });
  }

  private async phaseOf(step: number): Promise<Phase> {
    const { transferSteps } = this.options.settings;
    if (this.phase && step < transferSteps === (this.phase.name === "transfer")) return this.phase;
    await this.phase?.close();
    this.phase = null;
    const phase = await openPhase(step, this.context);
    this.phase = phase;
    // Also in a run that goes on right here: its checkpoint has the moments of the phase before.
    if (step === transferSteps) phase.optimizer.reset();
    return phase;
  }

  /** The step's windows, cut into micro-batches. */
  private async microBatches(step: number) {
    const { batchSize, accumulate, length } = this.options.settings;
    const { inputs, labels, windows } = await this.batches.batch(step);
    return Array.from({ length: accumulate }, (_, micro) => {
      const [from, to] = [micro * batchSize, (micro + 1) * batchSize];
      return {
        inputs: inputs.slice(from * length, to * length),
        labels: labels.slice(from * length, to * length),
        windows: windows.slice(from, to),
      };
    });
  }

  private checkFinite(report: StepReport, norm: number): void {
    const { vocab_size } = this.student.config;
    const lost = report.nll !== undefined && report.nll > DIVERGED * Math.log(vocab_size);
    if (Number.isFinite(report.loss) && Number.isFinite(norm) && !lost) return;
    const parts = Object.entries(report).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    throw this.diverged(this.state.step + 1, `${parts.join(", ")}, gradient norm ${norm.toPrecision(4)}`);
  }

  private diverged(step: number, facts: string): NfcError {
    return new NfcError("diverged", `step ${step}: the run has diverged (${facts}); ${this.kept()}`, {
      hint: "start over with a lower --lr or a longer --warmup, and --force",
    });
  }

  private kept(): string {
    const { path } = this.folder;
    return this.savedStep === null
      ? `no checkpoint yet in ${path}`
      : `last checkpoint: step ${this.savedStep} in ${path}`;
  }

  private evaluationIsDue(): boolean {
    const { step, evaluated } = this.state;
    const { steps, evalEvery, transferSteps } = this.options.settings;
    if (step === evaluated) return false;
    return step === steps || (step % evalEvery === 0 && step > transferSteps);
  }

  private async evaluate(): Promise<void> {
    const { step } = this.state;
    const perplexity = await this.heldOut.perplexity().catch((error: unknown) => this.notEvaluated(error));
    await this.log({ step, eval: { perplexity } });
    this.clock.evaluated(perplexity);
    this.state = { ...this.state, evaluated: step };
    if (this.state.best && this.state.best.perplexity <= perplexity) return;
    const best = { step, perplexity };
    await this.folder.saveBest(this.context.store, best);
    this.state = { ...this.state, best };
  }

  /** An interrupted evaluation comes first when the run goes on. */
  private async notEvaluated(error: unknown): Promise<never> {
    if (this.options.signal?.aborted) return this.stop();
    if (!(error instanceof NfcError) || error.code !== "invalid-file") throw error;
    throw this.diverged(this.state.step, "the loss on held-out text is not finite");
  }

  private async save(): Promise<void> {
    await this.folder.save(this.context.store, this.state);
    this.savedStep = this.state.step;
  }

  private async stop(): Promise<never> {
    const { step } = this.state;
    const { steps } = this.options.settings;
    const { path } = this.folder;
    const outcome = await this.save().then(
      () => `step ${step} of ${steps} is saved in ${path}`,
      (error: unknown) => `step ${step} of ${steps} could not be saved (${describeError(error)}); ${this.kept()}`,
    );
    throw new NfcError("aborted", `interrupted; ${outcome}`, {
      hint: "the same command with --resume goes on from there",
    });
  }

  private async log(entry: object): Promise<void> {
    this.state = { ...this.state, metricsBytes: this.state.metricsBytes + (await this.folder.append(entry)) };
  }

  private async result(): Promise<TrainResult> {
    const { settings, output, force = false, command } = this.options;
    const { before, teacher, tokens, best } = this.state;
    if (!best) throw new Error("a run ends with an evaluation");
    await this.folder.loadBest(this.context.store, best);
    const perplexity = { teacher, before, after: best.perplexity };
    const { corpus, start, end } = this.heldOutOptions.range;
    const heldOutTokens = Math.min(settings.evalTokens, end - start);
    const step = {
      step: settings.task,
      settings,
      tokens,
      best,
      held_out: { data: corpus.name, tokens: heldOutTokens, perplexity },
    };
    const model = await writeTrainedModel(this.student, this.context.store, {
      output,
      force,
      metrics: this.folder.metrics,
      step,
      ...(command && { command }),
    });
    await this.folder.remove();
    return {
      ...model,
      settings,
      perplexity,
      best,
      heldOutTokens,
      tokens,
      resumedFrom: this.resumedFrom,
    };
  }
}
