// Renders the report as one page without network or scripts, in which every name from a file is text.

import { describeRanks, findForm, nameLoss } from "../attention-words.ts";
import { computeTaskMean } from "../collect-quality.ts";
import { notes } from "../render/blocks.ts";
import {
  formatBytes,
  formatCount,
  formatMetric,
  formatPercent,
  formatSignedPercent,
  formatThousands,
} from "../render/format.ts";
import { html, type Markup, NOTHING } from "../render/html.ts";
import { makeProvenance, makeQualityBlocks } from "../report-blocks.ts";
import type { Change, Report } from "../report-schema.ts";
import { groupRows, makeLayerTables, makeOverviewTable } from "../report-tables.ts";
import { drawBarChart, drawHeatMap, drawLegend, drawLineChart, type Line } from "./charts.ts";
import { renderFigure, renderFrame, renderSection } from "./frame.ts";
import type { AttentionPair, PageData } from "./page-data.ts";

/** A self-contained page; `data.report` names both models. */
export function renderReportPage(data: PageData): string {
  const { report } = data;
  const title = report.title ?? `${report.before.source} → ${report.after.source}`;
  const body = [
    html`<header><h1>${title}</h1><p class="quiet">${subtitle(report)}</p>${headline(report)}</header>`,
    groupsSection(report),
    qualitySection(report),
    tieSection(report),
    noiseSection(data),
    attentionSection(data),
    trainingSection(data),
    renderSection("By layer", ...makeLayerTables(report)),
    renderSection("The two models", makeOverviewTable(report)),
    findingsSection(report),
    originSection(report),
  ];
  return renderFrame(title, report.tool.version, body);
}

function subtitle({ before, after }: Report): string {
  const ranks = describeRanks(after.config);
  const heads = ranks === null ? "" : `; ${ranks} numbers a head`;
  return `${before.variant} before, ${after.variant} after; ${formatCount(after.config.n_layer, "layer")} of ${formatCount(after.config.n_head, "head")}, width ${formatThousands(after.config.n_embd)}${heads}`;
}

/** Large figures: parameters, bytes, perplexity, and the smallest file. */
function headline(report: Report): Markup {
  const { total, perplexity, exports } = report;
  const fact = (name: string, value: string, more: string) =>
    html`<div><dt>${name}</dt><dd>${value}</dd><dd class="wrap">${more}</dd></div>`;
  const percent = ({ difference, percent: value }: Change) =>
    difference === 0 || value === null ? "as before" : formatSignedPercent(value);
  const span = ({ before, after }: Change, format: (amount: number) => string) =>
    `${format(before)} → ${format(after)}`;
  const facts = [
    fact("Parameters", percent(total.parameters), span(total.parameters, formatThousands)),
    fact("Weights", percent(total.bytes), span(total.bytes, formatBytes)),
  ];
  const [text] = perplexity;
  if (text?.after != null) {
    const change = text.before === null ? "" : `${text.before.toFixed(2)} → ${text.after.toFixed(2)} on ${text.file}`;
    const value =
      text.before === null ? text.after.toFixed(2) : formatSignedPercent(100 * (text.after / text.before - 1));
    facts.push(fact("Perplexity", value, change || `on ${text.file}`));
  }
  const glue = taskFact(report);
  if (glue) facts.push(fact(...glue));
  const files = exports.flatMap((one) => one.files);
  const smallest = [...files].sort((a, b) => a.bytes - b.bytes)[0];
  if (smallest)
    facts.push(
      fact(
        "Smallest file",
        formatBytes(smallest.bytes),
        `${smallest.precision}, ${smallest.ratio.toFixed(3)} of float32${smallest.brotli === undefined ? "" : `; ${formatBytes(smallest.brotli)} after brotli`}`,
      ),
    );
  return html`<dl class="facts">${facts}</dl>`;
}

