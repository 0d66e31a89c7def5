// nfc export: ONNX for transformers.js and optimum, safetensors in another dtype, or plain GPT-2.
import { Command, Option } from "commander";
import { NfcError } from "../../errors.ts";
import type { ExportOptions, ExportResult } from "../../export/export-model.ts";
import type { WeightStorage } from "../../export/export-onnx.ts";
import type { Context } from "../context.ts";
import { withCheckpoint } from "../open.ts";
import {
  byteSize,
  type CommonFlags,
  commonFlags,
  DTYPE_NAMES,
  dtypeOf,
  type SourceFlags,
  seed,
  sourceFlags,
} from "../options.ts";
import { note, printResult } from "../terminal.ts";

interface ExportFlags extends CommonFlags, SourceFlags {
  output: string;
  onnx?: boolean;
  externalData?: boolean;
  shareWeights?: boolean;
  noise: "mean" | "sample";
  seed: number;
  safetensors?: boolean;
  dtype?: string;
  maxShardSize?: number;
  gpt2?: boolean;
  dropNoise?: boolean;
  force?: boolean;
}

const HELP = `
The ONNX folder runs in transformers.js as it is (float32, KV cache, the tied head stored once); the written file is
loaded and compared with nfc's own forward pass before the folder appears.

Examples:
  $ nfc export out/nf --onnx -o out/nf-onnx
  $ nfc export out/nf --onnx --share-weights -o out/nf-both     # one copy of the weights for both formats
  $ nfc export out/nf --safetensors --dtype f16 -o out/nf-f16
  $ nfc export out/nf --safetensors --gpt2 -o out/gpt2           # loads in every GPT-2 program; not smaller`;

export function exportCommand(context: Context): Command {
  const command = new Command("export")
    .description("Write a model as ONNX, as safetensors, or as plain GPT-2.")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]")
    .requiredOption("-o, --output <folder>", "folder to write")
    .option("--onnx", "write onnx/model.onnx (the default when no format is named)")
    .option("--external-data", "ONNX weights in model.onnx_data (needed from 2 GB)")
    .option("--share-weights", "ONNX and safetensors use one file of weights")
    .addOption(new Option("--noise <mode>", "noise in the ONNX graph").choices(["mean", "sample"]).default("mean"))
    .option("--seed <n>", "seed of --noise sample", seed, 1)
    .option("--safetensors", "write model.safetensors")
    .addOption(new Option("--dtype <name>", "safetensors dtype (default: as stored)").choices(DTYPE_NAMES))
    .option("--max-shard-size <size>", "split safetensors into files of at most this size", byteSize)
    .option("--gpt2", "expand [s, v] to [s, s, v], so that every GPT-2 program loads it (implies --safetensors)")
    .option("--drop-noise", "with --gpt2: accept losing the distance means of noise-distance")
    .option("-f, --force", "replace an existing output folder")
    .addHelpText("after", HELP);
  return sourceFlags(commonFlags(command)).action((model: string, flags: ExportFlags) => run(context, model, flags));
}

async function run(context: Context, model: string, flags: ExportFlags): Promise<void> {
  const { exportModel } = await import("../../export/export-model.ts");
  const result = await withCheckpoint(context, model, flags, (checkpoint, progress) => {
    for (const line of checkpoint.notes) note(context.io, flags, line);
    return exportModel(checkpoint, {
      ...optionsOf(flags),
      command: ["nfc", ...context.io.argv.slice(2)],
      onProgress: progress.show,
      signal: context.signal,
    });
  });
  if (flags.gpt2 && result.expanded)
    note(
      context.io,
      flags,
      "expanded to plain GPT-2: q = k = s is stored twice, so this is not smaller than the source",
    );
  printResult(context.io, flags, jsonOf(result), () => textOf(result));
}

function optionsOf(flags: ExportFlags): ExportOptions {
  checkFlags(flags);
  const safetensors = flags.safetensors || flags.gpt2 || flags.dtype !== undefined || flags.maxShardSize !== undefined;
  const onnx = flags.onnx || flags.externalData || flags.shareWeights || flags.noise === "sample" || !safetensors;
  const weights: WeightStorage = flags.shareWeights ? "shared" : flags.externalData ? "external" : "inline";
  const noise =
    flags.noise === "sample" ? ({ kind: "generated", seed: flags.seed } as const) : ({ kind: "mean" } as const);
  return {
    output: flags.output,
    force: flags.force ?? false,
    gpt2: flags.gpt2 ?? false,
    dropNoise: flags.dropNoise ?? false,
    ...(onnx && { onnx: { weights, noise } }),
    ...(safetensors && {
      safetensors: {
        ...(flags.dtype !== undefined && { dtype: dtypeOf(flags.dtype) }),
        ...(flags.maxShardSize !== undefined && { maxShardSize: flags.maxShardSize }),
      },
    }),
    ...(flags.threads !== undefined && { threads: flags.threads }),
  };
}

/** Refuses flags that would be ignored: whoever gives them expects something else. */
function checkFlags(flags: ExportFlags): void {
  const fault = (message: string, hint: string) => {
    throw new NfcError("usage", message, { hint });
  };
  const own = flags.dtype !== undefined ? "--dtype" : flags.maxShardSize !== undefined ? "--max-shard-size" : null;
  if (flags.onnx && own && !flags.safetensors && !flags.gpt2)
    fault(`${own} is for safetensors, ONNX is written in float32`, `leave it out, or add --safetensors`);
  if (flags.shareWeights && flags.externalData)
    fault("--share-weights and --external-data do not go together", "give one of them");
  if (flags.dropNoise && !flags.gpt2) fault("--drop-noise is for --gpt2", "leave it out, or add --gpt2");
}

function jsonOf({ folder, files, onnx }: ExportResult): object {
  return {
    output: folder,
    files,
    ...(onnx && { onnx: { weights: onnx.weights, verification: onnx.verification } }),
  };
}

function textOf({ folder, files, onnx }: ExportResult): string {
  const lines = [`${folder}: ${files.join(", ")}`];
  if (onnx?.verification) {
    const { worst, positions, tolerance } = onnx.verification;
    lines.push(
      `verified against nfc's forward pass at ${positions} positions: largest logit difference ${worst.toExponential(1)} (allowed ${tolerance.toExponential(1)})`,
    );
  } else if (onnx) lines.push("the file loads and draws fresh noise at each run");
  return lines.join("\n");
}
