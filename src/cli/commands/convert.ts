// nfc convert: turns a dense checkpoint into the folder of a tied model.
import { Command, Option } from "commander";
import type { ConvertResult } from "../../convert/convert.ts";
import { type ConvertOptions, DEFAULT_CALIBRATION_TOKENS } from "../../convert/convert-options.ts";
import { computeTrust, TIE_STRATEGIES, type TieStrategy } from "../../convert/tie.ts";
import { formatCommand } from "../../io/printable.ts";
import { hasDistanceMean, VARIANTS } from "../../model/variants.ts";
import { describeCut } from "../../report/describe-cut.ts";
import { formatBytes, formatCount, formatSignedPercent, formatThousands } from "../../report/render/format.ts";
import { alignTable } from "../../report/render/text.ts";
import { requireRuntime, withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  type CommonFlags,
  DTYPE_NAMES,
  parseByteSize,
  parsePositiveInteger,
  parsePositiveNumber,
  type SourceFlags,
  toDtype,
} from "../options.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { AXIS_HELP, type AxisFlags, addAxisFlags, listBlindCuts } from "./convert/axes.ts";
import {
  addPlanFlags,
  applyPlanFlags,
  type ConvertPlanFlags,
  describeApplied,
  PLAN_HELP,
  type PlanChoice,
  readPlanChoice,
} from "./convert/plan.ts";
import { addVocabularyFlags, toVocabularySettings, type VocabularyFlags } from "./convert/vocabulary.ts";

interface ConvertFlags extends CommonFlags, SourceFlags, AxisFlags, VocabularyFlags, ConvertPlanFlags {
  output?: string;
  variant: ConvertOptions["variant"];
  tie?: TieStrategy;
  calibration?: string[];
  calibrationTokens?: number;
  field?: string;
  noiseStd?: number;
  qkRank?: number;
  voRank?: number;
  dtype?: string;
  maxShardSize?: number;
  force?: boolean;
  verbose?: boolean;
}

const HELP = `
Ties:
  calibrated  fits S to the scores that the model computes on real text, weighted by its attention
              (default with --calibration)
  spectral    the same without text (default otherwise)
  mean, query, key   S = (Q + K)/2, Q or K: fast, much worse

Variants: symmetric has no noise. noise-shared and noise-per-head have a constant mean, which the softmax cannot
see: at the mean of the noise they compute what symmetric computes. noise-distance has a mean for each distance
between query and key, fitted on --calibration text.
${AXIS_HELP}
${PLAN_HELP}

Examples:
  $ nfc convert gpt2.safetensors                     # writes gpt2-nfc
  $ nfc convert gpt2/ -o out/nf --calibration text.txt
  $ nfc convert gpt2.safetensors -o out/nf --variant symmetric --tie spectral --dtype f16
  $ nfc convert hf://openai-community/gpt2 -o out/nf --calibration text.txt --verbose
  $ nfc convert gpt2/ -o out/small --variant dense --layers 8 --mlp 75% --calibration text.txt
  $ nfc convert gpt2/ -o out/small --target 70% --calibration text.txt`;

export function convertCommand(context: Context): Command {
  const command = new Command("convert")
    .description("Make a dense GPT-2 checkpoint smaller: tie Q and K of every attention head, cut layers and MLPs.")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]")
    .option("-o, --output <folder>", "folder to write (default: the model's name with -nfc, here)")
    .addOption(new Option("--variant <name>", "attention variant").choices(VARIANTS).default("noise-distance"))
    .addOption(new Option("--tie <strategy>", "how S is found").choices(TIE_STRATEGIES))
    .option("--calibration <files...>", "text (or JSON, or token ids as .bin) to run the teacher on")
    .option("--calibration-tokens <n>", "tokens of it to use (default: 8192)", parsePositiveInteger)
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)")
    .option("--noise-std <sigma>", "initial σ of the noise (default: 1, the prior's)", parsePositiveNumber)
    .option(
      "--qk-rank <n>",
      "numbers of q and k a head, for low-rank (default: half of the head)",
      parsePositiveInteger,
    )
    .option("--vo-rank <n>", "numbers of v a head, for every variant (default: all of the head)", parsePositiveInteger)
    .addOption(new Option("--dtype <name>", "dtype of all tensors (default: each keeps its own)").choices(DTYPE_NAMES))
    .option("--max-shard-size <size>", "split the weights into files of at most this size, such as 2GB", parseByteSize)
    .option("-f, --force", "replace an existing output folder")
    .option("--verbose", "print the tie error of every head")
    .addHelpText("after", HELP);
  addPlanFlags(addVocabularyFlags(addAxisFlags(command)));
  return addSourceFlags(addCommonFlags(command)).action((model: string, flags: ConvertFlags, own: Command) =>
    run(context, model, flags, readPlanChoice(flags, own)),
  );
}

