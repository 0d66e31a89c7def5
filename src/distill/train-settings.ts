// The settings of training on text: their flags, defaults by task, and limits.
import type { ModelConfig } from "../model/config.ts";
import { VARIANT_TRAITS } from "../model/variants.ts";
import { chooseEvalEvery, chooseEvalTokens, type RunLength } from "./evaluation-plan.ts";
import { declare, type Given, type Refusal, resolveSettings, type SettingValues } from "./resolve-settings.ts";
import { ROUNDING_SETTINGS } from "./rounding-settings.ts";
import { checkMemory, checkStepTokens, countWindows, planMicroBatches } from "./step-size.ts";
import {
  explainNoTransfer,
  isTornByTying,
  type LayerMap,
  listLayers,
  TRANSFER_KINDS,
  type TransferKind,
} from "./transfer-match.ts";

export type TrainMode = "distill" | "finetune" | "pretrain";

const MAX_DEFAULT_LENGTH = 512;
/** Share of the steps that go to attention transfer, and the most of them: 50 do what 150 do (docs/distill.md). */
const TRANSFER_SHARE = 0.3;
const MAX_TRANSFER_STEPS = 50;
const TRANSFER_RATE: Record<TransferKind, number> = { probabilities: 5e-3, outputs: 2e-3, hidden: 1e-3 };
/** k of --cache-teacher without a number. */
const DEFAULT_CACHED = 32;

const LEARNING_RATE: Record<TrainMode, number> = { distill: 1e-3, finetune: 1e-4, pretrain: 1e-3 };
/** Distillation's rate was measured at this width; AdamW's best rate falls as 1/width (arXiv 2203.03466). */
const MEASURED_WIDTH = 256;
/** The rates of trained weights are for steps of so many tokens; those of fewer are noisier (docs/decisions/0010-learning-rate.md). */
const MEASURED_TOKENS = 4096;
/** Shorter runs have lower rates: they end before they have won back what large first steps lose. */
const LONG_RUN_STEPS = 200;
const WEIGHT_DECAY: Record<TrainMode, number> = { distill: 0.01, finetune: 0.01, pretrain: 0.1 };
const STEPS: Record<TrainMode, number> = { distill: 1000, finetune: 300, pretrain: 2000 };

type Numbers = "transferSteps" | "temperature" | "evalEvery" | "cacheTeacher";
/** The facts that defaults and limits of settings depend on. */
export interface TextContext {
  task: TrainMode;
  config: ModelConfig;
  /** The model to learn from, and which of its layers each of the student's came from. */
  teacher: ModelConfig | null;
  layers: LayerMap;
  /** Whether the size of a micro-batch was given. */
  hasBatchSize: boolean;
  /** Held-out tokens of an evaluation, where they were given. */
  evalTokens?: number | undefined;
  settings: RunLength & Record<Numbers, number> & { train: string; transfer: TransferKind };
}

const chooseLength = ({ config }: TextContext) => Math.min(config.n_positions, MAX_DEFAULT_LENGTH);
const chooseDecay = ({ task }: TextContext) => WEIGHT_DECAY[task];
const chooseWarmup = ({ settings }: TextContext) => Math.round(0.05 * (settings.steps - settings.transferSteps));

