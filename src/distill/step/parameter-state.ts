// What a training run needs of its parameters, wherever they lie: in the host's memory, or on a device.
import type { Operand } from "../../graph/session.ts";
import { isNoiseParameter } from "../../model/parameters.ts";
import type { WeightForm } from "../../model/weight-forms.ts";

/** What is kept of a parameter. */
export interface ParameterRequest {
  name: string;
  shape: readonly number[];
  trained: boolean;
  /** The form of export that it is trained for: graphs read it rounded. Its gradient moves the value itself. */
  form?: WeightForm | undefined;
  /** Whether the grids of its blocks stay those of the values that are rounded first. */
  fixedGrid?: boolean | undefined;
}

/**
 * The arrays of a trained parameter that a checkpoint holds. `average` is the mean of the values over some steps, `grid`
 * [blocks, 2] the scale and zero point of each block, where these are fixed.
 */
export type StatePart = "value" | "moment1" | "moment2" | "average" | "grid";

/** One step of AdamW for one parameter. */
export interface AdamWSettings {
  lr: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** The value shrinks by lr · decay of itself, apart from the gradient. */
  decay: number;
  /** Counted from 1, for the bias correction */
  step: number;
  /** The factor that the total takes first: mean over micro-batches, clipping */
  gradientScale: number;
}

/** One step of AdamW for all: the noise's means and deviations have a rate of their own, and not all decay. */
export interface MoveSettings extends AdamWSettings {
  noiseLr: number;
}

/** Matrices, embeddings and the forms of pairwise heads decay, as in nanoGPT; biases, norms and the noise's means and deviations never do. */
export function isDecayed(name: string, shape: readonly number[]): boolean {
  return shape.length >= 2 && !isNoiseParameter(name);
}

/** Lets `work` see what a swap has put in place, and swaps back. */
export async function betweenSwaps<T>(swap: () => Promise<void> | void, work: () => Promise<T>): Promise<T> {
  await swap();
  try {
    return await work();
  } finally {
    await swap();
  }
}

/** Lets `work` see the values rounded: on grids that are chosen for it, where the run does not round yet. */
export async function withRounding<T>(store: ParameterState, work: () => Promise<T>): Promise<T> {
  if (store.rounds) return work();
  await store.setRounding(true);
  try {
    return await work();
  } finally {
    await store.setRounding(false);
  }
}

/**
 * Values, gradients, AdamW moments and, where kept, means of the values. A parameter that is not trained has a value
 * alone. The total of a step is the sum of its micro-batches' gradients.
 */
export interface ParameterState {
  readonly names: readonly string[];
  readonly trained: readonly string[];
  /** Whether a mean of the values is kept. */
  readonly hasAverages: boolean;
  /** Whether graphs read parameters that have a form rounded; they do until `setRounding` says otherwise. */
  readonly rounds: boolean;
  /** Fixed grids are forgotten where rounding ends, and chosen anew where it begins. */
  setRounding(on: boolean): Promise<void> | void;
  shape(name: string): readonly number[];
  /** The shape of a part; null for the grid of a parameter whose grid is not fixed. */
  shapePart(name: string, part: StatePart): readonly number[] | null;
  /**
   * The present value, rounded where the parameter has a form and the run rounds, to feed to a session. It is asked for
   * before each run: an update may leave it elsewhere.
   */
  parameter(name: string): Operand;
  /** Where a session writes the gradient of a micro-batch. */
  gradient(name: string): Operand;
  /** Begins a step: every total is 0. */
  clearTotals(): void;
  /** total += gradient */
  accumulate(names: readonly string[]): Promise<void> | void;
  /** √Σ total² over the named parameters, which is not finite when any gradient is not. */
  gradientNorm(names: readonly string[]): Promise<number> | number;
  /** Moves the named parameters by their totals. */
  move(names: readonly string[], settings: MoveSettings): Promise<void> | void;
  /** Sets the moments to 0. */
  resetMoments(names: readonly string[]): Promise<void> | void;
  /** Takes the present values of the trained parameters into their mean, as the `count`-th, counted from 1. */
  addToAverage(count: number): Promise<void> | void;
  /** Lets `work` see the mean of the values in place of the values themselves. */
  withAverage<T>(work: () => Promise<T>): Promise<T>;
  /** The elements, which the caller does not change. */
  read(name: string, part: StatePart): Promise<Float32Array>;
  /** The elements of `parameter`. */
  readRounded(name: string): Promise<Float32Array>;
  /** Lets `read` fill an array of the part's size, and takes what it holds then. A grid is filled before its value. */
  fill(name: string, part: StatePart, read: (into: Float32Array) => Promise<unknown>): Promise<void>;
  close(): Promise<void>;
}
