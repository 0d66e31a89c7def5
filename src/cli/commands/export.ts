// nfc export: writes ONNX for transformers.js and optimum, safetensors in another dtype, GGUF, or plain GPT-2.
import { Command, InvalidArgumentError, Option } from "commander";
import { parseBytes } from "../../check/units.ts";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ModelFiles } from "../../checkpoint/collect-files.ts";
import { LEAST_SCORED_TOKENS } from "../../checkpoint/nfc-record.ts";
import type { ExportOptions, ExportResult } from "../../export/export-model.ts";
import type { OnnxExportOptions } from "../../export/onnx/onnx-export.ts";
import { GGUF_PRECISIONS, type GgufPrecision } from "../../formats/gguf/types.ts";
import type { BlockBits } from "../../graph/passes/quantized-blocks.ts";
import { PRECISIONS, type Precision } from "../../model/precision.ts";
import { BLOCK_SIZES, EMBEDDING_BITS, hasBlocks } from "../../model/quantization.ts";
import { formatList } from "../../report/render/format.ts";
import { formatResult } from "../export-result.ts";
import { requireRuntime, withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  type CommonFlags,
  DTYPE_NAMES,
  makeNumberParser,
  parseByteSize,
  parseGguf,
  parsePositiveInteger,
  parsePrecisions,
  parseSeed,
  readNoiseFlags,
  refuseIf,
  type SourceFlags,
  toDtype,
} from "../options.ts";
import { readPercent } from "../percent.ts";
import { type Context, note, printResult } from "../terminal.ts";

interface ExportFlags extends CommonFlags, SourceFlags {
  output?: string;
  onnx?: boolean;
  externalData?: boolean;
  shareWeights?: boolean;
  precision?: Precision[];
  blockSize?: number;
  embeddingBits?: BlockBits;
  budget?: NonNullable<OnnxExportOptions["budget"]>;
  symmetric?: boolean;
  reduceRange?: boolean;
  calibration?: string;
  calibrationTokens?: number;
  text?: string[];
  noise: "mean" | "sample";
  seed?: number;
  hf?: boolean;
  settings?: string;
  safetensors?: boolean;
  dtype?: string;
  maxShardSize?: number;
  gguf?: GgufPrecision[];
  gpt2?: boolean;
  dropNoise?: boolean;
  force?: boolean;
}

const HELP = `
The ONNX folder runs in transformers.js as it is (KV cache, the tied head stored once); each written file is loaded and
compared with nfc's own forward pass before the folder appears. "verified" is the largest difference of a logit.

Examples:
  $ nfc export --onnx                                            # the last model made here
  $ nfc export out/nf --onnx -o out/nf-onnx
  $ nfc export out/nf --onnx --precision fp32,fp16,int8,q4 -o out/onnx --text valid.txt
  $ nfc export out/nf --precision q4,q2,mixed --budget 110% --calibration train.txt -o out/onnx
  $ nfc export out/nf --hf -o out/hf                             # transformers, trust_remote_code; distill.py
  $ nfc export out/nf --onnx --share-weights -o out/nf-both     # one copy of the weights for both formats
  $ nfc export out/nf --safetensors --dtype f16 -o out/nf-f16
  $ nfc export out/nf --safetensors --gpt2 -o out/gpt2           # loads in every GPT-2 program; not smaller
  $ nfc export out/gpt2 --gguf q8_0,q4_0 -o out/gguf             # for llama.cpp: plain GPT-2 only`;

const MODEL = "folder, .safetensors file, shard index, or hf://owner/name[@revision]";

