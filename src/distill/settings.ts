// What a training run can be told, the defaults of each task, and what must stay the same when a run is resumed.
import { totalmem } from "node:os";
import { NfcError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";

const TRAIN_MODES = ["distill", "finetune", "pretrain"] as const;
export type TrainMode = (typeof TRAIN_MODES)[number];
/** Which parameters move: the noise's alone, attention's (noise included), or all. */
export const TRAINED_PARTS = ["all", "attention", "noise"] as const;
type TrainedPart = (typeof TRAINED_PARTS)[number];
export const TEACHER_PRECISIONS = ["fp32", "int8"] as const;

/** Everything that decides a run's result, besides its inputs. Plain JSON: `run.json` keeps it. */
export interface TrainSettings {
  task: TrainMode;
  /** Optimiser steps, attention transfer included. */
  steps: number;
  /** Windows of a micro-batch, micro-batches of a step, tokens of a window. */
  batchSize: number;
  accumulate: number;
  length: number;
  seed: number;
  /** Peak learning rate; of the noise parameters; linear warmup in steps; last rate as a fraction of the peak. */
  lr: number;
  noiseLr: number;
  warmup: number;
  floor: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled weight decay of matrices. */
  decay: number;
  /** Largest norm of the gradient; 0: no clipping. */
  clip: number;
  /** Share of the teacher in the loss: (1 − kd)·NLL + kd·T²·KL. */
  kd: number;
  temperature: number;
  /** β of the noise prior. */
  noiseKl: number;
  /** First steps that learn the teacher's attention alone, and their rates. */
  transferSteps: number;
  transferLr: number;
  transferNoiseLr: number;
  train: TrainedPart;
  /** Whether noise is drawn in training, or held at its mean. */
  noise: "sample" | "mean";
  teacherPrecision: (typeof TEACHER_PRECISIONS)[number];
  /** Cache the teacher's k most likely tokens of each position; 0: run the teacher every time. */
  cacheTeacher: number;
  evalEvery: number;
  /** Most held-out tokens that an evaluation during the run uses. */
  evalTokens: number;
}

/** Tokens of a step, unless the window alone is longer. */
const STEP_TOKENS = 4096;
const MAX_DEFAULT_LENGTH = 512;
/** Attention maps and hidden states of a micro-batch should stay within this many bytes. */
const ACTIVATION_BYTES = 4 * 2 ** 30;
/** Share of the steps that go to attention transfer, and the most of them: 50 do what 150 do (docs/distill.md). */
const TRANSFER_SHARE = 0.3;
const MAX_TRANSFER_STEPS = 50;

const LEARNING_RATE: Record<TrainMode, number> = { distill: 1e-3, finetune: 1e-4, pretrain: 1e-3 };
/** Distillation's rate was measured at this width; AdamW's best rate falls as 1/width (arXiv 2203.03466). */
const MEASURED_WIDTH = 256;
const WEIGHT_DECAY: Record<TrainMode, number> = { distill: 0.01, finetune: 0.01, pretrain: 0.1 };
const STEPS: Record<TrainMode, number> = { distill: 1000, finetune: 300, pretrain: 2000 };

/** The settings of a run: what the caller gives, the defaults for the rest. @throws NfcError "usage" */
export function resolveTrainSettings(
  task: TrainMode,
  config: ModelConfig,
  given: Partial<TrainSettings> & { transferable?: boolean } = {},
): TrainSettings {
  const { transferable = false, ...own } = given;
  const length = own.length ?? Math.min(config.n_positions, MAX_DEFAULT_LENGTH);
  const steps = own.steps ?? STEPS[task];
  // The noise alone is no attention to transfer.
  const transfer = Math.min(MAX_TRANSFER_STEPS, Math.round(TRANSFER_SHARE * steps));
  const transferSteps = own.transferSteps ?? (transferable && own.train !== "noise" ? transfer : 0);
  const windows = Math.max(1, Math.round(STEP_TOKENS / length));
  const accumulate = own.accumulate ?? (own.batchSize === undefined ? planMicroBatches(config, windows, length) : 1);
  const main = steps - transferSteps;
  const settings: TrainSettings = {
    task,
    steps,
    length,
    batchSize: Math.ceil(windows / accumulate),
    accumulate,
    seed: 0,
    lr: LEARNING_RATE[task] * (task === "distill" ? Math.min(1, MEASURED_WIDTH / config.n_embd) : 1),
    noiseLr: 1e-2,
    warmup: Math.round(0.05 * main),
    floor: 0.05,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    decay: WEIGHT_DECAY[task],
    clip: 1,
    kd: task === "distill" ? 0.5 : 0,
    temperature: 1,
    noiseKl: 1e-3,
    transferSteps,
    transferLr: 5e-3,
    transferNoiseLr: 2e-2,
    train: "all",
    noise: "sample",
    teacherPrecision: "fp32",
    cacheTeacher: 0,
    evalEvery: Math.max(1, Math.round(steps / 10)),
    evalTokens: 65_536,
    ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)),
  };
  checkSettings(settings, config);
  return settings;
}

