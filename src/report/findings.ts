// Finds what a reader of a report should not overlook, such as a head that is stored twice or growth.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../model/config.ts";
import { isPlainGpt2, VARIANT_TRAITS, type Variant } from "../model/variants.ts";
import { findForm, nameLoss } from "./attention-words.ts";
import { findNotedTraining, isRecordedSource, isTelling } from "./recorded-quality.ts";
import { formatBytes, formatCount, formatSignedPercent, formatThousands } from "./render/format.ts";
import type { Finding, ModelSummary, Report } from "./report-schema.ts";
import { countTyingSaving } from "./weigh/tally.ts";

/** The parts of a report from which findings are drawn. */
export type FindingsInput = Pick<Report, "before" | "after" | "total" | "groups" | "breakdown" | "tie">;

/** The reason why a constant mean has no effect where no noise is drawn. */
export const CONSTANT_MEAN =
  "its noise mean is one constant for all keys, which the softmax cannot see: in mean mode, the default of eval and " +
  "export, it computes exactly what symmetric computes with the same weights";

/** Variants whose mean is one number for each row of scores. */
export function hasConstantMean(variant: Variant): boolean {
  return VARIANT_TRAITS[variant].noise?.mean === "constant";
}

/** The findings in a fixed order: size first, then each model, then where they come from. */
export function findFindings(before: Checkpoint, after: Checkpoint, report: FindingsInput): Finding[] {
  return [
    ...findSizeFindings(report),
    ...findShapeFindings(report),
    ...findExpansion(after, report),
    ...findModelFindings("before", before, report.before),
    ...findModelFindings("after", after, report.after),
    ...findOriginFindings(before, after, report),
  ];
}

function findSizeFindings({ total, groups }: FindingsInput): Finding[] {
  const { parameters, bytes } = total;
  const changed = groups.some((group) => group.parameters.difference !== 0 || group.bytes.difference !== 0);
  if (!changed) return [{ code: "same-size", text: "both models have the same parameters and bytes in every group" }];
  const grown = [
    ...(parameters.difference > 0 ? [`${formatThousands(parameters.difference)} more parameters`] : []),
    ...(bytes.difference > 0 ? [`${formatBytes(bytes.difference)} more${formatShare(bytes.percent)}`] : []),
  ];
  return grown.length === 0 ? [] : [{ code: "grown", text: `after has ${grown.join(", ")}` }];
}

function formatShare(percent: number | null): string {
  return percent === null ? "" : ` (${formatSignedPercent(percent)})`;
}

/** Differences that tying does not make: other dimensions, another activation, another precision. */
function findShapeFindings({ before, after }: FindingsInput): Finding[] {
  const keys = (Object.keys(before.config) as (keyof ModelSummary["config"])[]).filter(
    (key) => !key.endsWith("_ranks"),
  );
  const changed = keys.filter((key) => before.config[key] !== after.config[key]);
  const list = changed.map((key) => `${key} ${before.config[key]} -> ${after.config[key]}`).join(", ");
  const [from, to] = [before.dtypes[0]?.dtype, after.dtypes[0]?.dtype];
  return [
    ...(changed.length > 0
      ? [{ code: "other-config", text: `the models differ in more than attention: ${list}` }]
      : []),
    ...(from !== to
      ? [{ code: "other-precision", text: `the precision differs (${from} -> ${to}): bytes change with it` }]
      : []),
  ];
}

/** Another form of attention written out as GPT-2's, for programs that know only that. */
function findExpansion({ config, record }: Checkpoint, { total }: FindingsInput): Finding[] {
  const form = findForm(config.variant, record?.history);
  if (!isPlainGpt2(config.variant) || (form === config.variant && !record?.tie)) return [];
  const smaller = total.parameters.difference < 0 ? "" : ": it is not smaller";
  return [{ code: "expanded", text: `after: ${describeExpanded(form)}${smaller}` }];
}

/** Older records of such models do not name the form: they were tied. */
function describeExpanded(form: Variant): string {
  const { narrow, paired } = VARIANT_TRAITS[form];
  if (narrow) return "Q and K are of low rank, but filled up with zero columns";
  return paired
    ? "Q and K are one projection, but stored twice ([sA, s, v])"
    : "Q and K are tied, but stored twice ([s, s, v])";
}