/** The one task, or the mean of all: name, value, more. */
function taskFact({ tasks }: Report): readonly [string, string, string] | null {
  const [first, second] = tasks;
  if (first && !second) {
    const { task, metric, before, after } = first;
    const text = (score: typeof after) => (score === null ? "" : formatMetric(metric, score.mean));
    if (after === null) return null;
    return [`${task}, ${metric}`, text(after), before === null ? "on its development set" : `${text(before)} before`];
  }
  const mean = computeTaskMean(tasks);
  if (!mean) return null;
  const difference = mean.after - mean.before;
  const value = `${difference > 0 ? "+" : ""}${difference.toFixed(2)}`;
  return ["GLUE, points", value, `${mean.before.toFixed(2)} → ${mean.after.toFixed(2)}, mean of ${mean.tasks} tasks`];
}

const LEGEND = html`<p class="legend quiet"><span><i class="before"></i>before</span><span><i class="after"></i>after</span></p>`;

function groupsSection(report: Report): Markup {
  const { total } = report;
  const rows = groupRows(report);
  const bars = rows.map(({ label, level, parameters }) => ({
    label: level === 1 ? `· ${label}` : label,
    before: parameters.before,
    after: parameters.after,
    values: [formatThousands(parameters.before), formatThousands(parameters.after)] as const,
  }));
  const chart = {
    title: "Parameters by group, before and after",
    description: rows
      .map(({ label, parameters }) => `${label}: ${parameters.before} before, ${parameters.after} after`)
      .join("; "),
  };
  const { before, after } = total.parameters;
  return renderSection(
    "Where the parameters are",
    LEGEND,
    renderFigure(
      drawBarChart(chart, bars),
      `${formatThousands(before)} parameters before, ${formatThousands(after)} after; each counted once.`,
    ),
  );
}

function qualitySection(report: Report): Markup {
  const blocks = makeQualityBlocks(report);
  return blocks.length === 0 ? NOTHING : renderSection("Quality", ...blocks);
}

function tieSection({ tie, after }: Report): Markup {
  if (!tie) return NOTHING;
  const { gerund } = nameLoss(findForm(after.variant, after.provenance?.history));
  const errors = tie.layers.map((layer) => layer.errors);
  const labels = tie.layers.map(({ layer }) => `h.${layer}`);
  const chart = {
    title: `Relative error of ${gerund}, by layer and head`,
    description: `From ${tie.min.toFixed(3)} to ${tie.max.toFixed(3)}, median ${tie.median.toFixed(3)}. Layers down, heads across.`,
  };
  return renderSection(
    `What ${gerund} could not keep`,
    html`<p>The error of each head's bilinear form, relative to its own size, right after the conversion (strategy ${tie.strategy}); 0 is none. Training comes after it.</p>`,
    renderFigure(drawHeatMap(chart, errors, labels, tie.max), chart.description),
  );
}

function noiseSection({ noise }: PageData): Markup {
  if (!noise) return NOTHING;
  const { sigma, means } = noise;
  const all = sigma.flat(); // of many heads there are more than a call can take as arguments
  const [least, largest] = [Math.min, Math.max].map((choose) => all.reduce((a, b) => choose(a, b))) as [number, number];
  const chart = {
    title: "Learned deviation of the attention noise, by layer and head",
    description: `σ from ${least.toFixed(3)} to ${largest.toFixed(3)}.`,
  };
  const labels = sigma.map((_, layer) => `h.${layer}`);
  const curves = (means ?? []).map((heads, layer) => {
    const lines = heads.map((values, head) => ({
      kind: head,
      name: `head ${head}`,
      points: values.map((value, bucket) => [bucket, value] as const),
    }));
    const own = {
      title: `Mean by distance, layer ${layer}`,
      description: `One line a head over ${heads[0]?.length ?? 0} buckets of distance.`,
    };
    return renderFigure(drawLineChart(own, lines, { x: "bucket of distance", y: `μ, h.${layer}`, small: true }));
  });
  return renderSection(
    "What the noise has become",
    renderFigure(
      drawHeatMap(chart, sigma, labels, largest),
      `${chart.description} The noise is drawn in training only.`,
    ),
    curves.length > 0
      ? html`<h3>Mean by distance</h3><p class="quiet">Added to the scores of each head, always. Buckets 0 to 15 are distances; from there on they widen.</p>${drawLegend((means?.[0] ?? []).map((_, head) => ({ kind: head, name: `head ${head}` })))}<div class="grid2">${curves}</div>`
      : NOTHING,
  );
}