/** The fewest micro-batches that keep a step's activations in bounds. */
function planMicroBatches(config: ModelConfig, windows: number, length: number): number {
  return Math.ceil(windows / Math.max(1, Math.floor(ACTIVATION_BYTES / estimateActivationBytes(config, length))));
}

/** An estimate of the activations of one window: about 40 values a channel and 6 maps a head in each layer. */
function estimateActivationBytes({ n_layer, n_embd, n_head }: ModelConfig, length: number): number {
  return 4 * n_layer * length * (40 * n_embd + 6 * n_head * length);
}

function checkSettings(settings: TrainSettings, config: ModelConfig): void {
  const { length, evalTokens, cacheTeacher, temperature, train, transferSteps, steps } = settings;
  const refuse = (message: string, hint: string) => {
    throw new NfcError("usage", message, { hint });
  };
  if (length < 2) refuse(`windows of ${length} tokens are too short`, "give a --length of 2 at least");
  if (evalTokens < 2) refuse(`--eval-tokens ${evalTokens} is too few`, "scoring needs 2 tokens at least");
  if (length > config.n_positions)
    refuse(`windows of ${length} tokens, but the model has ${config.n_positions} positions`, "give a smaller --length");
  const needed = settings.batchSize * estimateActivationBytes(config, length);
  if (needed > totalmem())
    refuse(
      `a micro-batch of ${settings.batchSize} windows needs about ${toBytes(needed)} GB, this machine has ${toBytes(totalmem())}`,
      "lower --batch-size, and raise --accumulate instead",
    );
  checkShares(settings);
  if (cacheTeacher > 0 && temperature !== 1)
    refuse("a cached teacher has no temperature but 1", "leave out --temperature or --cache-teacher");
  if (transferSteps > 0 && train === "noise")
    refuse("attention transfer moves more than the noise", "leave out --transfer-steps, or take --train attention");
  if (transferSteps > steps)
    refuse(`${transferSteps} steps of attention transfer in a run of ${steps}`, "lower --transfer-steps");
  if (train === "noise" && !config.variant.startsWith("noise-"))
    refuse(`a ${config.variant} model has no noise to train`, "take --train all");
}

/** @throws NfcError "usage" for what is no share of 1: the teacher's, AdamW's β, the last learning rate */
export function checkShares(settings: Pick<TrainSettings, "kd" | "beta1" | "beta2" | "floor">): void {
  const { kd, floor } = settings;
  const refuse = (message: string, hint: string) => {
    throw new NfcError("usage", message, { hint });
  };
  if (kd < 0 || kd > 1) refuse(`--kd ${kd} is not between 0 and 1`, "0 is labels alone, 1 the teacher alone");
  for (const name of ["beta1", "beta2"] as const)
    if (settings[name] >= 1) refuse(`--${name} ${settings[name]} is not below 1`, "0.9 and 0.95 are usual");
  if (floor > 1) refuse(`--lr-floor ${floor} is above 1`, "it is the last learning rate as a share of the peak");
}

const toBytes = (bytes: number) => (bytes / 1e9).toFixed(0);

/** Names of the settings in which two runs differ, as `name (old → new)`. */
export function listChangedSettings(old: object, current: object): string[] {
  const before = old as Record<string, unknown>;
  const after = current as Record<string, unknown>;
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((key) => before[key] !== after[key])
    .map((key) => `${key} (${showValue(before[key])} → ${showValue(after[key])})`);
}

function showValue(value: unknown): string {
  return typeof value === "string" && value.length > 16 ? `${value.slice(0, 12)}…` : String(value);
}
