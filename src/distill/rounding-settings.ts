// The settings of training for the rounding of an export: its precision and its blocks.
import type { BlockBits } from "../graph/passes/quantized-blocks.ts";
import type { ModelConfig } from "../model/config.ts";
import {
  EMBEDDING_BITS,
  hasBlocks,
  MIXED_PERCENT,
  type QuantizationOptions,
  resolveQuantization,
  TRAINED_PRECISIONS,
  type TrainedPrecision,
} from "../model/quantization.ts";
import { declare, type Refusal } from "./resolve-settings.ts";

export interface RoundingContext {
  task: string;
  config: ModelConfig;
  settings: { quantize: "none" | TrainedPrecision } & Record<"steps" | "quantizeSteps" | "extendedFrom", number>;
}

/** Share of a run's steps, the last ones, that round weights (docs/decisions/0052-training-with-rounded-weights.md). */
const ROUNDED_SHARE = 0.3;

export const ROUNDING_SETTINGS = {
  /** The precision of export that the model is trained for: graphs read its weights rounded as that stores them. */
  quantize: declare(
    "--quantize <precision>",
    ["none", ...TRAINED_PRECISIONS],
    "train for the rounding of this precision of nfc export",
    "none",
    { check: refuseFreshMixed },
  ),
  /** Steps at the end that graphs read rounded weights in; 0: none are rounded. */
  quantizeSteps: declare(
    "--quantize-steps <n>",
    "integer from 0",
    "with --quantize: the last steps, in which the weights are rounded",
    chooseRoundedSteps,
    { shown: "30 %", check: checkRoundedSteps },
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
  /** Bits of the token embedding and of the head, in blocks; 0: those of the precision. */
  embeddingBits: declare(
    "--embedding-bits <n>",
    "integer from 0",
    "with --quantize uint8, mixed, q4 or q2: bits of the token embedding: 2, 4 or 8",
    0,
    { shown: "those of the precision", check: checkEmbeddingBits },
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
    chooseGrid,
    { shown: "fixed" },
  ),
};

/** Blocks as nfc export makes them of the model; 0 where the precision has none. */
function chooseBlock({ config, settings: { quantize } }: RoundingContext): number {
  return isBlocked(quantize) ? resolveQuantization(config.n_embd, [quantize]).block : 0;
}

/** Random weights outgrow the grids that they begin with. */
function chooseGrid({ task, settings }: RoundingContext): "fixed" | "refit" {
  return task === "pretrain" && isRounded(0, settings) ? "refit" : "fixed";
}

function chooseRoundedSteps({ settings: { quantize, steps, extendedFrom } }: RoundingContext): number {
  return quantize === "none" ? 0 : Math.ceil(ROUNDED_SHARE * (steps - extendedFrom));
}

function checkRoundedSteps(rounded: number, { settings: { quantize, steps } }: RoundingContext): Refusal {
  if (quantize === "none") return rounded === 0 ? null : ["--quantize-steps is for --quantize", "give a precision"];
  if (rounded > steps) return [`--quantize-steps ${rounded} in a run of ${steps}`, "lower it, or raise --steps"];
  return rounded > 0 ? null : ["--quantize-steps 0 rounds nothing", "leave out --quantize, or give some steps"];
}

/** The choices of a run about its blocks, as an export takes them. */
export function toQuantization(settings: {
  block: number;
  symmetric: string;
  embeddingBits: number;
}): QuantizationOptions {
  const { block, symmetric, embeddingBits } = settings;
  const own = embeddingBits > 0 ? { embeddingBits: embeddingBits as BlockBits } : {};
  return { block, symmetric: symmetric === "yes", ...own };
}

/** Whether weights are rounded after so many steps: those that a run begins with are, where all its steps round. */
export function isRounded(step: number, { steps, quantizeSteps }: Record<"steps" | "quantizeSteps", number>): boolean {
  return quantizeSteps > 0 && step >= steps - quantizeSteps;
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

function checkEmbeddingBits(bits: number, { settings: { quantize } }: RoundingContext): Refusal {
  if (bits === 0) return null;
  if (!isBlocked(quantize)) return refuseBlocks("--embedding-bits");
  return EMBEDDING_BITS.includes(bits as BlockBits)
    ? null
    : [`--embedding-bits ${bits}: not one of ${EMBEDDING_BITS.join(", ")}`, "choose one of them"];
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