function attentionSection({ attention, missingAttention, report: { after } }: PageData): Markup {
  const title = "Attention before and after";
  if (missingAttention !== undefined) return renderSection(title, html`<p>Not shown: ${missingAttention}.</p>`);
  if (!attention) return NOTHING;
  const { tokens, pairs } = attention;
  const { noun } = nameLoss(findForm(after.variant, after.provenance?.history));
  const labels = tokens.map((token) => token.replace(/\s/g, "·"));
  const map = (pair: AttentionPair, side: "before" | "after") => {
    const chart = {
      title: `Attention ${side}, layer ${pair.layer}, head ${pair.head}`,
      description: `Each token, down, looks at those before it, across. ${strongest(pair[side], labels)}`,
    };
    return renderFigure(drawHeatMap(chart, pair[side], labels, 1), side);
  };
  const spread = pairs.some(({ error }) => error !== null);
  const heads = spread
    ? `four heads from the least ${noun} error to the largest`
    : "a head of each of up to four layers";
  return renderSection(
    title,
    html`<p>“${tokens.join("")}”, ${heads}.</p>`,
    ...pairs.map(
      (pair) =>
        html`<h3>Layer ${pair.layer}, head ${pair.head}${pair.error === null ? NOTHING : html`: ${noun} error ${formatError(pair.error)}`}</h3><div class="grid2">${map(pair, "before")}${map(pair, "after")}</div>`,
    ),
  );
}

/** Two digits of an error that may be small, as those of low ranks are. */
const formatError = (error: number) => (error < 0.1 ? error.toPrecision(2) : error.toFixed(2));

/** The largest weight on another token, in words. */
function strongest(rows: readonly (readonly number[])[], labels: readonly string[]): string {
  let [best, from, to] = [0, 0, 0];
  for (const [i, row] of rows.entries())
    for (const [j, value] of row.entries()) if (j < i && value > best) [best, from, to] = [value, i, j];
  return `Most of all, "${labels[from] ?? ""}" looks at "${labels[to] ?? ""}": ${formatPercent(100 * best)}.`;
}

function trainingSection({ training }: PageData): Markup {
  if (!training) return NOTHING;
  const { loss, heldOut, heldOutName, teacher } = training;
  const figure = (
    title: string,
    points: typeof loss,
    label: string,
    kind: "after" | "third",
    level?: number | null,
  ) => {
    if (points.length === 0) return NOTHING;
    const [first, last] = [points[0]?.[1] ?? 0, points.at(-1)?.[1] ?? 0];
    const taught = level == null ? "" : ` The teacher, the level line, has ${level.toFixed(3)}.`;
    const worse = heldOutName === "perplexity" && last > first && kind === "third" ? ", worse than it began," : "";
    const description = `From ${first.toFixed(3)} to ${last.toFixed(3)}${worse} over ${points.at(-1)?.[0].toFixed(0)} steps.${taught}`;
    const ends = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
    const lines: Line[] = [{ kind, points, dots: points.length <= 20 }];
    if (level != null) lines.push({ kind: "before", points: ends.map((step) => [step, level] as const) });
    const chart = drawLineChart({ title, description }, lines, { x: "step", y: label });
    return renderFigure(chart, `${title}: ${description}`);
  };
  return renderSection(
    "Training",
    figure("Loss of the training batches", loss, "loss", "after"),
    figure(`Held-out ${heldOutName}`, heldOut, heldOutName, "third", teacher),
  );
}

function findingsSection({ findings }: Report): Markup {
  if (findings.length === 0) return NOTHING;
  return renderSection("Worth knowing", notes(findings.map(({ text }) => text)));
}

function originSection({ before, after }: Report): Markup {
  const blocks = [...makeProvenance("before", before), ...makeProvenance("after", after)];
  return blocks.length === 0 ? NOTHING : renderSection("Where the models come from", ...blocks);
}
