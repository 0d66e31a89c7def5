// Draws measured frontiers as one SVG: node scripts/draw-frontier.mjs POINTS.json FIGURE.svg
//
// {"points": [{"series": "plan", "saved": 32.0, "steps": 500, "change": 1.73, "seeds": 3, "spread": 0.1}, …]}: `saved` is
// the share of the parameters that is gone and `change` what perplexity is above the control, in per cent; `steps` of
// training, 0 for a model as it was converted; `spread`, which may be left out, is drawn as a bar of ± that length.
// One panel for each number of steps, with one scale; the series "plan" is drawn last and thickest. Needs `npm run build`.
import { readFileSync, writeFileSync } from "node:fs";
import { makeScale } from "../dist/report/page/scale.js";
import { html } from "../dist/report/render/html.js";

/** Okabe and Ito's colors on light ground and on dark. */
const COLORS = [
  ["#0072b2", "#56b4e9"],
  ["#d55e00", "#f08a3c"],
  ["#009e73", "#2fc79c"],
  ["#b0568c", "#dd9bc0"],
  ["#8a7d00", "#d8c63c"],
  ["#59636c", "#aeb8c0"],
];
const [PANEL, GAP, LEFT, TOP, HEIGHT, BOTTOM] = [252, 28, 46, 62, 250, 44];
/** Those that come first keep their place; others need room beside them. */
const TICKS = [0, 1, 10, 100, 1000, -1, -10, 5, 2, 20, 50, 200, 500, -5, -2, -20, 0.5, -0.5];
const ROOM = 13;
const CAPTION = "parameters removed, %; up: perplexity against the control trained as long, %, by its square root";
/** Width of a letter of the caption, at most on average. */
const LETTER = 5.6;

const [, , source, target] = process.argv;
if (!source || !target) throw new Error("usage: node scripts/draw-frontier.mjs POINTS.json FIGURE.svg");
writeFileSync(target, `${draw(JSON.parse(readFileSync(source, "utf8")).points).html}\n`);

function draw(points) {
  const stages = [...new Set(points.map(({ steps }) => steps))].sort((a, b) => a - b);
  const names = [...new Set(points.map(({ series }) => series))].sort((a, b) => (a === "plan") - (b === "plan"));
  const kinds = new Map([...names].reverse().map((name, i) => [name, i % COLORS.length])); // the plan has the first color
  const losses = points.flatMap(({ change, spread = 0 }) => [change - spread, change + spread]);
  const [low, high] = [Math.min(0, ...losses), Math.max(1, ...losses)];
  const y = (value) => round(makeScale([root(low), root(high)], [TOP + HEIGHT, TOP])(root(value)));
  const ticks = [];
  for (const tick of TICKS.filter((value) => value >= low && value <= high))
    if (ticks.every((other) => Math.abs(y(other) - y(tick)) >= ROOM)) ticks.push(tick);
  const last = 10 * Math.ceil(Math.max(10, ...points.map(({ saved }) => saved)) / 10);
  const legend = names.reduce((sum, name) => sum + measureName(name), LEFT);
  const width = Math.ceil(Math.max(LEFT + stages.length * (PANEL + GAP), legend, LEFT + LETTER * CAPTION.length));
  const height = TOP + HEIGHT + BOTTOM;
  const panels = stages.map((steps, i) => {
    const left = LEFT + i * (PANEL + GAP);
    const x = (saved) => round(makeScale([0, last], [left, left + PANEL])(saved));
    const lines = names.map((series) => {
      const own = points.filter((point) => point.series === series && point.steps === steps);
      return drawSeries(own, kinds.get(series), x, y, series === "plan");
    });
    return html`${drawAxes({ left, x, y, ticks, last, numbered: i === 0 })}<text class="head" x="${left}" y="${TOP - 12}">${nameStage(steps)}</text>${lines}`;
  });
  const title = "Perplexity against parameters";
  return html`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img"><title>${title}</title><desc>${describe(points)}</desc><style>${makeStyle()}</style><rect class="ground" width="100%" height="100%" rx="8"/>${drawLegend([...names].reverse(), kinds)}${panels}<text class="quiet" x="${LEFT}" y="${height - 8}">${CAPTION}</text></svg>`;
}

