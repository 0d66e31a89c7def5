// The settings of training for the rounding of an export: its precision and its blocks.
import type { ModelConfig } from "../model/config.ts";
import {
  hasBlocks,
  MIXED_PERCENT,
  resolveQuantization,
  TRAINED_PRECISIONS,
  type TrainedPrecision,
} from "../model/quantization.ts";
import { declare, type Refusal } from "./resolve-settings.ts";

export interface RoundingContext {
  task: string;
  config: ModelConfig;
  settings: { quantize: "none" | TrainedPrecision };
}

export const ROUNDING_SETTINGS = {
  /** The precision of export that the model is trained for: graphs read its weights rounded as that stores them. */
  quantize: declare(
    "--quantize <precision>",
    ["none", ...TRAINED_PRECISIONS],
    "train for the rounding of this precision of nfc export",
    "none",
    { check: refuseFreshMixed },
  ),
  /** Bytes of the mixed file in percent of q4's, within which each matrix gets its bits; 0: the precision is another. */
  budget: declare(
    "--budget <percent>",
    "integer from 0",
    "with --quantize mixed: size of its file, in percent of q4's",
    ({ settings: { quantize } }: RoundingContext) => (quantize === "mixed" ? MIXED_PERCENT : 0),
    { shown: String(MIXED_PERCENT), check: checkBudget },
  ),
  /** Inputs that share a scale; 0: the precision has no blocks. */
  block: declare(
    "--block-size <n>",
    "integer from 0",
    "with --quantize uint8, mixed, q4 or q2: weights that share a scale",
    chooseBlock,
    {
      shown: "32",
      check: checkBlock,
    },
  ),
  /** Whether blocks have no zero points. */
  symmetric: declare(
    "--symmetric [choice]",
    ["no", "yes"],
    "with --quantize uint8, mixed, q4 or q2: blocks without zero points",
    "no",
    {
      shown: "",
      bare: "yes",
      check: checkSymmetric,
    },
  ),
  /** Whether scales and zero points stay those of the first weights, or are chosen anew after each step. */
  grid: declare(
    "--grid <mode>",
    ["fixed", "refit"],
    "with --quantize uint8, mixed, q4 or q2: scales stay as they begin, or are chosen anew after each step",
    ({ task, settings }: RoundingContext) => (settings.quantize !== "none" && task === "pretrain" ? "refit" : "fixed"),
    { shown: { distill: "fixed", finetune: "fixed", pretrain: "refit" } },
  ),
};

/** Blocks as nfc export makes them of the model; 0 where the precision has none. */
function chooseBlock({ config, settings: { quantize } }: RoundingContext): number {
  return isBlocked(quantize) ? resolveQuantization(config.n_embd, [quantize]).block : 0;
}

function refuseFreshMixed(quantize: string, { task }: RoundingContext): Refusal {
  if (quantize !== "mixed" || task !== "pretrain") return null;
  const hint = "pretrain in float32, and finetune with --quantize mixed";
  return ["mixed gives each matrix the bits that its weights need, and random ones tell nothing of that", hint];
}

function checkBudget(budget: number, { settings: { quantize } }: RoundingContext): Refusal {
  if (quantize === "mixed")
    return budget > 0 ? null : ["--budget is 0, expected: percent of q4's size", "give one, such as 110"];
  return budget === 0 ? null : ["--budget is for --quantize mixed", "leave it out, or give --quantize mixed"];
}

/** @throws NfcError "usage" for a size that is none, or does not divide n_embd */
function checkBlock(block: number, { config, settings: { quantize } }: RoundingContext): Refusal {
  if (!isBlocked(quantize)) return block === 0 ? null : refuseBlocks("--block-size");
  resolveQuantization(config.n_embd, [quantize], { block });
  return null;
}

function checkSymmetric(symmetric: string, { settings: { quantize } }: RoundingContext): Refusal {
  return symmetric === "no" || isBlocked(quantize) ? null : refuseBlocks("--symmetric");
}

const refuseBlocks = (flag: string): Refusal => [
  `${flag} is for precisions with blocks`,
  "leave it out, or give --quantize uint8, mixed, q4 or q2",
];

const isBlocked = (quantize: "none" | TrainedPrecision): quantize is TrainedPrecision =>
  quantize !== "none" && hasBlocks(quantize);
