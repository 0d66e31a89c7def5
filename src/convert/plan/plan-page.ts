// A plan as one page that needs nothing else: parameters against perplexity, for the path and for each axis alone.
import { drawLegend, drawLineChart, type Line } from "../../report/page/charts.ts";
import { renderFigure, renderFrame, renderSection } from "../../report/page/frame.ts";
import { notes } from "../../report/render/blocks.ts";
import { formatPercent, formatThousands } from "../../report/render/format.ts";
import { html, type Markup } from "../../report/render/html.ts";
import { describeCertainty, describePlan, listAlone, makeAloneTable, makePathTable } from "./plan-blocks.ts";
import type { Plan, PlanMeasurement } from "./plan-file.ts";
import { listSteps } from "./target.ts";

/** The figure shows models of up to so many times the source's perplexity; worse ones would flatten it. */
const HIGHEST = 2;

/** Line colors that are not the path's: it has the color of line 0 on light ground, and that of line 4 on dark. */
const ALONE = [1, 2, 3, 5, 6, 7];

export function renderPlanPage(plan: Plan): string {
  const title = `Plan of ${plan.source.path}`;
  return renderFrame(title, plan.tool.version, [
    html`<header><h1>${title}</h1><p class="quiet">${describePlan(plan)}</p></header>`,
    renderSection("Parameters against perplexity", drawFrontier(plan), notes(describeCertainty(plan))),
    renderSection("The path", makePathTable(plan)),
    renderSection("Each axis alone", makeAloneTable(plan)),
  ]);
}

function drawFrontier(plan: Plan): Markup {
  const path = listSteps(plan);
  const source = path[0] as PlanMeasurement;
  const shown = (models: readonly PlanMeasurement[]) =>
    models.filter(({ perplexity }) => perplexity <= HIGHEST * source.perplexity).map((model) => toPoint(model, source));
  const lines: Line[] = [
    { kind: "after", name: "the path", points: shown(path), dots: true },
    ...listAlone(plan).map(
      ({ name, models }, i): Line => ({
        kind: ALONE[i] ?? i,
        name: `${name} alone`,
        points: shown([source, ...models]),
      }),
    ),
  ];
  const chart = {
    title: "Perplexity on held-out text by the parameters that are left",
    description: path.map((model, i) => describePoint(model, source, i)).join("; "),
  };
  const caption = `Before any training. Models of more than ${HIGHEST} times the source's perplexity are left out.`;
  return html`${drawLegend(lines)}${renderFigure(drawLineChart(chart, lines, { x: "parameters, %", y: "perplexity" }), caption)}`;
}

function toPoint({ parameters, perplexity }: PlanMeasurement, source: PlanMeasurement): [x: number, y: number] {
  return [(100 * parameters) / source.parameters, perplexity];
}

function describePoint({ parameters, perplexity }: PlanMeasurement, source: PlanMeasurement, step: number): string {
  const share = formatPercent((100 * parameters) / source.parameters);
  return `step ${step}: ${formatThousands(parameters)} parameters (${share}), perplexity ${perplexity.toFixed(2)}`;
}