export function exportCommand(context: Context): Command {
  const command = new Command("export")
    .argument("[model]", `${MODEL} (default: the last one that nfc made here)`)
    .option("-o, --output <folder>", "folder to write (default: the model's name with -onnx or the like, here)")
    .option("--onnx", "write onnx/model.onnx (the default when no format is named)")
    .option("--precision <list>", `ONNX files to write: ${PRECISIONS.join(", ")} (default: fp32)`, parsePrecisions)
    .addOption(
      new Option(
        "--block-size <n>",
        "weights that share a scale in uint8, mixed, q4, q4f16, q2: 16, 32 (default), 64, 128",
      ).argParser(parseBlockSize),
    )
    .option("--symmetric", "blocks without zero points: smaller, less exact")
    .addOption(
      new Option(
        "--embedding-bits <n>",
        "bits of the token embedding in blocks: 2, 4, 8 (default: 8 in uint8, by the budget in mixed, else 4)",
      ).argParser(parseEmbeddingBits),
    )
    .option("--budget <size>", "size of the mixed file: 60MB, or a share of q4's (default: 110%)", parseBudget)
    .option("--reduce-range", "int8 in 7 bits, for x86 processors without VNNI, whose sums overflow")
    .option(
      "--calibration <file>",
      "text on which blocks are chosen (GPTQ): slower, more exact; for mixed also the bits",
    )
    .option("--calibration-tokens <n>", "tokens of it (default: 8192)", parsePositiveInteger)
    .option("--text <files...>", "compare every file with the float32 model on this text")
    .option("--external-data", "ONNX weights in model.onnx_data (needed from 2 GB)")
    .option("--share-weights", "ONNX and safetensors use one file of weights")
    .addOption(new Option("--noise <mode>", "noise in the ONNX graph").choices(["mean", "sample"]).default("mean"))
    .option("--seed <n>", "seed of --noise sample (default: 1)", parseSeed)
    .option("--safetensors", "write model.safetensors")
    .addOption(new Option("--dtype <name>", "safetensors dtype (default: as stored)").choices(DTYPE_NAMES))
    .option("--max-shard-size <size>", "split safetensors into files of at most this size", parseByteSize)
    .option(
      "--gpt2",
      "write q, k and v of every head in full, so that every GPT-2 program loads it (implies --safetensors)",
    )
    .option("--gguf <list>", `files for llama.cpp, of a plain GPT-2: ${GGUF_PRECISIONS.join(", ")}`, parseGguf)
    .option("--hf", "safetensors that Hugging Face transformers loads with trust_remote_code (implies --safetensors)")
    .option("--settings <path>", "with --hf: distill.py's settings: JSON, or a model that nfc distill made")
    .option("--drop-noise", "with --gpt2: accept losing the distance means of noise-distance")
    .option("-f, --force", "replace an existing output folder")
    .addHelpText("after", HELP);
  return addSourceFlags(addCommonFlags(command)).action((model: string | undefined, flags: ExportFlags) =>
    run(context, model, flags),
  );
}

async function run(context: Context, named: string | undefined, flags: ExportFlags): Promise<void> {
  const options = toOptions(flags);
  const { exportModel } = await import("../../export/export-model.ts");
  if (options.onnx) await requireRuntime();
  const { model, output } = await nameUnnamed(context, named, flags, options);
  const result = await withCheckpoint(context, model, flags, async (checkpoint, progress) => {
    for (const line of checkpoint.notes) note(context.io, flags, line);
    return exportModel(checkpoint, {
      ...options,
      files: flags.hf ? await makeFiles(context, checkpoint, flags) : undefined,
      output,
      command: ["nfc", ...context.io.argv.slice(2)],
      onProgress: progress.show,
      signal: context.signal,
    });
  });
  for (const line of result.notes) note(context.io, flags, line);
  if (flags.gpt2 && result.expanded)
    note(
      context.io,
      flags,
      "expanded to plain GPT-2: q, k and v are stored in full, so attention is not smaller than the source's",
    );
  if (flags.text && !result.exports.some(({ perplexity }) => perplexity))
    note(context.io, flags, `--text is too short to tell quality, for which it needs ${LEAST_SCORED_TOKENS} tokens`);
  printResult(context.io, flags, toJson(result), () => formatResult(result));
}

/** What PyTorch distills the model by. A classifier is refused with the export. */
async function makeFiles({ io }: Context, checkpoint: Checkpoint, flags: ExportFlags): Promise<ModelFiles | undefined> {
  if (checkpoint.config.labels) return undefined;
  const { readScriptSettings } = await import("../../distill/script-settings.ts");
  const { makeDistillFiles } = await import("../../distill/script-files.ts");
  const found = flags.settings === undefined ? { given: {}, notes: [] } : await readScriptSettings(flags.settings);
  for (const line of found.notes) note(io, flags, line);
  return makeDistillFiles(checkpoint, found.given);
}

/** Model and output, chosen and told at once where they are not named. */
async function nameUnnamed(
  { io }: Context,
  model: string | undefined,
  flags: ExportFlags,
  { onnx, safetensors, gguf, gpt2, hf }: Omit<ExportOptions, "output">,
): Promise<{ model: string; output: string }> {
  if (model !== undefined && flags.output !== undefined) return { model, output: flags.output };
  const { chooseLatest } = await import("../unnamed/choose.ts");
  const { nameOutput } = await import("../unnamed/names.ts");
  const chosen = model === undefined ? await chooseLatest() : { model, remarks: [] };
  const several = [onnx, safetensors, gguf].filter(Boolean).length > 1;
  const single = onnx ? "onnx" : hf ? "hf" : gguf ? "gguf" : "safetensors";
  const format = gpt2 ? "gpt2" : several ? "export" : single;
  const output = flags.output ?? nameOutput(chosen.model, format);
  const latest = model === undefined ? ", the last model made here" : "";
  note(io, flags, `exports ${chosen.model}${latest}, writes ${output}`);
  for (const line of chosen.remarks) note(io, flags, line);
  return { model: chosen.model, output };
}

