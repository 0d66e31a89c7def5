// The settings of training on text, their defaults by task, and what they must not be.
import type { ModelConfig } from "../model/config.ts";
import { type Given, type Refusal, resolveSettings, type SettingTable, type SettingValues } from "./setting-table.ts";
import { checkMemory, countWindows, planMicroBatches } from "./step-size.ts";

export const TRAIN_MODES = ["distill", "finetune", "pretrain"] as const;
export type TrainMode = (typeof TRAIN_MODES)[number];

const MAX_DEFAULT_LENGTH = 512;
/** Share of the steps that go to attention transfer, and the most of them: 50 do what 150 do (docs/distill.md). */
const TRANSFER_SHARE = 0.3;
const MAX_TRANSFER_STEPS = 50;
/** k of --cache-teacher without a number. */
const DEFAULT_TOP_K = 32;

const LEARNING_RATE: Record<TrainMode, number> = { distill: 1e-3, finetune: 1e-4, pretrain: 1e-3 };
/** Distillation's rate was measured at this width; AdamW's best rate falls as 1/width (arXiv 2203.03466). */
const MEASURED_WIDTH = 256;
const WEIGHT_DECAY: Record<TrainMode, number> = { distill: 0.01, finetune: 0.01, pretrain: 0.1 };
const STEPS: Record<TrainMode, number> = { distill: 1000, finetune: 300, pretrain: 2000 };

/** What the defaults and limits of settings depend on. */
interface TextContext {
  task: TrainMode;
  config: ModelConfig;
  /** Whether the teacher's attention can be transferred to the student. */
  transferable: boolean;
  /** Whether the size of a micro-batch was given. */
  hasBatchSize: boolean;
  settings: Record<"steps" | "length" | "accumulate" | "transferSteps" | "temperature", number> & { train: string };
}

