// Compares two models: parameters and bytes by group and layer, what tying saved, tie errors, perplexities, provenance.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NfcError } from "../errors.ts";
import type { ExportedModel } from "../inference/exported/exported-model.ts";
import type { ModelConfig } from "../model/config.ts";
import { PARAMETER_GROUPS } from "../model/parameters.ts";
import { TOOL } from "../version.ts";
import {
  collectPerplexities,
  collectTaskScores,
  type Measurement,
  summarizeExport,
  type TaskMeasurement,
} from "./collect-quality.ts";
import { findFindings } from "./findings.ts";
import {
  type Amount,
  type Change,
  type GroupChange,
  type LayerChange,
  REPORT_FORMAT,
  type Report,
  type TieSummary,
} from "./report-schema.ts";
import { summarize } from "./weigh/model-summary.ts";
import {
  countHeadSaving,
  countTyingSaving,
  formatHeadFormula,
  formatTyingFormula,
  isTied,
  type TallyEntry,
  tallyTensors,
} from "./weigh/tally.ts";
import { groupBy, sumWeights } from "./weigh/weights.ts";

export type { Measurement, TaskMeasurement } from "./collect-quality.ts";
export type { Report } from "./report-schema.ts";

export interface ReportOptions {
  title?: string | undefined;
  /** Perplexities of the two models; they take the place of what nfc.json recorded on the same text. */
  measurements?: readonly Measurement[] | undefined;
  /** Scores on tasks; they take the place of what nfc.json notes of a classifier. */
  tasks?: readonly TaskMeasurement[] | undefined;
  /** Exports of either model, or of others, to list with their sizes and what was recorded of them. */
  exports?: readonly ExportedModel[] | undefined;
}

/**
 * The report on two open checkpoints of the GPT-2 family, related or not. Reads their headers and nfc.json, never
 * weights. The same two models give the same report, byte for byte.
 */
export function createReport(before: Checkpoint, after: Checkpoint, options: ReportOptions = {}): Report {
  const entries = { before: tallyTensors(before), after: tallyTensors(after) };
  const groups = computeGroupChanges(entries);
  const comparison = {
    before: summarize(before, entries.before),
    after: summarize(after, entries.after),
    total: computeChanges(sumWeights(entries.before), sumWeights(entries.after)),
    groups,
    layers: computeLayerChanges(entries, Math.max(before.config.n_layer, after.config.n_layer)),
    breakdown: computeBreakdown(before, after, entries, groups),
    tie: after.record?.tie ? summarizeTie(after, after.record.tie) : null,
  };
  return {
    format: REPORT_FORMAT,
    tool: { ...TOOL },
    title: options.title ?? null,
    ...comparison,
    perplexity: collectPerplexities(before, after, options.measurements ?? []),
    tasks: collectTaskScores(before, after, options.tasks ?? []),
    exports: (options.exports ?? []).map(summarizeExport),
    findings: findFindings(before, after, comparison),
  };
}

interface Entries {
  before: readonly TallyEntry[];
  after: readonly TallyEntry[];
}

function computeChanges(before: Amount, after: Amount): { parameters: Change; bytes: Change } {
  return {
    parameters: computeChange(before.parameters, after.parameters),
    bytes: computeChange(before.bytes, after.bytes),
  };
}

function computeChange(before: number, after: number): Change {
  const difference = after - before;
  return { before, after, difference, percent: before === 0 ? null : (100 * difference) / before };
}

/** By group, in the order of PARAMETER_GROUPS; groups that both models lack are left out. */
function computeGroupChanges(entries: Entries): GroupChange[] {
  return PARAMETER_GROUPS.map((group) => {
    const inGroup = (entry: TallyEntry) => entry.group === group;
    return {
      group,
      ...computeChanges(sumWeights(entries.before.filter(inGroup)), sumWeights(entries.after.filter(inGroup))),
    };
  }).filter(({ parameters }) => parameters.before > 0 || parameters.after > 0);
}

/** Layers 0, 1, ... of the deeper model, then (null) what lies outside the blocks. */
function computeLayerChanges(entries: Entries, layers: number): LayerChange[] {
  const layerOf = ({ layer }: TallyEntry) => layer;
  const split = { before: groupBy(entries.before, layerOf), after: groupBy(entries.after, layerOf) };
  return [...Array.from({ length: layers }, (_, layer) => layer), null].map((layer) => {
    const [before, after] = [split.before.get(layer) ?? [], split.after.get(layer) ?? []];
    return {
      layer,
      ...computeChanges(sumWeights(before), sumWeights(after)),
      groups: computeGroupChanges({ before, after }),
    };
  });
}