function toOptions(flags: ExportFlags): Omit<ExportOptions, "output"> {
  checkFlags(flags);
  const { force, gpt2, dropNoise, hf, gguf, threads, maxShardSize } = flags;
  const safetensors = flags.safetensors || gpt2 || hf || flags.dtype !== undefined || maxShardSize !== undefined;
  const onnx =
    flags.onnx ||
    flags.precision ||
    flags.externalData ||
    flags.shareWeights ||
    flags.noise === "sample" ||
    !(safetensors || gguf);
  return {
    ...{ force, gpt2, dropNoise, hf, gguf, threads },
    onnx: onnx ? toOnnxOptions(flags) : undefined,
    safetensors: safetensors ? { dtype: toDtype(flags.dtype), maxShardSize } : undefined,
  };
}

function toOnnxOptions(flags: ExportFlags): OnnxExportOptions {
  const { precision, blockSize: block, symmetric, reduceRange, calibration: file, calibrationTokens: tokens } = flags;
  return {
    weights: flags.shareWeights ? "shared" : flags.externalData ? "external" : "inline",
    noise: readNoiseFlags(flags),
    precisions: precision,
    quantization: { block, symmetric, reduceRange, embeddingBits: flags.embeddingBits },
    budget: flags.budget,
    calibration: file === undefined ? undefined : { file, tokens },
    texts: flags.text,
  };
}

const parseBlockSize = makeNumberParser(`not one of ${BLOCK_SIZES.join(", ")}`, (block) => BLOCK_SIZES.includes(block));

const parseEmbeddingBits = (text: string) =>
  makeNumberParser(`not one of ${EMBEDDING_BITS.join(", ")}`, (bits) => EMBEDDING_BITS.some((one) => one === bits))(
    text,
  ) as BlockBits;

/** "60MB", or "110%" of the q4 file. */
function parseBudget(text: string): NonNullable<OnnxExportOptions["budget"]> {
  const percent = readPercent(text);
  if (percent !== null && percent > 0) return { share: percent / 100 };
  const bytes = parseBytes(text);
  if (bytes === null) throw new InvalidArgumentError("not a size such as 60MB, or a share of q4's such as 110%");
  return { bytes };
}

/** Refuses flags that would be ignored, because their user expects an effect. */
function checkFlags(flags: ExportFlags): void {
  const { shareWeights, externalData, gpt2, precision } = flags;
  const has = (...wanted: Precision[]) => precision?.some((one) => wanted.includes(one)) ?? false;
  const own = flags.dtype !== undefined ? "--dtype" : flags.maxShardSize !== undefined ? "--max-shard-size" : null;
  refuseIf(
    flags.onnx && own && !flags.safetensors && !gpt2 && !flags.hf,
    `${own} is for safetensors, ONNX has --precision`,
    "leave it out, or add --safetensors",
  );
  refuseIf(shareWeights && externalData, "--share-weights and --external-data do not go together", "give one of them");
  for (const [given, flag] of [
    [flags.blockSize, "--block-size"],
    [flags.symmetric, "--symmetric"],
    [flags.embeddingBits, "--embedding-bits"],
    [flags.calibration, "--calibration"],
  ] as const)
    refuseIf(
      given !== undefined && !precision?.some(hasBlocks),
      `${flag} is for ${formatList(PRECISIONS.filter(hasBlocks))}`,
      "leave it out, or name one of them in --precision",
    );
  refuseIf(
    flags.calibrationTokens !== undefined && !flags.calibration,
    "--calibration-tokens says how much text",
    "give --calibration FILE too",
  );
  refuseIf(flags.budget && !has("mixed"), "--budget is for mixed", "leave it out, or add --precision mixed");
  refuseIf(flags.reduceRange && !has("int8"), "--reduce-range is for int8", "leave it out, or add --precision int8");
  refuseIf(
    flags.text && flags.noise === "sample",
    "--text compares files without noise",
    "leave out --text or --noise sample",
  );
  refuseIf(
    flags.settings !== undefined && !flags.hf,
    "--settings is for distill.py, which goes with --hf",
    "leave it out, or add --hf",
  );
  refuseIf(flags.dropNoise && !gpt2, "--drop-noise is for --gpt2", "leave it out, or add --gpt2");
}

function toJson({ folder, files, onnx, exports }: ExportResult): object {
  return {
    output: folder,
    files,
    ...(onnx.length > 0 && {
      onnx: onnx.map(({ precision, weights, verification }) => ({ precision, weights, verification })),
      exports,
    }),
  };
}
