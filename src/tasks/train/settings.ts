// The settings of fine-tuning on a task, and their defaults by task.

import {
  declare,
  type Given,
  type Refusal,
  resolveSettings,
  type SettingValues,
} from "../../distill/resolve-settings.ts";
import { TEXT_SETTINGS } from "../../distill/train-settings.ts";
import type { ModelConfig } from "../../model/config.ts";
import { checkTextLength } from "../examples.ts";
import type { Task } from "../glue-tasks.ts";

/** GPT's (Radford et al. 2018) 3 epochs; RoBERTa's (arXiv 1907.11692) 10 for the small tasks. */
const EPOCHS: Readonly<Record<string, number>> = { cola: 10, mrpc: 10, rte: 10, stsb: 10, wnli: 5 };
const DEFAULT_EPOCHS = 3;
/** GPT's rate at width 768; AdamW's best rate falls as 1/width (arXiv 2203.03466). */
const LEARNING_RATE = 6.25e-5;
const LEARNING_RATE_WIDTH = 768;
const MAX_LENGTH = 128;
const MAX_EVAL_EVERY = 500;

/** The facts that defaults and limits of a task's settings depend on. */
export interface TaskContext {
  task: Task;
  config: ModelConfig;
  /** Examples of the training set. */
  examples: number;
  hasTeacher: boolean;
}

type Context = TaskContext & { settings: { batchSize: number } };

const { seed, lr, noiseLr, warmup, floor, beta1, beta2, epsilon, decay, clip } = TEXT_SETTINGS;
const { length, batchSize, kd, temperature, noise, noiseKl, evalEvery, devicePrecision } = TEXT_SETTINGS;

/** Everything that decides the result of a run on a task, besides its inputs. Plain JSON. */
export const TASK_SETTINGS = {
  epochs: declare(
    "--epochs <n>",
    "positive integer",
    "times through the examples",
    ({ task }: Context) => EPOCHS[task.name] ?? DEFAULT_EPOCHS,
    { shown: "3; small tasks 10" },
  ),
  /** Examples of a step. */
  batchSize: declare(batchSize.flag, "positive integer", "examples of a step", 32),
  /** Most tokens of a text, or of a pair. */
  length: declare(
    length.flag,
    "positive integer",
    "most tokens of a text",
    ({ config }: Context) => Math.min(config.n_positions, MAX_LENGTH),
    { shown: "128", check: checkLength },
  ),
  seed,
  lr: declare(lr.flag, "positive number", lr.help, chooseLearningRate, { shown: "6.25e-5 at width 768" }),
  noiseLr: { ...noiseLr, default: 1e-3 },
  /** Share of the steps in which the rate rises linearly. */
  warmup: declare(warmup.flag, "number from 0", "their share", 0.06, { check: checkWarmup }),
  floor: { ...floor, default: 0 },
  beta1,
  beta2: { ...beta2, default: 0.98 },
  epsilon: { ...epsilon, default: 1e-6 },
  decay: { ...decay, default: 0.01 },
  clip,
  kd: { ...kd, default: ({ hasTeacher }: Context) => (hasTeacher ? 0.5 : 0) },
  temperature,
  noise,
  noiseKl: { ...noiseKl, default: 0 },
  devicePrecision,
  /** Steps between evaluations on the development set. */
  evalEvery: { ...evalEvery, default: chooseEvalEvery },
  /** Steps of the finished run that this one extends; 0 for a run that is none. The rate's schedule begins after them. */
  extendedFrom: TEXT_SETTINGS.extendedFrom,
  /** The run ends after this many evaluations without a better score; 0: never. */
  patience: declare("--patience <n>", "integer from 0", "evaluations without a better score, 0: any", 6),
};

export interface ClassifierSettings extends SettingValues<typeof TASK_SETTINGS> {
  task: string;
}

/** @throws NfcError "usage" for settings that do not go together */
export function resolveClassifierSettings(
  context: TaskContext,
  given: Given<ClassifierSettings> = {},
): ClassifierSettings {
  const makeContext = (settings: Context["settings"]) => ({ ...context, settings });
  return { task: context.task.name, ...resolveSettings(TASK_SETTINGS, given, makeContext) };
}

function chooseLearningRate({ config }: Context): number {
  return Number(((LEARNING_RATE * LEARNING_RATE_WIDTH) / config.n_embd).toPrecision(2));
}

function chooseEvalEvery({ examples, settings }: Context): number {
  return Math.min(Math.ceil(examples / settings.batchSize), MAX_EVAL_EVERY);
}

function checkLength(length: number, { config }: Context): null {
  checkTextLength(length, config);
  return null;
}

function checkWarmup(share: number): Refusal {
  if (share <= 1) return null;
  return [`--warmup ${share} is above 1`, "with --task it is a share of the steps, such as 0.06"];
}
