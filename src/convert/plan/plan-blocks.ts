// A plan as tables: the path with what each step costs, and what each axis costs alone.
import { type Block, group, notes, paragraph, type Table } from "../../report/render/blocks.ts";
import {
  formatCount,
  formatMegabytes,
  formatPercent,
  formatSignedPercent,
  formatThousands,
} from "../../report/render/format.ts";
import { describeCuts, hasVocabularyAxis } from "./axes.ts";
import type { Plan, PlanMeasurement, PlanText, PlanVocabulary } from "./plan-file.ts";
import { describeUse } from "./plan-vocabulary.ts";
import { listSteps } from "./target.ts";

const HEADING = ["parameters", "of source", "fp32 MB", "int8 MB", "q4 MB", "perplexity", "loss", "±", "KL"];

/** The frontier, the axes alone, and how sure the figures are. */
export function makePlanBlocks(plan: Plan): Block[] {
  return [
    paragraph(describePlan(plan)),
    makePathTable(plan),
    group(paragraph("Each axis alone:"), makeAloneTable(plan)),
    notes(describeCertainty(plan)),
  ];
}

/** The steps of the path. */
export function makePathTable(plan: Plan): Table {
  const models = listSteps(plan);
  const rows = models.map((model, i) => {
    const step = plan.steps[i - 1];
    const cut = step ? `${step.axis} ${formatThousands(step.value)}` : "the source";
    return [String(i), cut, ...makeCells(model, plan)];
  });
  return { kind: "table", heading: ["step", "cut", ...HEADING], rows, align: "rlr" };
}

/** What each axis costs alone, at each of its values. */
export function makeAloneTable(plan: Plan): Table {
  const rows = listAlone(plan).flatMap(({ models }) =>
    models.map((model) => [describeCuts(model.cuts), ...makeCells(model, plan)]),
  );
  return { kind: "table", heading: ["cut", ...HEADING], rows, align: "lr" };
}

/** The models with one axis cut, by axis, the weakest cut first. */
export function listAlone({ axes, measurements }: Pick<Plan, "axes" | "measurements">) {
  return axes.map(({ name, values }) => {
    const found = values.map((value) =>
      measurements.find(({ cuts }) => cuts[name] === value && Object.keys(cuts).length === 1),
    );
    return { name, models: found.filter((model) => model !== undefined) };
  });
}

function makeCells(model: PlanMeasurement, { measurements }: Plan): string[] {
  const source = measurements[0] as PlanMeasurement;
  const loss = Object.keys(model.cuts).length > 0;
  const { parameters, bytes, perplexity, kl } = model;
  return [
    formatThousands(parameters),
    formatPercent((100 * parameters) / source.parameters),
    ...[bytes.fp32, bytes.int8, bytes.q4].map((size) => (size === null ? "-" : formatMegabytes(size))),
    formatLarge(perplexity, 3),
    loss ? formatLoss(perplexity / source.perplexity - 1) : "",
    loss ? formatError(model, source) : "",
    loss ? kl.toFixed(4) : "",
  ];
}

/** A model may be far off before it is trained: 56.288, and 5.3e+7 from a million on. */
export function formatLarge(value: number, decimals: number): string {
  return value < 1e6 ? value.toFixed(decimals) : value.toExponential(1);
}

/** The standard error of a loss, in per cent of the source's perplexity; "?" where one window does not tell. */
export function formatError({ error, perplexity }: PlanMeasurement, source: PlanMeasurement): string {
  return error === null ? "?" : formatLarge((100 * error * perplexity) / source.perplexity, 2);
}

/** "+1.30 %", and "0.00 %" for less than its digits show. */
export function formatLoss(share: number): string {
  if (100 * share >= 1e6) return `+${formatLarge(100 * share, 0)} %`;
  const percent = Number((100 * share).toFixed(2));
  return percent === 0 ? formatPercent(0) : formatSignedPercent(percent);
}

export function describePlan({ source, steps, heldOut, calibration, complete }: Plan): string {
  const others = heldOut.every === 1 ? "" : "other windows, ";
  return [
    `${source.path}: ${formatCount(steps.length, "step")}${complete ? "" : ", not at the end yet"}`,
    `measured on ${others}${describeText(heldOut)}`,
    `cuts fitted to ${describeText(calibration)}`,
  ].join("; ");
}

function describeText({ files, tokens, length }: PlanText): string {
  return `${formatCount(tokens, "token")} of ${files.join(", ")}, in windows of ${length}`;
}

export function describeCertainty({ heldOut, axes, vocabulary }: Plan): string[] {
  const windows = Math.ceil(heldOut.tokens / heldOut.length);
  const sure = `± is the standard error of the loss in per cent, from the differences of ${formatCount(windows, "window")}`;
  return [
    "perplexities are those before any training, loss is what they are above the source's",
    windows > 1 ? sure : "one window does not tell how sure the figures are: give more held-out text",
    ...(vocabulary && hasVocabularyAxis({ axes }) ? describeVocabulary(vocabulary) : []),
  ];
}

function describeVocabulary({ files, ...counts }: PlanVocabulary): string[] {
  return [
    `the vocabulary is cut to what ${files.join(", ")} uses (${describeUse(counts)}): such models are for text of that kind`,
    "perplexities are for a token of the source, whatever tokens a model has",
  ];
}
