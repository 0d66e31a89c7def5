// A comparison of models as one page that needs nothing else, in the frame of the report's page.

import { drawAmountChart } from "../page/charts.ts";
import { renderFigure, renderFrame, renderSection } from "../page/frame.ts";
import { formatBytes, formatSignedPercent, formatThousands } from "../render/format.ts";
import { html, type Markup, NOTHING } from "../render/html.ts";
import type { ComparedModel, Comparison } from "./comparison-schema.ts";
import { makeGroupTable, makeModelTable } from "./comparison-text.ts";

/** A self-contained page, without scripts; every name is written as text. */
export function renderComparisonPage(comparison: Comparison): string {
  const { models } = comparison;
  const title = comparison.title ?? `${formatThousands(models.length)} ${models.length === 1 ? "model" : "models"}`;
  const notes = models.flatMap(({ source, notes: own }) => own.map((note) => html`<li>${source}: ${note}</li>`));
  return renderFrame(title, comparison.tool.version, [
    html`<header><h1>${title}</h1><p class="quiet">Changes are against the first, ${models[0]?.source ?? ""}.</p></header>`,
    renderSection("Size and quality", sizes(models), makeModelTable(comparison)),
    renderSection("Parameters by group", makeGroupTable(comparison, "parameters")),
    renderSection("Megabytes by group", makeGroupTable(comparison, "MB")),
    notes.length > 0 ? renderSection("Worth knowing", html`<ul>${notes}</ul>`) : NOTHING,
  ]);
}

function sizes(models: readonly ComparedModel[]): Markup {
  const value = ({ bytes, change }: ComparedModel) =>
    `${formatBytes(bytes)}${change?.bytes == null ? "" : ` (${formatSignedPercent(change.bytes)})`}`;
  const chart = {
    title: "Bytes of every model",
    description: models.map((model) => `${model.source}: ${value(model)}`).join("; "),
  };
  const bars = models.map((model) => ({ label: model.source, amount: model.bytes, value: value(model) }));
  return renderFigure(drawAmountChart(chart, bars));
}
