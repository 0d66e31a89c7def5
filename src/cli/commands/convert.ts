// nfc convert: turns a dense checkpoint into the folder of a tied model.
import { Command, Option } from "commander";
import { listOwnCuts, type NfcRecord } from "../../checkpoint/nfc-record.ts";
import type { RankChoice } from "../../convert/attention/ranks.ts";
import { TIE_STRATEGIES, type TieStrategy } from "../../convert/attention/tie.ts";
import type { ConvertResult } from "../../convert/convert.ts";
import { type ConvertOptions, DEFAULT_CALIBRATION_TOKENS } from "../../convert/convert-options.ts";
import type { AppliedPlan } from "../../convert/plan/apply-plan.ts";
import { computeTrust } from "../../convert/statistics/moments.ts";
import { formatCommand } from "../../io/printable.ts";
import type { ModelConfig } from "../../model/config.ts";
import { getDefaultRank } from "../../model/head-widths.ts";
import { countParameters } from "../../model/parameters.ts";
import { hasDistanceMean, VARIANT_TRAITS, VARIANTS } from "../../model/variants.ts";
import { describeCut } from "../../report/describe-cut.ts";
import { formatBytes, formatCount, formatSignedPercent, formatThousands } from "../../report/render/format.ts";
import { alignTable } from "../../report/render/text.ts";
import { addDeviceFlag, type DeviceFlags, requireDevice, resolveDevice } from "../device.ts";
import { withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  type CommonFlags,
  DTYPE_NAMES,
  parseByteSize,
  parsePositiveInteger,
  parsePositiveNumber,
  refuseIf,
  type SourceFlags,
  toDtype,
} from "../options.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { AXIS_HELP, type AxisFlags, addAxisFlags, listBlindCuts } from "./convert/axes.ts";
import {
  addPlanFlags,
  applyPlanFlags,
  type ConvertPlanFlags,
  chooseVocabulary,
  describeApplied,
  listUnusedText,
  PLAN_HELP,
  type PlanChoice,
  readPlanChoice,
} from "./convert/plan.ts";
import { formatRanks, parseRank } from "./convert/ranks.ts";
import { addVocabularyFlags, type VocabularyFlags } from "./convert/vocabulary.ts";

interface ConvertFlags extends CommonFlags, SourceFlags, DeviceFlags, AxisFlags, VocabularyFlags, ConvertPlanFlags {
  output?: string;
  variant: ConvertOptions["variant"];
  tie?: TieStrategy;
  calibration?: string[];
  calibrationTokens?: number;
  calibrationEvery?: number;
  field?: string | undefined;
  noiseStd?: number;
  qkRank?: RankChoice;
  voRank?: RankChoice;
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

Variants: low-rank keeps q and k apart, each with --qk-rank numbers a head: at half of them it has as many parameters
as symmetric, and loses far less. pairwise has one projection and a free form for each head. symmetric has no noise.
noise-shared and noise-per-head have a constant mean, which the softmax cannot see: at the mean of the noise they
compute what symmetric computes. noise-distance has a mean for each distance between query and key, fitted on
--calibration text. dense leaves attention as it is, for other cuts alone.
${AXIS_HELP}

Vocabulary: --vocab-from keeps the tokens that a text uses, and those that any text needs: single bytes, special tokens
and whatever a kept token is merged of. The tokenizer's files are cut with the model.
${PLAN_HELP}

Examples:
  $ nfc convert gpt2.safetensors                     # writes gpt2-nfc
  $ nfc convert gpt2/ -o out/nf --calibration text.txt
  $ nfc convert gpt2.safetensors -o out/nf --variant symmetric --tie spectral --dtype f16
  $ nfc convert gpt2/ -o out/lr --variant low-rank --qk-rank 50% --vo-rank 75% --calibration text.txt
  $ nfc convert gpt2/ -o out/small --variant dense --layers 8 --mlp 75% --calibration text.txt
  $ nfc convert gpt2/ -o out/small --target 70% --calibration text.txt
  $ nfc convert gpt2/ -o out/domain --calibration text.txt --vocab-from domain.txt --vocab-size 50%
  $ nfc convert hf://openai-community/gpt2 -o out/nf --calibration text.txt --verbose`;

export function convertCommand(context: Context): Command {
  const command = new Command("convert")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]")
    .option("-o, --output <folder>", "folder to write (default: the model's name with -nfc, here)")
    .addOption(new Option("--variant <name>", "attention variant").choices(VARIANTS).default("noise-distance"))
    .addOption(new Option("--tie <strategy>", "how S is found").choices(TIE_STRATEGIES))
    .option("--calibration <files...>", "text (or JSON, or token ids as .bin) to run the teacher on")
    .option("--calibration-tokens <n>", "tokens of it to use (default: 8192)", parsePositiveInteger)
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)")
    .option("--noise-std <sigma>", "initial σ of the noise (default: 1, the prior's)", parsePositiveNumber)
    .option("--qk-rank <n>", "numbers of q and k a head, or N% shared out over layers (default: half)", parseRank)
    .option("--vo-rank <n>", "numbers of v a head, or N% shared out over layers (default: all)", parseRank)
    .addOption(new Option("--dtype <name>", "dtype of all tensors (default: each keeps its own)").choices(DTYPE_NAMES))
    .option("--max-shard-size <size>", "split the weights into files of at most this size, such as 2GB", parseByteSize)
    .option("-f, --force", "replace an existing output folder")
    .option("--verbose", "print the tie error of every head")
    .addHelpText("after", HELP);
  addPlanFlags(addVocabularyFlags(addAxisFlags(command)));
  return addSourceFlags(addCommonFlags(addDeviceFlag(command))).action(
    (model: string, flags: ConvertFlags, own: Command) => run(context, model, flags, readPlanChoice(flags, own)),
  );
}

