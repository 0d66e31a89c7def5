// Training on text: makes the gradients of a step from windows of a corpus, and scores held-out text.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NfcError } from "../errors.ts";
import type { LongCall } from "../progress.ts";
import { type Batch, Batches } from "./data/windows.ts";
import { countAveraged, isEvaluationStep } from "./evaluation-plan.ts";
import { type HeldOut, type HeldOutOptions, openHeldOut, scoreCheckpoint } from "./held-out.ts";
import { openPhase, type Phase, type PhaseContext, type StepReport } from "./phases.ts";
import { isRounded } from "./rounding-settings.ts";
import type { RunState } from "./run-folder.ts";
import { beginScale } from "./step/loss-scale.ts";
import { StepClock } from "./step-clock.ts";
import { estimateCosts, TimeLeft } from "./time-left.ts";
import { Divergence, type Objective, type Outcome, type PreparedStep } from "./training-loop.ts";

/** A run has diverged when its loss is this many times that of guessing, ln V. */
const FAR_WORSE = 3;

export interface TextObjectiveParts extends LongCall, PhaseContext {}

export class TextObjective implements Objective<RunState> {
  readonly steps: number;
  private readonly parts: TextObjectiveParts;
  private readonly batches: Batches;
  private readonly heldOut: HeldOut;
  private readonly clock: StepClock;
  private phase: Phase | null = null;

  private constructor(parts: TextObjectiveParts, heldOut: HeldOut) {
    const { length, batchSize, accumulate, seed, steps } = parts.settings;
    this.steps = steps;
    this.parts = parts;
    this.batches = new Batches(parts.split.train, { length, batchSize: batchSize * accumulate, seed });
    this.heldOut = heldOut;
    this.clock = new StepClock(parts.settings, new TimeLeft(parts.settings, estimateRunCosts(parts)), parts.onProgress);
  }

  static async open(parts: TextObjectiveParts): Promise<TextObjective> {
    return new TextObjective(parts, await openHeldOut(parts.student, parts.store, toHeldOutOptions(parts)));
  }

  /** The state of a run that begins: student and teacher are scored on the held-out text. */
  async begin(): Promise<RunState> {
    const { teacher, settings } = this.parts;
    return {
      step: 0,
      tokens: 0,
      metricsBytes: 0,
      best: null,
      evaluated: 0,
      before: await this.clock.evaluate(null, "the model", (show) => this.heldOut.perplexity(show)),
      teacher: teacher && (await this.scoreTeacher(teacher)),
      ...beginScale(settings),
    };
  }

  private scoreTeacher(teacher: Checkpoint): Promise<number> {
    const score = (show: LongCall["onProgress"]) => scoreCheckpoint(teacher, toHeldOutOptions(this.parts), show);
    return this.clock.evaluate(null, "the teacher", score);
  }

  async close(): Promise<void> {
    await this.phase?.close();
    await this.heldOut.close();
  }

  async prepareStep(step: number, scale = 1): Promise<PreparedStep<RunState>> {
    const rounded = isRounded(step, this.parts.settings);
    await this.parts.store.setRounding(rounded);
    const phase = await this.openPhase(step);
    const batches = await this.readMicroBatches(step);
    this.clock.start();
    const report = await phase.gradients(step - phase.start, batches, scale);
    return {
      optimizer: phase.optimizer,
      index: step - phase.start,
      finite: Number.isFinite(report.loss),
      check: (norm) => this.check(step + 1, report, norm),
      report: (lr, norm, state) => {
        const { batchSize, accumulate, length } = this.parts.settings;
        const tokens = batchSize * accumulate * length;
        const speed = this.clock.stop(step + 1, report, lr, tokens);
        const total = state.tokens + tokens;
        const facts = { ...report, lr, grad_norm: norm, ...(rounded && { rounded }), ...speed, tokens: total };
        const entry = { step: step + 1, phase: phase.name, ...facts };
        return { entry, changes: { tokens: total } };
      },
    };
  }

  countAveraged(step: number): number {
    return countAveraged(step, this.parts.settings);
  }

  isEvaluated(step: number): boolean {
    return isEvaluationStep(step, this.parts.settings);
  }

  async evaluate({ step, best }: RunState): Promise<Outcome<RunState>> {
    const score = (show: LongCall["onProgress"]) => this.heldOut.perplexity(show);
    const perplexity = await this.clock.evaluate(step, `step ${step}`, score).catch((error: unknown) => {
      if (!(error instanceof NfcError) || error.code !== "invalid-file") throw error;
      throw new Divergence(step, "the loss on held-out text is not finite");
    });
    const better = !best || perplexity < best.perplexity;
    const averaged = this.countAveraged(step);
    return {
      entry: { perplexity, ...(averaged > 0 && { averaged }) },
      changes: better ? { best: { step, perplexity } } : {},
    };
  }

  private async openPhase(step: number): Promise<Phase> {
    const { transferSteps } = this.parts.settings;
    if (this.phase && step < transferSteps === (this.phase.name === "transfer")) return this.phase;
    await this.phase?.close();
    this.phase = null;
    const detail = step < transferSteps ? "of attention transfer" : "of training";
    this.parts.onProgress?.({ phase: "building the graph", done: 0, total: null, unit: "steps", detail, brief: true });
    const phase = await openPhase(step, this.parts);
    this.phase = phase;
    // A run that is resumed right here has read the moments of the phase before from its checkpoint.
    if (step === transferSteps) await phase.optimizer.reset();
    return phase;
  }

  /** The step's windows, cut into micro-batches. */
  private async readMicroBatches(step: number): Promise<Batch[]> {
    const { batchSize, accumulate, length } = this.parts.settings;
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

  private check(step: number, report: StepReport, norm: number): void {
    const lost = report.nll !== undefined && report.nll > FAR_WORSE * Math.log(this.parts.student.config.vocab_size);
    if (Number.isFinite(report.loss) && Number.isFinite(norm) && !lost) return;
    const losses = Object.entries(report).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    throw new Divergence(step, `${losses.join(", ")}, gradient norm ${norm.toPrecision(4)}`);
  }
}

function toHeldOutOptions({ settings, split, session, signal }: TextObjectiveParts): HeldOutOptions {
  return { range: split.heldOut, tokens: settings.evalTokens, length: settings.length, session, signal };
}

function estimateRunCosts({ settings, student, teacher, split: { heldOut } }: TextObjectiveParts) {
  const evalTokens = Math.min(settings.evalTokens, heldOut.end - heldOut.start);
  return estimateCosts(settings, { student: student.config, teacher: teacher?.config ?? null, evalTokens });
}