/** Splits the difference of the totals: tying + heads + noise + the rest (other shapes, another precision, a head). */
function computeBreakdown(
  before: Checkpoint,
  after: Checkpoint,
  entries: Entries,
  groups: readonly GroupChange[],
): Report["breakdown"] {
  const total = computeChanges(sumWeights(entries.before), sumWeights(entries.after));
  const tying = computeTyingChange(before, after, entries);
  const heads = computeHeadsChange(before.config, after.config, entries);
  const noise = groups.find(({ group }) => group === "noise");
  const part = (unit: "parameters" | "bytes") => noise?.[unit].difference ?? 0;
  const rest = (unit: "parameters" | "bytes") =>
    total[unit].difference - (tying?.[unit] ?? 0) - (heads?.[unit] ?? 0) - part(unit);
  return {
    tying,
    heads,
    noise: { parameters: part("parameters"), bytes: part("bytes") },
    rest: { parameters: rest("parameters"), bytes: rest("bytes") },
  };
}

/** The change by tying alone: the K part of c_attn, in the precision of the model that has one. */
function computeTyingChange(before: Checkpoint, after: Checkpoint, entries: Entries): Report["breakdown"]["tying"] {
  const [a, b] = [before.config, after.config];
  if (!haveSameShapes(a, b) || isTied(a) === isTied(b)) return null;
  const removed = isTied(b);
  const dense = removed ? entries.before : entries.after;
  const k = sumWeights(dense.filter(({ group }) => group === "attention.k"));
  const parameters = (removed ? -1 : 1) * countTyingSaving(a);
  const percent = (100 * parameters) / sumWeights(entries.before).parameters;
  const bytes = Math.round((parameters * k.bytes) / k.parameters); // K of a low rank has fewer than the formula
  return { parameters, bytes, percent, formula: formatTyingFormula(a) };
}

/** The change by ranks and forms A alone, in the precision of the first model's attention. */
function computeHeadsChange(a: ModelConfig, b: ModelConfig, entries: Entries): Report["breakdown"]["heads"] {
  if (!haveSameShapes(a, b) || a.n_head !== b.n_head) return null;
  const [before, after] = [countHeadSaving(a), countHeadSaving(b)];
  if (before === after) return null;
  const attention = sumWeights(entries.before.filter(({ group }) => group.startsWith("attention.")));
  const parameters = before - after;
  const bytes = Math.round((parameters * attention.bytes) / attention.parameters);
  const formula = before === 0 ? formatHeadFormula(b) : after === 0 ? formatHeadFormula(a) : null;
  return { parameters, bytes, formula };
}

const haveSameShapes = (a: ModelConfig, b: ModelConfig): boolean =>
  a.n_layer === b.n_layer && a.n_embd === b.n_embd && a.bias === b.bias;

/**
 * Tie errors with minimum, median and maximum of every layer and of all heads.
 * @throws NfcError "mismatch" for more layers or heads than the model has: tables grow with them
 */
function summarizeTie(
  { source, config: { n_layer, n_head } }: Checkpoint,
  tie: NonNullable<NonNullable<Checkpoint["record"]>["tie"]>,
): TieSummary | null {
  if (tie.errors.length > n_layer || tie.errors.some((heads) => heads.length > n_head))
    throw new NfcError(
      "mismatch",
      `${source}: nfc.json has tie errors of more than ${n_layer} layers of ${n_head} heads`,
      {
        hint: "files of different models are mixed in one folder: restore the set that belongs together",
      },
    );
  const layers = tie.errors.flatMap((errors, layer) => {
    return errors.length === 0 ? [] : [{ layer, ...computeSpread(errors), errors: [...errors] }];
  });
  if (layers.length === 0) return null;
  const calibration = tie.calibration === null ? null : { ...tie.calibration };
  return { strategy: tie.strategy, calibration, ...computeSpread(tie.errors.flat()), layers };
}

/** @param values at least one */
function computeSpread(values: readonly number[]): { min: number; median: number; max: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number) => sorted[index] as number;
  const middle = (sorted.length - 1) / 2;
  return { min: at(0), median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2, max: at(sorted.length - 1) };
}