/** Small changes are told apart, and large ones still fit: the square root, with the sign of the value. */
function root(value) {
  return Math.sign(value) * Math.sqrt(Math.abs(value));
}

function drawAxes({ left, x, y, ticks, last, numbered }) {
  const columns = Array.from({ length: Math.floor(last / 10) + 1 }, (_, i) => 10 * i);
  const rows = ticks.map((tick) => {
    const number = `${tick > 0 ? "+" : ""}${tick}`.replace("-", "−");
    const label = html`<text class="quiet" x="${left - 7}" y="${y(tick) + 4}" text-anchor="end">${number}</text>`;
    return html`<path class="${tick === 0 ? "zero" : "grid"}" d="M${left} ${y(tick)}h${PANEL}"/>${numbered ? label : ""}`;
  });
  return html`${rows}${columns.map((share) => html`<text class="quiet" x="${x(share)}" y="${TOP + HEIGHT + 17}" text-anchor="middle">${share}</text>`)}`;
}

function drawSeries(points, kind, x, y, thick) {
  const sorted = [...points].sort((a, b) => a.saved - b.saved);
  const path = sorted.map(({ saved, change }, i) => `${i === 0 ? "M" : "L"}${x(saved)} ${y(change)}`).join("");
  const bars = sorted
    .filter(({ spread = 0 }) => spread > 0)
    .map(({ saved, change, spread }) => {
      return html`<path class="line c${kind}" d="M${x(saved)} ${y(change - spread)}V${y(change + spread)}"/>`;
    });
  const dots = sorted.map(({ saved, change, series }) => {
    const label = `${series}: ${saved} % removed, ${change} %`;
    return html`<circle class="c${kind}" cx="${x(saved)}" cy="${y(change)}" r="${thick ? 3.5 : 2.5}"><title>${label}</title></circle>`;
  });
  return html`<path class="line c${kind}${thick ? " thick" : ""}" d="${path}"/>${bars}${dots}`;
}

/** Width of a name in the legend, with its line. */
function measureName(name) {
  return 46 + 7.2 * name.length;
}

function drawLegend(names, kinds) {
  let at = LEFT;
  return names.map((name) => {
    const x = at;
    at += measureName(name);
    return html`<path class="line c${kinds.get(name)}${name === "plan" ? " thick" : ""}" d="M${round(x)} 20h20"/><text x="${round(x + 26)}" y="24">${name}</text>`;
  });
}

function nameStage(steps) {
  return steps === 0 ? "as converted" : `after ${steps.toLocaleString("en-US")} steps`;
}

/** The points in words, for those who cannot see them. */
function describe(points) {
  const say = ({ series, saved, steps, change }) => `${series}, ${nameStage(steps)}: ${saved} % removed, ${change} %`;
  return points.map(say).join("; ");
}

function makeStyle() {
  const paint = (at) =>
    COLORS.map((pair, i) => `.line.c${i}{stroke:${pair[at]}}circle.c${i}{fill:${pair[at]}}`).join("");
  const theme = (ground, ink, quiet, grid) =>
    `.ground{fill:${ground}}text{fill:${ink}}.quiet{fill:${quiet}}.grid{stroke:${grid}}.zero{stroke:${quiet}}`;
  return `text{font:12px system-ui,sans-serif}.head{font-weight:600}.quiet{font-size:11px}.line{fill:none;stroke-width:1.5;stroke-linejoin:round}.thick{stroke-width:2.75}${theme("#fff", "#1c2227", "#59636c", "#dde2e6")}${paint(0)}@media (prefers-color-scheme: dark){${theme("#14181b", "#e6eaed", "#9aa6af", "#2c343a")}${paint(1)}}`;
}

function round(value) {
  return Number(value.toFixed(2));
}