/** Everything that decides the result of a run on text, besides its inputs. Plain JSON: `run.json` keeps it. */
export const TEXT_SETTINGS = {
  /** Optimizer steps, attention transfer included. */
  steps: declare("--steps <n>", "positive integer", "optimiser steps", ({ task }: TextContext) => STEPS[task], {
    shown: { distill: "1000", finetune: "300", pretrain: "2000" },
  }),
  /** Tokens of a window. */
  length: declare("--length <n>", "positive integer", "tokens of a window", chooseLength, {
    shown: "n_positions, at most 512",
    check: checkLength,
  }),
  /** Windows of a micro-batch. */
  batchSize: declare(
    "--batch-size <n>",
    "positive integer",
    "windows of a micro-batch",
    ({ settings }: TextContext) => Math.ceil(countWindows(settings.length) / settings.accumulate),
    {
      shown: "for 4,096 tokens a step",
      check: (value, { config, settings }) => checkMemory(value, config, settings.length),
    },
  ),
  /** Micro-batches of a step. */
  accumulate: declare(
    "--accumulate <n>",
    "positive integer",
    "micro-batches of a step",
    ({ config, hasBatchSize, settings }: TextContext) => (hasBatchSize ? 1 : planMicroBatches(config, settings.length)),
    {
      shown: "as few as memory allows",
      check: (value, { settings }) => checkStepTokens(value * settings.batchSize * settings.length),
    },
  ),
  seed: declare("--seed <n>", "seed", "seed of windows and noise", 0),
  /** Peak learning rate. */
  lr: declare("--lr <rate>", "positive number", "peak learning rate", chooseLearningRate, {
    shown: {
      distill: "0.001, less in short runs, above a width of 256 and under 4,096 tokens a step",
      finetune: "0.0001, less in short runs and under 4,096 tokens a step",
      pretrain: "0.001",
    },
  }),
  noiseLr: declare("--noise-lr <rate>", "positive number", "peak learning rate of the noise parameters", 1e-2),
  warmup: declare("--warmup <steps>", "number from 0", "steps of linear warmup", chooseWarmup, {
    shown: "5 %",
    check: checkWarmup,
  }),
  floor: declare("--lr-floor <share>", "number from 0", "last learning rate, as a share of the peak", 0.05, {
    check: (share) =>
      share <= 1 ? null : [`--lr-floor ${share} is above 1`, "it is the last learning rate as a share of the peak"],
  }),
  beta1: declare("--beta1 <b>", "number from 0", "AdamW's β1", 0.9, { check: (value) => checkBeta("beta1", value) }),
  beta2: declare("--beta2 <b>", "number from 0", "AdamW's β2", 0.95, { check: (value) => checkBeta("beta2", value) }),
  epsilon: declare(null, "positive number", "AdamW's ε", 1e-8),
  /** Decoupled weight decay. */
  decay: declare("--weight-decay <d>", "number from 0", "decay of matrices", chooseDecay, {
    shown: "0.01; pretrain 0.1",
  }),
  clip: declare("--clip <norm>", "number from 0", "largest norm of the gradient, 0 for none", 1),
  /** kd in (1 − kd)·NLL + kd·T²·KL. */
  kd: declare(
    "--kd <share>",
    "number from 0",
    "share of the teacher in the loss",
    ({ task }: TextContext) => (task === "distill" ? 0.5 : 0),
    { shown: "0.5", check: checkShare, teacher: true },
  ),
  /** T of both distributions in KL. */
  temperature: declare("--temperature <T>", "positive number", "temperature of the teacher's distribution", 1, {
    teacher: true,
  }),
  /** β of the noise prior. */
  noiseKl: declare("--noise-kl <beta>", "number from 0", "weight of the noise prior N(0, 1)", 1e-3),
  /** What each layer learns of the teacher's in the first steps. */
  transfer: declare("--transfer <kind>", TRANSFER_KINDS, "what of the teacher layers learn first", "probabilities", {
    teacher: true,
  }),
  transferSteps: declare(
    "--transfer-steps <n>",
    "integer from 0",
    "first steps, on each layer alone",
    chooseTransferSteps,
    { shown: "30 %, at most 50", check: checkTransfer, teacher: true },
  ),
  transferLr: declare(
    "--transfer-lr <rate>",
    "positive number",
    "peak learning rate of those",
    ({ settings }: TextContext) => TRANSFER_RATE[settings.transfer],
    { shown: "0.005; outputs 0.002, hidden 0.001", teacher: true },
  ),
  transferNoiseLr: declare("--transfer-noise-lr <rate>", "positive number", "the same for noise parameters", 2e-2, {
    teacher: true,
  }),
  /** Which parameters move: the noise's alone, attention's (noise included), or all. */
  train: declare("--train <part>", ["all", "attention", "noise"], "parameters that move", "all", {
    check: checkTrained,
  }),
  noise: declare("--noise <mode>", ["sample", "mean"], "in training: drawn, or at its mean", "sample"),
  teacherPrecision: declare("--teacher-precision <name>", ["fp32", "int8"], "the teacher's matrix products", "fp32", {
    teacher: true,
  }),
  /** k; 0: the teacher runs every time. */
  cacheTeacher: declare(
    "--cache-teacher [k]",
    "positive integer",
    `store k of the teacher's tokens at each position once (default k: ${DEFAULT_CACHED})`,
    0,
    { shown: "", bare: DEFAULT_CACHED, check: checkCachedTeacher, teacher: true },
  ),
  /** Share of the steps, the last ones, over which the weights are averaged; 0: they are as the last step left them. */
  average: declare(
    "--average <share>",
    "number from 0",
    "keep the mean of the weights over the last share of steps",
    0,
    {
      check: (share) =>
        share <= 1 ? null : [`--average ${share} is above 1`, "it is a share of the steps, such as 0.2"],
    },
  ),
  /** Which k tokens are stored. */
  cacheKind: declare(
    "--cache-kind <name>",
    ["top-k", "sampled"],
    "draw the tokens, so that the loss is right on average, or take the most likely ones",
    // docs/decisions/0058-drawn-teacher-tokens.md; without a cache there is nothing to draw.
    ({ settings: { cacheTeacher } }: TextContext) => (cacheTeacher > 0 ? "sampled" : "top-k"),
    {
      shown: "sampled",
      check: (kind, { settings: { cacheTeacher } }: TextContext) =>
        kind === "top-k" || cacheTeacher > 0
          ? null
          : [`--cache-kind ${kind} without a cached teacher`, "give --cache-teacher"],
      teacher: true,
    },
  ),
  evalEvery: declare(
    "--eval-every <steps>",
    "positive integer",
    "steps between evaluations on held-out text",
    ({ settings, evalTokens }: TextContext) => chooseEvalEvery(settings, evalTokens),
    { shown: "a tenth, more in short runs" },
  ),
  evalTokens: declare(
    "--eval-tokens <n>",
    "positive integer",
    "held-out tokens that an evaluation uses",
    ({ settings }: TextContext) => chooseEvalTokens(settings),
    {
      shown: "65,536, fewer in short runs",
      check: (value) => (value < 2 ? [`--eval-tokens ${value} is too few`, "scoring needs 2 tokens at least"] : null),
    },
  ),
  devicePrecision: declare(
    "--device-precision <name>",
    ["fp32", "fp16"],
    "matrix products of training; fp16 where the device has 16-bit floats",
    "fp32",
  ),
  ...ROUNDING_SETTINGS,
  /** Steps of the finished run that this one extends; 0 for a run that is none. The rate's schedule begins after them. */
  extendedFrom: declare(null, "integer from 0", "steps of the run that is extended", 0),
};

