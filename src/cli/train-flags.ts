// Flags of the three training commands, and what they become.
import { type Command, Option } from "commander";
import { TEACHER_PRECISIONS, TRAINED_PARTS, type TrainSettings } from "../distill/settings.ts";
import { DEVICES, type Device } from "../graph/session.ts";
import {
  addCommonFlags,
  type CommonFlags,
  parseNonNegativeInteger,
  parseNonNegativeNumber,
  parsePositiveInteger,
  parsePositiveNumber,
  parseSeed,
} from "./options.ts";

export interface TrainFlags extends CommonFlags {
  output: string;
  data: string[];
  valid?: string[];
  field?: string;
  cache?: string;
  device: Device;
  saveEvery?: number;
  resume?: boolean;
  force?: boolean;
  steps?: number;
  batchSize?: number;
  accumulate?: number;
  length?: number;
  seed?: number;
  lr?: number;
  noiseLr?: number;
  warmup?: number;
  lrFloor?: number;
  beta1?: number;
  beta2?: number;
  weightDecay?: number;
  clip?: number;
  noiseKl?: number;
  train?: TrainSettings["train"];
  noise?: TrainSettings["noise"];
  evalEvery?: number;
  evalTokens?: number;
  // distill alone
  kd?: number;
  temperature?: number;
  transferSteps?: number;
  transferLr?: number;
  transferNoiseLr?: number;
  teacherPrecision?: TrainSettings["teacherPrecision"];
  cacheTeacher?: number;
}

export interface TrainDefaults {
  steps: number;
  lr: string;
  /** The command trains on tasks as well, where --warmup is a share. */
  tasks?: boolean;
}

/** Adds what all training commands take; `defaults` are shown in the help. */
export function addTrainFlags(command: Command, defaults: TrainDefaults): Command {
  command
    .requiredOption("--data <paths...>", "training text: .txt, .jsonl, folders, globs; or nanoGPT's .bin")
    .requiredOption("-o, --output <folder>", "folder to write")
    .option("--valid <paths...>", "held-out text (default: the end of --data)")
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)")
    .option("--steps <n>", `optimiser steps (default: ${defaults.steps})`, parsePositiveInteger)
    .option("--batch-size <n>", "windows of a micro-batch (default: for 4,096 tokens a step)", parsePositiveInteger)
    .option("--accumulate <n>", "micro-batches of a step (default: as few as memory allows)", parsePositiveInteger)
    .option("--length <n>", "tokens of a window (default: n_positions, at most 512)", parsePositiveInteger)
    .option("--lr <rate>", `peak learning rate (default: ${defaults.lr})`, parsePositiveNumber)
    .option("--noise-lr <rate>", "peak learning rate of the noise parameters (default: 0.01)", parsePositiveNumber)
    .option(
      "--warmup <steps>",
      `steps of linear warmup (default: 5 %)${defaults.tasks ? "; with --task their share (default: 0.06)" : ""}`,
      defaults.tasks ? parseNonNegativeNumber : parseNonNegativeInteger,
    )
    .option("--lr-floor <share>", "last learning rate, as a share of the peak (default: 0.05)", parseNonNegativeNumber)
    .option("--beta1 <b>", "AdamW's β1 (default: 0.9)", parseNonNegativeNumber)
    .option("--beta2 <b>", "AdamW's β2 (default: 0.95)", parseNonNegativeNumber)
    .option("--weight-decay <d>", "decay of matrices (default: 0.01; pretrain 0.1)", parseNonNegativeNumber)
    .option("--clip <norm>", "largest norm of the gradient, 0 for none (default: 1)", parseNonNegativeNumber)
    .option("--noise-kl <beta>", "weight of the noise prior N(0, 1) (default: 0.001)", parseNonNegativeNumber)
    .addOption(new Option("--train <part>", "parameters that move (default: all)").choices(TRAINED_PARTS))
    .addOption(
      new Option("--noise <mode>", "in training: drawn, or at its mean (default: sample)").choices(["sample", "mean"]),
    )
    .option("--seed <n>", "seed of windows and noise (default: 0)", parseSeed)
    .option(
      "--eval-every <steps>",
      "steps between evaluations on held-out text (default: a tenth)",
      parsePositiveInteger,
    )
    .option("--eval-tokens <n>", "held-out tokens that an evaluation uses (default: 65536)", parsePositiveInteger)
    .option("--save-every <steps>", "steps between checkpoints (default: 50)", parsePositiveInteger)
    .option("--cache <folder>", "folder of cache files (default: in ~/.cache/nfc)")
    .addOption(new Option("--device <name>", "where ONNX Runtime computes").choices(DEVICES).default("cpu"))
    .option("--resume", "go on with an interrupted run")
    .option("-f, --force", "replace an existing output, start an unfinished run over");
  return addCommonFlags(command);
}

/** Adds what a teacher needs. */
export function addTeacherFlags(command: Command): Command {
  return command
    .option("--kd <share>", "share of the teacher in the loss (default: 0.5)", parseNonNegativeNumber)
    .option("--temperature <T>", "temperature of the teacher's distribution (default: 1)", parsePositiveNumber)
    .option(
      "--transfer-steps <n>",
      "first steps, on attention alone (default: 30 %, at most 50)",
      parseNonNegativeInteger,
    )
    .option("--transfer-lr <rate>", "peak learning rate of those (default: 0.005)", parsePositiveNumber)
    .option("--transfer-noise-lr <rate>", "the same for noise parameters (default: 0.02)", parsePositiveNumber)
    .addOption(
      new Option("--teacher-precision <name>", "the teacher's matrix products (default: fp32)").choices(
        TEACHER_PRECISIONS,
      ),
    )
    .option(
      "--cache-teacher [k]",
      "store the teacher's k most likely tokens once (default k: 32)",
      parsePositiveInteger,
    );
}

/** k of --cache-teacher without a number. */
const DEFAULT_TOP_K = 32;

/** The settings that flags name; what they do not name keeps its default. */
export function toTrainSettings(flags: TrainFlags): Partial<TrainSettings> {
  const { lrFloor: floor, weightDecay: decay, cacheTeacher } = flags;
  const named = {
    ...pick(flags, [
      "steps",
      "batchSize",
      "accumulate",
      "length",
      "seed",
      "lr",
      "noiseLr",
      "warmup",
      "beta1",
      "beta2",
      "clip",
      "noiseKl",
    ]),
    ...pick(flags, ["train", "noise", "evalEvery", "evalTokens", "kd", "temperature", "transferSteps", "transferLr"]),
    ...pick(flags, ["transferNoiseLr", "teacherPrecision"]),
    ...(floor !== undefined && { floor }),
    ...(decay !== undefined && { decay }),
    ...(cacheTeacher !== undefined && {
      cacheTeacher: (cacheTeacher as number | true) === true ? DEFAULT_TOP_K : cacheTeacher,
    }),
  };
  return named;
}

function pick<K extends keyof TrainFlags>(flags: TrainFlags, keys: readonly K[]): Partial<Pick<TrainFlags, K>> {
  return Object.fromEntries(keys.filter((key) => flags[key] !== undefined).map((key) => [key, flags[key]])) as Partial<
    Pick<TrainFlags, K>
  >;
}
