// The loop of a training run: steps, metrics, evaluations, checkpoints, and the best weights at the end.
import { NfcError } from "../errors.ts";
import type { SessionOptions } from "../graph/session.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { parameterSpecs } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import { Batches, type TokenRange } from "./batches.ts";
import { HeldOut, type HeldOutOptions, scoreCheckpoint } from "./held-out.ts";
import { isNoise } from "./optimiser.ts";
import { ParameterStore } from "./parameter-store.ts";
import { openPhase, type Phase, type PhaseContext, type StepReport } from "./phases.ts";
import type { RunFolder, RunState } from "./run-folder.ts";
import { StepClock } from "./step-clock.ts";
import type { TrainSettings } from "./train-settings.ts";
import { type TrainedModel, writeTrainedModel } from "./trained-model.ts";

/** Steps between checkpoints. */
export const DEFAULT_SAVE_EVERY = 50;
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
  interrupted: false;
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
    resumed: boolean;
  }) {
    this.options = parts.options;
    this.student = parts.student;
    this.folder = parts.folder;
    this.context = parts.context;
    this.batches = parts.batches;
    this.heldOut = parts.heldOut;
    this.heldOutOptions = parts.heldOutOptions;
    this.state = parts.state;
    this.resumedFrom = parts.resumed ? parts.state.step : null;
    const { settings, onProgress } = parts.options;
    this.clock = new StepClock(settings, onProgress);
  }

  static async open(
    student: Checkpoint,
    options: TrainOptions,
    folder: RunFolder,
    split: { train: TokenRange; heldOut: TokenRange },
  ): Promise<Run> {
    const { settings, teacher = null, session = {}, signal } = options;
    const { length, accumulate, batchSize } = settings;
    const store = await loadStore(student, settings);
    const saved = options.resume ? await folder.load(store) : null;
    const heldOutOptions = { range: split.heldOut, tokens: settings.evalTokens, length, session, signal };
    const heldOut = await HeldOut.open(student.config, store, heldOutOptions);
    const state = saved ?? {
      step: 0,
      tokens: 0,
      metricsBytes: 0,
      best: null,
      before: await heldOut.perplexity(),
      teacher: teacher ? await scoreCheckpoint(teacher, heldOutOptions) : null,
    };
    const context = { settings, config: student.config, store, teacher, session };
    const batches = new Batches(split.train, { length, batchSize: batchSize * accumulate, seed: settings.seed });
    const resumed = options.resume ?? false;
    return new Run({ options, student, folder, context, batches, heldOut, heldOutOptions, state, resumed });
  }

  async finish(): Promise<TrainResult> {
    const { settings, saveEvery = DEFAULT_SAVE_EVERY, signal } = this.options;
    while (this.state.step < settings.steps) {
      if (signal?.aborted) await this.stop();
      await this.step();
      const { step } = this.state;
      const last = step === settings.steps;
      if (last || (step % settings.evalEvery === 0 && step > settings.transferSteps)) await this.evaluate();
      if (last || step % saveEvery === 0) await this.save();
    }
    return this.result();
  }

  async close(): Promise<void> {
    await this.phase?.close();
    await this.heldOut.close();
  }

  private async step(): Promise<void> {
    const { settings } = this.options;
    const { step } = this.state;
    const phase = await this.phaseOf(step);
    const batches = await this.microBatches(step);
    this.clock.start();
    this.context.store.clearTotals();
    const report = await phase.gradients(step - phase.start, batches);
    const norm = phase.optimiser.norm();
    this.checkFinite(report, norm);
    const lr = phase.optimiser.update(step - phase.start, norm);
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
    const changed = this.phase !== null;
    await this.phase?.close();
    this.phase = null;
    const phase = await openPhase(step, this.context);
    this.phase = phase;
    // A resumed run that begins right at the change has the moments of the first phase.
    if (changed || step === transferSteps) phase.optimiser.reset();
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

  /** Before the parameters move: they are still good. */
  private checkFinite(report: StepReport, norm: number): void {
    const { vocab_size } = this.student.config;
    const lost = report.nll !== undefined && report.nll > DIVERGED * Math.log(vocab_size);
    if (Number.isFinite(report.loss) && Number.isFinite(norm) && !lost) return;
    const parts = Object.entries(report).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    const kept =
      this.savedStep === null ? "no checkpoint yet" : `last checkpoint: step ${this.savedStep} in ${this.folder.path}`;
    throw new NfcError(
      "diverged",
      `step ${this.state.step + 1}: the run has diverged (${parts.join(", ")}, gradient norm ${norm.toPrecision(4)}); ${kept}`,
      { hint: "start again with a lower --lr or a longer --warmup" },
    );
  }

  private savedStep: number | null = null;

  private async evaluate(): Promise<void> {
    const { step } = this.state;
    const perplexity = Math.min(await this.heldOut.perplexity(), Number.MAX_VALUE);
    await this.log({ step, eval: { perplexity } });
    this.clock.evaluated(perplexity);
    if (this.state.best && this.state.best.perplexity <= perplexity) return;
    const best = { step, perplexity };
    await this.folder.saveBest(this.context.store, best);
    this.state = { ...this.state, best };
  }

  private async save(): Promise<void> {
    await this.folder.save(this.context.store, this.state);
    this.savedStep = this.state.step;
  }

  private async stop(): Promise<never> {
    await this.save();
    const { step } = this.state;
    throw new NfcError(
      "aborted",
      `interrupted; step ${step} of ${this.options.settings.steps} is saved in ${this.folder.path}`,
      {
        hint: "the same command with --resume goes on from there",
      },
    );
  }

  private async log(entry: object): Promise<void> {
    this.state = { ...this.state, metricsBytes: this.state.metricsBytes + (await this.folder.append(entry)) };
  }

  private async result(): Promise<TrainResult> {
    const { settings, output, force = false, command } = this.options;
    const { before, teacher, tokens, best } = this.state;
    if (!best) throw new Error("a run ends with an evaluation");
    await this.folder.loadBest(this.context.store);
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
      interrupted: false,
    };
  }
}

/** All parameters of the student; the trained ones with gradients and moments. */
async function loadStore(student: Checkpoint, { train: part, accumulate }: TrainSettings): Promise<ParameterStore> {
  const trained = (name: string) => part === "all" || (part === "noise" ? isNoise(name) : name.includes(".attn."));
  const specs = parameterSpecs(student.config).map(({ name, shape }) => ({ name, shape, trained: trained(name) }));
  const store = new ParameterStore(specs, { accumulate: accumulate > 1 });
  for (const { name } of specs) store.value(name).set(await student.readF32(name));
  return store;
}