/** Everything that decides the result of a run on text, besides its inputs. Plain JSON: `run.json` keeps it. */
export const TEXT_SETTINGS = {
  /** Optimizer steps, attention transfer included. */
  steps: {
    flag: "--steps <n>",
    kind: "positive integer",
    help: "optimiser steps",
    shown: { distill: "1000", finetune: "300", pretrain: "2000" },
    default: ({ task }) => STEPS[task],
  },
  /** Tokens of a window. */
  length: {
    flag: "--length <n>",
    kind: "positive integer",
    help: "tokens of a window",
    shown: "n_positions, at most 512",
    default: ({ config }) => Math.min(config.n_positions, MAX_DEFAULT_LENGTH),
    check: checkLength,
  },
  /** Windows of a micro-batch. */
  batchSize: {
    flag: "--batch-size <n>",
    kind: "positive integer",
    help: "windows of a micro-batch",
    shown: "for 4,096 tokens a step",
    default: ({ settings }) => Math.ceil(countWindows(settings.length) / settings.accumulate),
    check: (value, { config, settings }) => checkMemory(value, config, settings.length),
  },
  /** Micro-batches of a step. */
  accumulate: {
    flag: "--accumulate <n>",
    kind: "positive integer",
    help: "micro-batches of a step",
    shown: "as few as memory allows",
    default: ({ config, hasBatchSize, settings }) => (hasBatchSize ? 1 : planMicroBatches(config, settings.length)),
  },
  seed: { flag: "--seed <n>", kind: "seed", help: "seed of windows and noise", shown: "0", default: 0 },
  /** Peak learning rate. */
  lr: {
    flag: "--lr <rate>",
    kind: "positive number",
    help: "peak learning rate",
    shown: { distill: "0.001, above a width of 256 less", finetune: "0.0001", pretrain: "0.001" },
    default: ({ task, config }) =>
      LEARNING_RATE[task] * (task === "distill" ? Math.min(1, MEASURED_WIDTH / config.n_embd) : 1),
  },
  /** Peak learning rate of the noise parameters. */
  noiseLr: {
    flag: "--noise-lr <rate>",
    kind: "positive number",
    help: "peak learning rate of the noise parameters",
    shown: "0.01",
    default: 1e-2,
  },
  /** Steps in which the learning rate rises linearly. */
  warmup: {
    flag: "--warmup <steps>",
    kind: "integer from 0",
    help: "steps of linear warmup",
    shown: "5 %",
    default: ({ settings }) => Math.round(0.05 * (settings.steps - settings.transferSteps)),
    check: (value) =>
      Number.isInteger(value) ? null : [`--warmup ${value} is no number of steps`, "with --task it is a share"],
  },
  /** Last learning rate, as a share of the peak. */
  floor: {
    flag: "--lr-floor <share>",
    kind: "number from 0",
    help: "last learning rate, as a share of the peak",
    shown: "0.05",
    default: 0.05,
    check: (value) =>
      value > 1 ? [`--lr-floor ${value} is above 1`, "it is the last learning rate as a share of the peak"] : null,
  },
  beta1: {
    flag: "--beta1 <b>",
    kind: "number from 0",
    help: "AdamW's β1",
    shown: "0.9",
    default: 0.9,
    check: (value) => checkBeta("beta1", value),
  },
  beta2: {
    flag: "--beta2 <b>",
    kind: "number from 0",
    help: "AdamW's β2",
    shown: "0.95",
    default: 0.95,
    check: (value) => checkBeta("beta2", value),
  },
  epsilon: { flag: null, kind: "positive number", help: "AdamW's ε", default: 1e-8 },
  /** Decoupled weight decay of matrices. */
  decay: {
    flag: "--weight-decay <d>",
    kind: "number from 0",
    help: "decay of matrices",
    shown: "0.01; pretrain 0.1",
    default: ({ task }) => WEIGHT_DECAY[task],
  },
  /** Largest norm of the gradient; 0: no clipping. */
  clip: {
    flag: "--clip <norm>",
    kind: "number from 0",
    help: "largest norm of the gradient, 0 for none",
    shown: "1",
    default: 1,
  },
  /** Share of the teacher in the loss: (1 − kd)·NLL + kd·T²·KL. */
  kd: {
    flag: "--kd <share>",
    kind: "number from 0",
    help: "share of the teacher in the loss",
    shown: "0.5",
    default: ({ task }) => (task === "distill" ? 0.5 : 0),
    check: (value) =>
      value < 0 || value > 1
        ? [`--kd ${value} is not between 0 and 1`, "0 is labels alone, 1 the teacher alone"]
        : null,
    teacher: true,
  },
  /** T of both distributions in KL. */
  temperature: {
    flag: "--temperature <T>",
    kind: "positive number",
    help: "temperature of the teacher's distribution",
    shown: "1",
    default: 1,
    teacher: true,
  },
  /** β of the noise prior. */
  noiseKl: {
    flag: "--noise-kl <beta>",
    kind: "number from 0",
    help: "weight of the noise prior N(0, 1)",
    shown: "0.001",
    default: 1e-3,
  },
  /** First steps, which learn the teacher's attention alone. */
  transferSteps: {
    flag: "--transfer-steps <n>",
    kind: "integer from 0",
    help: "first steps, on attention alone",
    shown: "30 %, at most 50",
    // The noise alone is no attention to transfer.
    default: ({ transferable, settings: { steps, train } }) =>
      transferable && train !== "noise" ? Math.min(MAX_TRANSFER_STEPS, Math.round(TRANSFER_SHARE * steps)) : 0,
    check: checkTransfer,
    teacher: true,
  },
  /** Peak learning rate of those steps. */
  transferLr: {
    flag: "--transfer-lr <rate>",
    kind: "positive number",
    help: "peak learning rate of those",
    shown: "0.005",
    default: 5e-3,
    teacher: true,
  },
  /** The same for noise parameters. */
  transferNoiseLr: {
    flag: "--transfer-noise-lr <rate>",
    kind: "positive number",
    help: "the same for noise parameters",
    shown: "0.02",
    default: 2e-2,
    teacher: true,
  },
  /** Which parameters move: the noise's alone, attention's (noise included), or all. */
  train: {
    flag: "--train <part>",
    kind: ["all", "attention", "noise"],
    help: "parameters that move",
    shown: "all",
    default: "all",
    check: checkTrained,
  },
  /** Whether noise is drawn in training, or held at its mean. */
  noise: {
    flag: "--noise <mode>",
    kind: ["sample", "mean"],
    help: "in training: drawn, or at its mean",
    shown: "sample",
    default: "sample",
  },
  teacherPrecision: {
    flag: "--teacher-precision <name>",
    kind: ["fp32", "int8"],
    help: "the teacher's matrix products",
    shown: "fp32",
    default: "fp32",
    teacher: true,
  },
  /** Cache the teacher's k most likely tokens of each position; 0: run the teacher every time. */
  cacheTeacher: {
    flag: "--cache-teacher [k]",
    kind: "positive integer",
    help: `store the teacher's k most likely tokens once (default k: ${DEFAULT_TOP_K})`,
    bare: DEFAULT_TOP_K,
    default: 0,
    check: (value, { settings: { temperature } }) =>
      value > 0 && temperature !== 1
        ? ["a cached teacher has no temperature but 1", "leave out --temperature or --cache-teacher"]
        : null,
    teacher: true,
  },
  /** Steps between evaluations on held-out text. */
  evalEvery: {
    flag: "--eval-every <steps>",
    kind: "positive integer",
    help: "steps between evaluations on held-out text",
    shown: "a tenth",
    default: ({ settings }) => Math.max(1, Math.round(settings.steps / 10)),
  },
  /** Most held-out tokens that an evaluation during the run uses. */
  evalTokens: {
    flag: "--eval-tokens <n>",
    kind: "positive integer",
    help: "held-out tokens that an evaluation uses",
    shown: "65536",
    default: 65_536,
    check: (value) => (value < 2 ? [`--eval-tokens ${value} is too few`, "scoring needs 2 tokens at least"] : null),
  },
} as const satisfies SettingTable<TextContext>;

