// The loop of every training run: steps, metrics, evaluations, checkpoints, and the best weights.
import { describeError, NfcError } from "../errors.ts";
import { timePhase } from "../io/timings.ts";
import type { LongCall } from "../progress.ts";
import type { RunFolder } from "./run-folder.ts";
import { keepScale, type LossScale, lowerScale } from "./step/loss-scale.ts";
import type { Optimizer } from "./step/optimizer.ts";
import { type ParameterState, withRounding } from "./step/parameter-state.ts";

/** The state that every run keeps in its checkpoint. */
export interface LoopState {
  /** Steps done. */
  step: number;
  metricsBytes: number;
  /** Step of the last evaluation; 0 before the first. */
  evaluated: number;
  best: { step: number } | null;
  /** For products in half precision alone. */
  lossScale?: LossScale | undefined;
}

/** A line of metrics.jsonl, and the changes of the state that go with it. */
export interface Outcome<State> {
  entry: object;
  changes: Partial<State>;
}

/** A step whose gradients are in the store's totals, before the parameters move. */
export interface PreparedStep<State> {
  optimizer: Optimizer;
  /** Steps that the optimizer has made before. */
  index: number;
  /** Whether the losses are finite. */
  finite: boolean;
  /** @throws Divergence when the losses or the gradient's norm are not finite, or far worse than guessing */
  check(norm: number): void;
  /** Reports the step after the parameters moved. */
  report(lr: number, norm: number, state: State): Outcome<State>;
}

/** Makes the gradients of a run, and scores its parameters. */
export interface Objective<State extends LoopState> {
  /** Steps of the whole run. */
  readonly steps: number;
  /**
   * @param step counted from 0
   * @param scale by which the totals are to be larger than the gradients, 1 unless given
   */
  prepareStep(step: number, scale?: number): Promise<PreparedStep<State>>;
  /** After how many of the steps up to this one the parameters are averaged: their mean is then scored and kept. */
  countAveraged?(step: number): number;
  /** Whether the parameters are scored after this many steps. The end of a run is always scored. */
  isEvaluated(step: number): boolean;
  /** Scores the parameters as they are; `best` is among the changes where they are better than before. */
  evaluate(state: State): Promise<Outcome<State>>;
  /** Whether the run ends before its last step. */
  isOver?(state: State): boolean;
}

/** Ends a run. The loop says which checkpoint is left. */
export class Divergence extends Error {
  readonly step: number;

  constructor(step: number, facts: string) {
    super(facts);
    this.step = step;
  }
}

export interface LoopOptions<State extends LoopState> {
  folder: RunFolder<State>;
  store: ParameterState;
  /** Steps between checkpoints. */
  saveEvery: number;
  signal?: AbortSignal | undefined;
  onProgress?: LongCall["onProgress"];
}

/** A saved state that no run can have been in. @param fact the contradiction */
export function makeImpossibleStateError(path: string, fact: string): NfcError {
  return new NfcError("invalid-file", `${path}: the saved state is impossible: ${fact}`, {
    hint: `the run cannot go on: remove ${path} and start it again`,
  });
}

export class TrainingLoop<State extends LoopState> {
  private readonly objective: Objective<State>;
  private readonly options: LoopOptions<State>;
  private state: State;
  /** Step of the checkpoint; null before the first. */
  private savedStep: number | null;

  /** @param savedStep step of the checkpoint that the state is from; null for a run that begins */
  constructor(objective: Objective<State>, options: LoopOptions<State>, state: State, savedStep: number | null) {
    this.objective = objective;
    this.options = options;
    this.state = state;
    this.savedStep = savedStep;
  }

  /**
   * Runs to the end and saves it; the store then holds the best weights.
   * @throws NfcError "aborted" once the signal fires, after saving; "diverged"
   */
  async finish(): Promise<State & { best: NonNullable<State["best"]> }> {
    const { folder, store, signal } = this.options;
    this.checkState();
    try {
      for (;;) {
        if (signal?.aborted) await this.stop();
        if (this.isEvaluationDue()) await timePhase("evaluating", () => this.evaluate());
        if (this.state.step === this.objective.steps || this.objective.isOver?.(this.state)) break;
        await timePhase("training", () => this.takeStep());
      }
    } catch (error) {
      throw error instanceof Divergence ? this.describeDivergence(error) : error;
    }
    await this.save();
    const { best } = this.state;
    if (!best) throw new Error("a run ends with an evaluation");
    await folder.loadBest(store, best);
    return { ...this.state, best };
  }

