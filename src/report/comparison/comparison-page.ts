// A comparison of models as one page that needs nothing else, in the frame of the report's page.

import { amountChart } from "../page/charts.ts";
import { dataTable, pageFrame, section } from "../page/frame.ts";
import { html, type Markup, NOTHING } from "../page/markup.ts";
import { formatBytes, signedPercent, thousands } from "../render/format.ts";
import type { ComparedModel, Comparison } from "./comparison-schema.ts";
import { type ComparisonTable, groupTable, modelTable } from "./comparison-text.ts";

/** A self-contained page, without scripts; every name is written as text. */
export function comparisonPage(comparison: Comparison): string {
  const { models } = comparison;
  const title = comparison.title ?? `${thousands(models.length)} ${models.length === 1 ? "model" : "models"}`;
  const rows = (found: ComparisonTable) => dataTable(found.heading, found.rows);
  const notes = models.flatMap(({ source, notes: own }) => own.map((note) => html`<li>${source}: ${note}</li>`));
  return pageFrame(title, comparison.tool.version, [
    html`<header><h1>${title}</h1><p class="quiet">Changes are against the first, ${models[0]?.source ?? ""}.</p></header>`,
    section("Size and quality", sizes(models), rows(modelTable(comparison))),
    section("Parameters by group", rows(groupTable(comparison, "parameters"))),
    section("Megabytes by group", rows(groupTable(comparison, "MB"))),
    notes.length > 0 ? section("Worth knowing", html`<ul>${notes}</ul>`) : NOTHING,
  ]);
}

function sizes(models: readonly ComparedModel[]): Markup {
  const value = ({ bytes, change }: ComparedModel) =>
    `${formatBytes(bytes)}${change?.bytes == null ? "" : ` (${signedPercent(change.bytes)})`}`;
  const chart = {
    title: "Bytes of every model",
    description: models.map((model) => `${model.source}: ${value(model)}`).join("; "),
  };
  const bars = models.map((model) => ({ label: model.source, amount: model.bytes, value: value(model) }));
  return html`<figure>${amountChart(chart, bars)}</figure>`;
}