async function run(context: Context, model: string, given: ConvertFlags, choice: PlanChoice | null): Promise<void> {
  const { convert } = await import("../../convert/convert.ts");
  if (given.calibration || choice) await requireRuntime();
  const result = await withCheckpoint(context, model, given, async (checkpoint, progress) => {
    const output = given.output ?? (await nameUnnamed(context, model, given));
    const call = { onProgress: progress.show, signal: context.signal };
    const applied = choice && (await applyPlanFlags(checkpoint, choice, { ...given, output }, call));
    const flags = { ...given, ...applied?.cuts };
    const converted = await convert(checkpoint, {
      ...toOptions(flags),
      output,
      plan: applied?.origin,
      command: ["nfc", ...context.io.argv.slice(2)],
      ...call,
    });
    progress.stop();
    if (applied) note(context.io, flags, describeApplied(applied));
    for (const line of [...converted.record.notes, ...listRemarks(model, output, flags), ...warnOfShortText(converted)])
      note(context.io, flags, line);
    return converted;
  });
  printResult(context.io, given, toJson(result), () => formatResult(result, given.verbose ?? false));
}

/** The output where none is named; it is told at once. */
async function nameUnnamed({ io }: Context, model: string, flags: ConvertFlags): Promise<string> {
  const { nameOutput } = await import("../unnamed/names.ts");
  const output = nameOutput(model, "nfc");
  note(io, flags, `converts ${model}, writes ${output}`);
  return output;
}

/** Remarks on a conversion that went well. */
function listRemarks(model: string, output: string, flags: ConvertFlags): string[] {
  const { variant, calibration, tie, layers, mlp } = flags;
  const lines: string[] = [];
  if (hasDistanceMean(variant) && !calibration)
    lines.push("without --calibration the distance means stay 0: give text for a better start");
  if (!calibration) lines.push(...listBlindCuts(flags));
  const cut = layers !== undefined || mlp !== undefined;
  if (calibration && !cut && tie !== undefined && tie !== "calibrated" && !hasDistanceMean(variant))
    lines.push(`--calibration was not used: neither --tie ${tie} nor --variant ${variant} needs text`);
  const measure = formatCommand(["nfc", "eval", output, "--text", "FILE", "--against", model]);
  return [...lines, `the model is worse than its source until it is trained; measure it with: ${measure}`];
}

/** The share of the text in the metric below which the result says so. */
const FULL_TRUST = 0.9;

/** A remark where the calibration text was too short for its statistics to be taken at their word. */
function warnOfShortText({ record: { tie } }: ConvertResult): string[] {
  if (tie?.strategy !== "calibrated" || !tie.calibration) return [];
  const { tokens } = tie.calibration;
  const trust = computeTrust(tokens);
  if (trust >= FULL_TRUST) return [];
  const share = `${Math.round(100 * trust)} %`;
  return [
    `the calibration text has ${formatCount(tokens, "token")}, which count for ${share} of the metric: give ${formatThousands(DEFAULT_CALIBRATION_TOKENS)}`,
  ];
}

function toOptions(flags: ConvertFlags): Omit<ConvertOptions, "output"> {
  const { variant, calibration, calibrationTokens, field, noiseStd, qkRank, voRank, maxShardSize, force, threads } =
    flags;
  const { layers, mlp, repair } = flags;
  return {
    ...{ variant, calibration, calibrationTokens, field, noiseStd, qkRank, voRank, maxShardSize, force, threads },
    ...{ layers, mlp, repair },
    strategy: flags.tie ?? (calibration ? "calibrated" : "spectral"),
    dtype: toDtype(flags.dtype),
    vocabulary: toVocabularySettings(flags),
  };
}

function toJson({ folder, record, parameters, byteLength, files }: ConvertResult): object {
  const { variant, tie, cuts, plan } = record;
  return {
    output: folder,
    variant,
    tie,
    ...(cuts && { cuts }),
    ...(plan && { plan }),
    parameters,
    bytes: byteLength,
    files,
  };
}

function formatResult(result: ConvertResult, verbose: boolean): string {
  const { record, parameters, byteLength, folder } = result;
  const { variant, tie, cuts = [] } = record;
  const saved = (100 * (parameters.after - parameters.before)) / parameters.before;
  const lines = [
    `${folder}: ${variant}, ${tie ? `tied by ${tie.strategy}, ` : ""}${formatBytes(byteLength)}`,
    `parameters ${formatThousands(parameters.before)} -> ${formatThousands(parameters.after)} (${formatSignedPercent(saved)})`,
    ...cuts.map(describeCut),
  ];
  return [...lines, ...(tie ? formatTie(tie, verbose) : [])].join("\n");
}

function formatTie({ strategy, errors }: NonNullable<ConvertResult["record"]["tie"]>, verbose: boolean): string[] {
  const all = errors.flat();
  const mean = all.reduce((sum, error) => sum + error, 0) / all.length;
  const worst = all.reduce((most, error) => Math.max(most, error), 0);
  const line = `tie error (${strategy} metric), mean of ${all.length} heads: ${mean.toFixed(3)} (worst ${worst.toFixed(3)})`;
  return [line, ...(verbose ? formatHeads(errors) : [])];
}

function formatHeads(errors: readonly (readonly number[])[]): string[] {
  const heads = errors[0]?.length ?? 0;
  const head = ["layer", ...Array.from({ length: heads }, (_, h) => `head ${h}`)];
  const rows = errors.map((row, layer) => [`h.${layer}`, ...row.map((error) => error.toFixed(3))]);
  return ["", ...alignTable([head, ...rows], { align: "lr", rulesBefore: [1] })];
}