export interface TrainSettings extends SettingValues<typeof TEXT_SETTINGS> {
  task: TrainMode;
}

/**
 * The settings of a run: what the caller gives, the defaults for the rest.
 * @param teacher configuration of the model to learn from
 * @throws NfcError "usage" for settings that do not go together
 */
export function resolveTrainSettings(
  task: TrainMode,
  config: ModelConfig,
  given: Given<TrainSettings> = {},
  teacher: ModelConfig | null = null,
): TrainSettings {
  const transferable = teacher !== null && config.variant !== "dense" && canTransfer(config, teacher);
  const hasBatchSize = given.batchSize !== undefined;
  const makeContext = (settings: TextContext["settings"]) => ({ task, config, transferable, hasBatchSize, settings });
  return { task, ...resolveSettings<TextContext, typeof TEXT_SETTINGS>(TEXT_SETTINGS, given, makeContext) };
}

/** Whether two models have attention maps that can be compared one by one. */
export function canTransfer(student: ModelConfig, teacher: ModelConfig): boolean {
  return student.n_layer === teacher.n_layer && student.n_head === teacher.n_head && student.n_embd === teacher.n_embd;
}

function checkLength(length: number, { config: { n_positions } }: TextContext): Refusal | null {
  if (length < 2) return [`windows of ${length} tokens are too short`, "give a --length of 2 at least"];
  if (length <= n_positions) return null;
  return [`windows of ${length} tokens, but the model has ${n_positions} positions`, "give a smaller --length"];
}

function checkBeta(name: string, value: number): Refusal | null {
  return value >= 1 ? [`--${name} ${value} is not below 1`, "0.9 and 0.95 are usual"] : null;
}

function checkTransfer(transferSteps: number, { settings: { steps, train } }: TextContext): Refusal | null {
  if (transferSteps > 0 && train === "noise")
    return ["attention transfer moves more than the noise", "leave out --transfer-steps, or take --train attention"];
  if (transferSteps <= steps) return null;
  return [`${transferSteps} steps of attention transfer in a run of ${steps}`, "lower --transfer-steps"];
}

function checkTrained(train: string, { config: { variant } }: TextContext): Refusal | null {
  if (train !== "noise" || variant.startsWith("noise-")) return null;
  return [`a ${variant} model has no noise to train`, "take --train all"];
}