export interface TrainSettings extends SettingValues<typeof TEXT_SETTINGS> {
  task: TrainMode;
}

/**
 * The settings of a run: what the caller gives, the defaults for the rest.
 * @param teacher configuration of the model to learn from
 * @param layers where each of the student's layers came from; the same layers where both have as many, unless given
 * @throws NfcError "usage" for settings that do not go together
 */
export function resolveTrainSettings(
  task: TrainMode,
  config: ModelConfig,
  given: Given<TrainSettings> = {},
  teacher: ModelConfig | null = null,
  layers: LayerMap = teacher?.n_layer === config.n_layer ? listLayers(config.n_layer) : null,
): TrainSettings {
  const { batchSize, evalTokens } = given;
  const facts = { task, config, teacher, layers, hasBatchSize: batchSize !== undefined, evalTokens };
  const makeContext = (settings: TextContext["settings"]): TextContext => ({ ...facts, settings });
  return { task, ...resolveSettings(TEXT_SETTINGS, given, makeContext) };
}

/**
 * The rate falls with the tokens of a step, so that a run of few tokens does not walk at random (the same tokens in
 * smaller steps move the weights as far), and in short runs. Random weights have no start to lose.
 */
function chooseLearningRate({ task, config, settings }: TextContext): number {
  const width = task === "distill" ? Math.min(1, MEASURED_WIDTH / config.n_embd) : 1;
  const tokens = settings.batchSize * settings.accumulate * settings.length;
  const known = Math.min(1, tokens / MEASURED_TOKENS) * Math.min(1, Math.sqrt(settings.steps / LONG_RUN_STEPS));
  const share = task === "pretrain" ? 1 : known;
  return Number((LEARNING_RATE[task] * width * share).toPrecision(3));
}

/** 0 also where the noise alone moves: it is no attention to transfer. */
function chooseTransferSteps({ config, teacher, layers, settings: { steps, train, transfer } }: TextContext): number {
  const wanted = (transfer !== "probabilities" || isTornByTying(config)) && train !== "noise";
  if (!teacher || !wanted || explainNoTransfer(config, teacher, { kind: transfer, layers }) !== null) return 0;
  return Math.min(MAX_TRANSFER_STEPS, Math.round(TRANSFER_SHARE * steps));
}

function checkLength(length: number, { config: { n_positions } }: TextContext): Refusal {
  if (length < 2) return [`windows of ${length} tokens are too short`, "give a --length of 2 at least"];
  if (length <= n_positions) return null;
  return [`windows of ${length} tokens, but the model has ${n_positions} positions`, "give a smaller --length"];
}

function checkWarmup(steps: number): Refusal {
  return Number.isInteger(steps) ? null : [`--warmup ${steps} is no number of steps`, "with --task it is a share"];
}

function checkBeta(name: string, value: number): Refusal {
  return value < 1 ? null : [`--${name} ${value} is not below 1`, "0.9 and 0.95 are usual"];
}

function checkShare(kd: number): Refusal {
  if (kd >= 0 && kd <= 1) return null;
  return [`--kd ${kd} is not between 0 and 1`, "0 is labels alone, 1 the teacher alone"];
}

function checkTransfer(transferSteps: number, { settings: { steps, train } }: TextContext): Refusal {
  if (transferSteps > 0 && train === "noise")
    return ["attention transfer moves more than the noise", "leave out --transfer-steps, or take --train attention"];
  if (transferSteps <= steps) return null;
  return [`${transferSteps} steps of attention transfer in a run of ${steps}`, "lower --transfer-steps"];
}

function checkTrained(train: string, { config: { variant } }: TextContext): Refusal {
  if (train !== "noise" || VARIANT_TRAITS[variant].noise) return null;
  return [`a ${variant} model has no noise to train`, "take --train all"];
}

function checkCachedTeacher(k: number, { settings: { temperature } }: TextContext): Refusal {
  if (k === 0 || temperature === 1) return null;
  return ["a cached teacher has no temperature but 1", "leave out --temperature or --cache-teacher"];
}
