// Flags that several commands share, and the parsers of flag values.
import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseBytes } from "../check/units.ts";
import type { OpenOptions } from "../checkpoint/checkpoint.ts";
import { NfcError } from "../errors.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import { GGUF_PRECISIONS } from "../formats/gguf/types.ts";
import type { NoiseMode } from "../model/attention.ts";
import { ACTIVATIONS, type Activation } from "../model/config.ts";
import { PRECISIONS } from "../model/precision.ts";
import type { OutputFlags } from "./terminal.ts";
import { findChoice, suggest } from "./usage.ts";

export interface CommonFlags extends OutputFlags {
  threads?: number;
}

export interface SourceFlags {
  nHead?: number;
  activation?: Activation;
  trimVocab?: boolean | number;
  offline?: boolean;
}

/** Adds --json, --quiet and --threads. */
export function addCommonFlags(command: Command): Command {
  return command
    .option("--json", "print the result as JSON")
    .option("-q, --quiet", "no progress and no notes")
    .option("--threads <n>", "threads of ONNX Runtime, the tie and tokenizing (default: all cores)", parseThreads);
}

/** Adds what may be needed to read a checkpoint that does not say everything about itself. */
export function addSourceFlags(command: Command): Command {
  return command
    .option("--n-head <n>", "attention heads, where config.json does not tell", parsePositiveInteger)
    .addOption(
      new Option("--activation <name>", "activation of the MLP, where the checkpoint is silent or wrong").choices(
        ACTIVATIONS,
      ),
    )
    .option(
      "--trim-vocab [rows]",
      "drop the padding rows of the vocabulary (nanoGPT's 50304 → 50257)",
      parsePositiveInteger,
    )
    .option("--offline", "hf:// sources: use the cache only");
}

export function toOpenOptions(flags: SourceFlags): OpenOptions {
  const { nHead, activation, trimVocab, offline } = flags;
  return { nHead, activation, trimVocab, offline };
}

const DIGITS = /^\d+$/;

/** A parser of a flag's number, which refuses text of another form and values that are not valid. */
export function makeNumberParser(
  fault: string,
  isValid: (value: number) => boolean,
  form = DIGITS,
): (text: string) => number {
  return (text) => {
    if (form.test(text) && isValid(Number(text))) return Number(text);
    throw new InvalidArgumentError(fault);
  };
}

const ANY = /\S/;
const isPositive = (value: number) => Number.isFinite(value) && value > 0;

export const parsePositiveInteger = makeNumberParser(
  "not a positive integer",
  (value) => Number.isSafeInteger(value) && value > 0,
);

/** Threads beyond it only wait for each other; thousands of them would bring the machine to a halt. */
const MAX_THREADS = Math.max(64, 4 * availableParallelism());

function parseThreads(text: string): number {
  const threads = parsePositiveInteger(text);
  if (threads <= MAX_THREADS) return threads;
  throw new InvalidArgumentError(`above ${MAX_THREADS}, the most that is of use here`);
}

export const parseNonNegativeInteger = makeNumberParser("not an integer from 0", Number.isSafeInteger);
export const parsePositiveNumber = makeNumberParser("not a positive number", isPositive, ANY);
export const parseNonNegativeNumber = makeNumberParser(
  "not a number from 0",
  (value) => value === 0 || isPositive(value),
  ANY,
);
const DEFAULT_SEED = 1;
/** A seed of RandomNormal, which ONNX stores as float32: integers are exact up to 2²⁴. */
export const parseSeed = makeNumberParser("not an integer from 0 to 16777216", (value) => value <= 2 ** 24);

/** "500MB", "1.5 GB", "2GiB" in bytes. */
export function parseByteSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === null) throw new InvalidArgumentError("not a size such as 500MB or 2GiB");
  return bytes;
}

/** "int8,q4" */
export const parsePrecisions = makeListParser(PRECISIONS);

/** "q8_0,q4_0" */
export const parseGguf = makeListParser(GGUF_PRECISIONS);

function makeListParser<Name extends string>(names: readonly Name[]): (text: string) => Name[] {
  return (text) =>
    text.split(",").map((part) => {
      const found = findChoice(names, part.trim());
      if (found) return found;
      throw new InvalidArgumentError(`not a list of ${names.join(", ")}${suggest(part.trim(), names)}`);
    });
}

export const DTYPE_NAMES = ["f32", "f16", "bf16", "f64"] as const;

export function toDtype(name: string | undefined): FloatDtype | undefined {
  return name?.toUpperCase() as FloatDtype | undefined;
}

/** @throws NfcError "usage" for flags that do not go together */
export function refuseIf(isFault: unknown, message: string, hint: string): void {
  if (isFault) throw new NfcError("usage", message, { hint });
}

type NoiseFlag = "mean" | "sample" | undefined;

/** The noise of a run by --noise, drawn with a seed in the graph, or at its mean. */
export function toNoiseMode(noise: NoiseFlag, seed: number): NoiseMode {
  return noise === "sample" ? { kind: "generated", seed } : { kind: "mean" };
}

/** The same of a command whose --seed is for that alone. @throws NfcError "usage" for a seed of no noise */
export function readNoiseFlags({ noise, seed }: { noise?: NoiseFlag; seed?: number | undefined }): NoiseMode {
  refuseIf(seed !== undefined && noise !== "sample", "--seed is for --noise sample", "leave it out, or add it");
  return toNoiseMode(noise, seed ?? DEFAULT_SEED);
}
