// Flags that several commands share, and the parsers of flag values.
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseBytes } from "../check/units.ts";
import type { OpenOptions } from "../checkpoint/checkpoint.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import { ACTIVATIONS, type Activation } from "../model/config.ts";
import { PRECISIONS, type Precision } from "../model/precision.ts";
import type { OutputFlags } from "./terminal.ts";

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
    .option("--threads <n>", "threads of ONNX Runtime and of the tie (default: all cores)", parsePositiveInteger);
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

export function parsePositiveInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError("not a positive integer");
  return value;
}

export function parseNonNegativeInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError("not an integer from 0");
  return value;
}

export function parseNonNegativeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new InvalidArgumentError("not a number from 0");
  return value;
}

/** A seed of RandomNormal: ONNX stores it as float32, which is exact up to 2²⁴. */
export function parseSeed(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 2 ** 24) throw new InvalidArgumentError("not an integer from 0 to 16777216");
  return value;
}

export function parsePositiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value <= 0)
    throw new InvalidArgumentError("not a positive number");
  return value;
}

/** "500MB", "1.5 GB", "2GiB" in bytes. */
export function parseByteSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === null) throw new InvalidArgumentError("not a size such as 500MB or 2GiB");
  return bytes;
}

/** "int8,q4" */
export function parsePrecisions(text: string): Precision[] {
  return text.split(",").map((part) => {
    const precision = PRECISIONS.find((name) => name === part.trim());
    if (precision) return precision;
    throw new InvalidArgumentError(`not a list of ${PRECISIONS.join(", ")}`);
  });
}

export const DTYPE_NAMES = ["f32", "f16", "bf16", "f64"] as const;

export function toDtype(name: string): FloatDtype {
  return name.toUpperCase() as FloatDtype;
}