  /** Runs something long that the signal ends: the run is then stopped, to go on from here. */
  async orStop<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (this.options.signal?.aborted) return this.stop();
      throw error;
    }
  }

  /** @throws NfcError "invalid-file" for a saved state that this run cannot have been in */
  private checkState(): void {
    const { step, evaluated, best } = this.state;
    const { steps } = this.objective;
    const facts = [
      ...(step > steps ? [`step ${step} of a run of ${steps} steps`] : []),
      ...(evaluated > step ? [`step ${step}, evaluated at step ${evaluated}`] : []),
      ...(best && best.step > evaluated ? [`evaluated at step ${evaluated}, best at step ${best.step}`] : []),
    ];
    if (facts.length === 0) return;
    throw makeImpossibleStateError(this.options.folder.path, facts[0] as string);
  }

  private async takeStep(): Promise<void> {
    const { store, saveEvery } = this.options;
    const { step } = this.state;
    const { prepared, norm, lossScale } = await this.prepareStep(step);
    const { optimizer, index, check, report } = prepared;
    check(norm);
    // The parameters are saved before they move: the losses just computed show that they are good.
    if (step > 0 && step % saveEvery === 0 && step !== this.savedStep) await this.save();
    const lr = await optimizer.update(index, norm, lossScale?.factor);
    const averaged = this.countAveraged(step + 1);
    if (averaged > 0) await store.addToAverage(averaged);
    const { entry, changes } = report(lr, norm, this.state);
    this.state = { ...this.state, ...changes, step: step + 1, ...(lossScale && { lossScale: keepScale(lossScale) }) };
    await this.log(lossScale ? { ...entry, loss_scale: lossScale.factor } : entry);
  }

  /**
   * Leaves the gradients of a step, times the loss's scale, in the store's totals. Where one has overflowed though the
   * losses are finite, the step is done again with half the scale.
   */
  private async prepareStep(step: number) {
    let lossScale = this.state.lossScale ?? null;
    for (;;) {
      this.options.store.clearTotals();
      const factor = lossScale?.factor ?? 1;
      const prepared = await this.objective.prepareStep(step, factor);
      const norm = await prepared.optimizer.norm(factor);
      const lower = lossScale && prepared.finite && !Number.isFinite(norm) ? lowerScale(lossScale) : null;
      if (!lower) return { prepared, norm, lossScale };
      lossScale = lower;
    }
  }

  /** A run that goes on begins with the evaluation in which it was interrupted. */
  private isEvaluationDue(): boolean {
    const { step, evaluated } = this.state;
    return step !== evaluated && (step === this.objective.steps || this.objective.isEvaluated(step));
  }

  private async evaluate(): Promise<void> {
    const { folder, store } = this.options;
    const { step } = this.state;
    const { entry, changes } = await this.orStop(this.withKept(() => this.objective.evaluate(this.state)));
    await this.log({ step, eval: entry });
    const { best } = changes;
    if (best) {
      this.announceSaving();
      await this.withKept(() => folder.saveBest(store, best));
    }
    this.state = { ...this.state, ...changes, evaluated: step };
  }

  private countAveraged(step: number): number {
    return this.objective.countAveraged?.(step) ?? 0;
  }

  /** Lets `work` see the parameters that would be kept: their mean over the last steps, where one is taken, and rounded. */
  private withKept<T>(work: () => Promise<T>): Promise<T> {
    const { store } = this.options;
    const rounded = () => withRounding(store, work);
    return this.countAveraged(this.state.step) > 0 ? store.withAverage(rounded) : rounded();
  }

  private async log(entry: object): Promise<void> {
    const bytes = await this.options.folder.append(entry);
    this.state = { ...this.state, metricsBytes: this.state.metricsBytes + bytes };
  }

  private announceSaving(): void {
    const detail = `step ${this.state.step}`;
    this.options.onProgress?.({ phase: "saving", done: 0, total: null, unit: "steps", detail, brief: true });
  }

  private async save(): Promise<void> {
    this.announceSaving();
    await timePhase("saving", () => this.options.folder.save(this.options.store, this.state));
    this.savedStep = this.state.step;
  }

  private async stop(): Promise<never> {
    const progress = `step ${this.state.step} of ${this.objective.steps}`;
    const outcome = await this.save().then(
      () => `${progress} is saved in ${this.options.folder.path}`,
      (error: unknown) => `${progress} could not be saved (${describeError(error)}); ${this.describeCheckpoint()}`,
    );
    throw new NfcError("aborted", `interrupted; ${outcome}`, {
      hint: "the same command with --resume goes on from there",
    });
  }

  private describeDivergence({ step, message }: Divergence): NfcError {
    const facts = `step ${step}: the run has diverged (${message}); ${this.describeCheckpoint()}`;
    return new NfcError("diverged", facts, {
      hint: "start over with a lower --lr or a longer --warmup, and --force",
    });
  }

  private describeCheckpoint(): string {
    const { path } = this.options.folder;
    return this.savedStep === null
      ? `no checkpoint yet in ${path}`
      : `last checkpoint: step ${this.savedStep} in ${path}`;
  }
}