function findModelFindings(side: "before" | "after", checkpoint: Checkpoint, model: ModelSummary): Finding[] {
  const head = describeHead(checkpoint.config, model);
  const extra = describeExtra(model.files.extra, model.head);
  const finding = (code: string, text: string) => ({ code, text: `${side}: ${text}` });
  return [
    ...(head === null ? [] : [finding(`head-${model.head.storage}`, head)]),
    ...(extra === null ? [] : [finding("extra-bytes", extra)]),
    ...findQualityFindings(checkpoint).map(({ code, text }) => finding(code, text)),
    ...(hasConstantMean(model.variant) ? [finding("constant-mean", `${model.variant}: ${CONSTANT_MEAN}`)] : []),
  ];
}

/** Training that made a model worse, and perplexities of almost no text, which the report leaves out. */
function findQualityFindings({ record }: Checkpoint): Finding[] {
  if (record === null) return [];
  const training = findNotedTraining(record);
  const short = (record.perplexity ?? []).filter((entry) => !isTelling(entry));
  const worse = training && training.after > training.before ? describeWorse(training) : null;
  const left = short.map(({ file, tokens }) => `${file} (${formatCount(tokens, "token")})`).join(", ");
  return [
    ...(worse === null ? [] : [{ code: "trained-worse", text: worse }]),
    ...(short.length === 0 ? [] : [{ code: "short-text", text: `too short to tell quality, and left out: ${left}` }]),
  ];
}

/** "training made it worse: perplexity 71.30 before, 83.80 after (+17.53 %), on held-out text" */
export function describeWorse({ before, after }: { before: number; after: number }): string {
  const change = formatSignedPercent(100 * (after / before - 1));
  return `training made it worse: perplexity ${before.toFixed(2)} before, ${after.toFixed(2)} after (${change}), on held-out text`;
}

/** The bytes that no forward pass reads, without a copy of the head; null when there are none. */
export function describeExtra(extra: ModelSummary["files"]["extra"], head: ModelSummary["head"]): string | null {
  const bytes = extra.bytes - (head.storage === "copied" ? head.bytes : 0);
  return bytes > 0 ? `${formatBytes(bytes)} of its files are not parameters (mask buffers, padding rows)` : null;
}

/** The cost of a head that is not stored once, beside the saving of tying Q and K; null for a tied head. */
export function describeHead(
  config: ModelConfig,
  { head, bytes, parameters }: Pick<ModelSummary, "head" | "bytes" | "parameters">,
): string | null {
  if (head.storage === "tied") return null;
  const saved = countTyingSaving(config) * (bytes / parameters);
  const costs = head.bytes > saved ? `: more than tying Q and K saves (${formatBytes(saved)})` : "";
  return head.storage === "copied"
    ? `the head is stored twice, as a copy of the token embedding, ${formatBytes(head.bytes)}${costs}`
    : `the head is a matrix of its own, not the token embedding: ${formatCount(head.parameters, "parameter")}, ${formatBytes(head.bytes)}${costs}`;
}

function findOriginFindings(before: Checkpoint, after: Checkpoint, { tie }: FindingsInput): Finding[] {
  const { record } = after;
  const { noun } = nameLoss(after.config.variant);
  const converted = (checkpoint: Checkpoint) => !isPlainGpt2(checkpoint.config.variant);
  if (record === null) {
    if (isPlainGpt2(after.config.variant)) return [];
    return [{ code: "no-record", text: `after: there is no nfc.json, so ${noun} errors and provenance are not known` }];
  }
  const findings: Finding[] = [];
  if (converted(after) && tie === null)
    findings.push({ code: "no-tie-errors", text: `after: its nfc.json has no ${noun} errors` });
  if (converted(after) && !converted(before) && !isRecordedSource(before, after)) {
    const text = "after: its nfc.json names another source than the first model (by name, parameters or bytes)";
    findings.push({ code: "other-source", text: `${text}: ${noun} errors are those of that source` });
  }
  return findings;
}
