// What fine-tuning on a task can be told, and the defaults of each task.

import { checkShares, type TrainSettings } from "../../distill/settings.ts";
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";
import { checkTextLength } from "../examples.ts";
import type { Task } from "../tasks.ts";

/** Everything that decides a run's result, besides its inputs. Plain JSON. `length`: most tokens of a text, or of a pair. */
export interface ClassifierSettings
  extends Pick<
    TrainSettings,
    | "length"
    | "seed"
    | ("lr" | "noiseLr" | "floor" | "beta1" | "beta2" | "epsilon" | "decay" | "clip")
    | ("kd" | "temperature" | "noise" | "noiseKl")
  > {
  task: string;
  epochs: number;
  /** Examples of a step. */
  batchSize: number;
  /** Steps of linear warmup, as a share of all. */
  warmup: number;
  /** Steps between evaluations on the development set. */
  evalEvery: number;
  /** Evaluations without a better score after which the run ends; 0: never. */
  patience: number;
}

/** GPT's (Radford et al. 2018) 3 epochs; RoBERTa's (arXiv 1907.11692) 10 for the small tasks. */
const EPOCHS: Readonly<Record<string, number>> = { cola: 10, mrpc: 10, rte: 10, stsb: 10, wnli: 5 };
const DEFAULT_EPOCHS = 3;
/** GPT's rate at width 768; AdamW's best rate falls as 1/width (arXiv 2203.03466). */
const LEARNING_RATE = 6.25e-5;
const LEARNING_RATE_WIDTH = 768;
const MAX_LENGTH = 128;
const MAX_EVAL_EVERY = 500;

/** @param examples of the training set. @throws NfcError "usage" for settings that do not go together */
export function resolveClassifierSettings(
  task: Task,
  config: ModelConfig,
  examples: number,
  given: Partial<ClassifierSettings> = {},
): ClassifierSettings {
  const batchSize = given.batchSize ?? 32;
  const settings: ClassifierSettings = {
    task: task.name,
    epochs: EPOCHS[task.name] ?? DEFAULT_EPOCHS,
    batchSize,
    length: Math.min(config.n_positions, MAX_LENGTH),
    seed: 0,
    lr: Number(((LEARNING_RATE * LEARNING_RATE_WIDTH) / config.n_embd).toPrecision(2)),
    noiseLr: 1e-3,
    warmup: 0.06,
    floor: 0,
    beta1: 0.9,
    beta2: 0.98,
    epsilon: 1e-6,
    decay: 0.01,
    clip: 1,
    kd: 0,
    temperature: 1,
    noise: "sample",
    noiseKl: 0,
    evalEvery: Math.min(Math.ceil(examples / batchSize), MAX_EVAL_EVERY),
    patience: 6,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
  checkTextLength(settings.length, config);
  checkShares(settings);
  if (settings.warmup > 1)
    throw new NfcError("usage", `--warmup ${settings.warmup} is above 1`, {
      hint: "with --task it is a share of the steps, such as 0.06",
    });
  return settings;
}
