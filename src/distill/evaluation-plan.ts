// Chooses how often a run scores held-out text, and how much of it, so that scoring takes less time than training.
import { LEAST_SCORED_TOKENS } from "../checkpoint/nfc-record.ts";

/** Tokens that an evaluation should have at least, where a run is long enough for it: fewer tell little. */
const FEW_TOKENS = 4096;
/** More tokens tell little more. */
const ENOUGH_TOKENS = 65_536;
const MOST_EVALUATIONS = 10;
/** Before the first step student and teacher are scored. */
const FIRST_EVALUATIONS = 2;

/** The settings that decide how many tokens a run trains on. */
export interface RunLength {
  steps: number;
  batchSize: number;
  accumulate: number;
  length: number;
}

/**
 * Chooses the steps between evaluations: a tenth of the run, and more where that many evaluations would score more
 * tokens than the run trains on. A token costs a third as much to score as to train on, or less: only the way forward.
 * @param tokens of an evaluation, where they are given
 */
export function chooseEvalEvery(run: RunLength, tokens: number | undefined): number {
  const affordable = Math.floor(countTrainedTokens(run) / (tokens ?? FEW_TOKENS)) - FIRST_EVALUATIONS;
  return Math.ceil(run.steps / clamp(affordable, 1, MOST_EVALUATIONS));
}

/** Chooses the held-out tokens of an evaluation: together at most as many as the run trains on. */
export function chooseEvalTokens(run: RunLength & { evalEvery: number }): number {
  const evaluations = Math.ceil(run.steps / run.evalEvery) + FIRST_EVALUATIONS;
  return clamp(Math.floor(countTrainedTokens(run) / evaluations), LEAST_SCORED_TOKENS, ENOUGH_TOKENS);
}

function countTrainedTokens({ steps, batchSize, accumulate, length }: RunLength): number {
  return steps * batchSize * accumulate * length;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

type Schedule = Record<"steps" | "transferSteps" | "evalEvery", number>;

/** Counts the steps up to `step` over which the weights are averaged: the last share of those that train on the loss. */
export function countAveraged(
  step: number,
  { steps, transferSteps, extendedFrom, average }: Schedule & Record<"extendedFrom" | "average", number>,
): number {
  const averaged = Math.round(average * (steps - Math.max(transferSteps, extendedFrom)));
  return Math.max(0, step - (steps - averaged));
}

/** Whether held-out text is scored after `step` steps: at every `evalEvery` once the transfer is over, and at the end. */
export function isEvaluationStep(step: number, { steps, transferSteps, evalEvery }: Schedule): boolean {
  return step === steps || (step % evalEvery === 0 && step > transferSteps);
}

/** Counts the evaluations after more than `step` steps. */
export function countEvaluationsAfter(step: number, schedule: Schedule): number {
  const { steps, transferSteps, evalEvery } = schedule;
  if (step >= steps) return 0;
  const regular = Math.floor(steps / evalEvery) - Math.floor(Math.max(step, transferSteps) / evalEvery);
  return steps > transferSteps && steps % evalEvery === 0 ? regular : Math.max(0, regular) + 1;
}