async function run(context: Context, model: string, given: ConvertFlags, choice: PlanChoice | null): Promise<void> {
  const { convert, usesText } = await import("../../convert/convert.ts");
  const runs = given.calibration !== undefined || choice !== null;
  refuseIf(!runs && given.device !== "cpu", "--device is where the model runs on text", "give --calibration FILE too");
  refuseIf(!runs && given.calibrationTokens, "--calibration-tokens says how much text", "give --calibration FILE too");
  refuseIf(
    !runs && !given.vocabFrom && given.field,
    "--field is where JSON has the text",
    "give --calibration FILE too",
  );
  refuseIf(
    choice === null && given.variant === "dense" && given.tie,
    "--tie is for Q and K, which --variant dense leaves as they are",
    "leave one of them out",
  );
  if (runs) await requireDevice(given);
  const result = await withCheckpoint(context, model, given, async (checkpoint, progress) => {
    const output = given.output ?? (await nameUnnamed(context, model, given));
    const call = { onProgress: progress.show, signal: context.signal };
    const device = await resolveDevice(context, given, checkpoint.config, "run");
    const applied = choice && (await applyPlanFlags(checkpoint, choice, { ...given, output, device }, call));
    const flags = { ...given, ...applied?.cuts };
    const converted = await convert(checkpoint, {
      ...toOptions(flags),
      ...{ output, device, vocabulary: chooseVocabulary(applied, given) },
      plan: applied?.origin,
      command: ["nfc", ...context.io.argv.slice(2)],
      ...call,
    });
    progress.stop();
    if (applied) note(context.io, flags, describeApplied(applied));
    for (const line of [
      ...converted.record.notes,
      ...(applied ? listUnusedText(given, applied) : []),
      ...(given.calibration && !usesText(toOptions(flags)) ? [describeUnused(flags)] : []),
      ...listRemarks(model, output, flags, applied),
      ...warnOfShortText(converted),
    ])
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
function listRemarks(model: string, output: string, flags: ConvertFlags, applied: AppliedPlan | null): string[] {
  const { variant, calibration } = flags;
  const lines: string[] = [];
  if (hasDistanceMean(variant) && !calibration)
    lines.push("without --calibration the distance means stay 0: give text for a better start");
  if (!calibration) lines.push(...listBlindCuts(flags));
  const measure = formatCommand(["nfc", "eval", output, "--text", "FILE", "--against", model]);
  const unit = applied?.cuts.vocabulary ? ", for a token of the source: compare bits per byte" : "";
  const fact = applied
    ? `the expected perplexity is that of the plan's text${unit}`
    : "the perplexity of the result is not known yet";
  return [...lines, `${fact}; measure it with: ${measure}`];
}

function describeUnused({ variant, tie }: ConvertFlags): string {
  const why = tie ? `neither --tie ${tie} nor --variant ${variant}` : "no cut of the vocabulary";
  return `--calibration was not used: ${why} needs text`;
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
    calibrationEvery: flags.calibrationEvery,
    strategy: flags.tie ?? (calibration ? "calibrated" : "spectral"),
    dtype: toDtype(flags.dtype),
  };
}

function toJson({ folder, config, record, parameters, byteLength, files }: ConvertResult): object {
  const { variant, tie, plan } = record;
  const ranks = { qk_ranks: config.qk_ranks, vo_ranks: config.vo_ranks };
  const cuts = record.cuts && listOwnCuts(record);
  return { output: folder, variant, ...ranks, tie, cuts, plan, parameters, bytes: byteLength, files };
}

function formatResult(result: ConvertResult, verbose: boolean): string {
  const { config, record, parameters, byteLength, folder } = result;
  const { variant, tie } = record;
  const saved = (100 * (parameters.after - parameters.before)) / parameters.before;
  const found = tie ? `${VARIANT_TRAITS[variant].narrow ? "factored" : "tied"} by ${tie.strategy}, ` : "";
  const ranks = formatRanks(config);
  const lines = [
    `${folder}: ${variant}, ${found}${formatBytes(byteLength)}`,
    `parameters ${formatThousands(parameters.before)} -> ${formatThousands(parameters.after)} (${formatSignedPercent(saved)})`,
    ...(ranks ? [ranks] : []),
    ...listOwnCuts(record).map(describeCut),
  ];
  return [...lines, ...(tie ? formatTie(config, tie, verbose) : [])].join("\n");
}

function formatTie(config: ModelConfig, tie: NonNullable<NfcRecord["tie"]>, verbose: boolean): string[] {
  const { strategy, errors } = tie;
  const all = errors.flat();
  const mean = average(all);
  const worst = all.reduce((most, error) => Math.max(most, error), 0);
  const what = VARIANT_TRAITS[config.variant].narrow ? "rank error" : "tie error";
  const line = `${what} (${strategy} metric), mean of ${all.length} heads: ${mean.toFixed(3)} (worst ${worst.toFixed(3)})`;
  return [line, ...compareForms(config, tie), ...(verbose ? formatHeads(errors) : [])];
}

/** One line that says what low-rank attention would lose at the saving of a tie, or near it: heads of odd width have no half. */
function compareForms(config: ModelConfig, { lowRankErrors }: NonNullable<NfcRecord["tie"]>): string[] {
  if (!lowRankErrors) return [];
  const error = average(lowRankErrors.flat()).toFixed(3);
  const tied = countParameters({
    ...config,
    variant: VARIANT_TRAITS[config.variant].paired ? "pairwise" : "symmetric",
  });
  const ranks = lowRankErrors.map(() => getDefaultRank(config));
  const low = countParameters({ ...config, variant: "low-rank", qk_ranks: ranks });
  const size = low === tied ? "as many" : low < tied ? "fewer" : "more";
  return [`low-rank attention of ${size} parameters would have an error of ${error} (--variant low-rank)`];
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function formatHeads(errors: readonly (readonly number[])[]): string[] {
  const heads = errors[0]?.length ?? 0;
  const head = ["layer", ...Array.from({ length: heads }, (_, h) => `head ${h}`)];
  const rows = errors.map((row, layer) => [`h.${layer}`, ...row.map((error) => error.toFixed(3))]);
  return ["", ...alignTable([head, ...rows], { align: "lr", rulesBefore: [1] })];
}
