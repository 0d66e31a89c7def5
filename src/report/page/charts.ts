// The charts of the report page, as SVG: bars, lines and heat maps, each with a title and a description.
// Positions across are shares of the page's width, and text keeps its size, so that nothing is cut or shrinks on a phone.
import { shortenMiddle } from "../render/fit.ts";
import { html, type Markup } from "../render/html.ts";
import { nameNeed } from "../render/narrow.ts";
import { formatTicks, type Interval, listTicks, makeScale, widenToTicks } from "./scale.ts";

export interface Chart {
  title: string;
  /** The content in words, for screen readers. */
  description: string;
}

/** Sizes in CSS pixels; the chart is as wide as its place, up to `width`, less the room for labels at both sides. */
interface Frame {
  height: number;
  width: number;
  left?: number;
  right?: number;
  /** Further classes. */
  kind?: string;
}

function svg({ title, description }: Chart, frame: Frame, content: readonly Markup[]): Markup {
  const { height, width, left = 0, right = 0, kind = "" } = frame;
  const size = `margin-left:${left}px;width:calc(100% - ${left + right}px);max-width:${width - left - right}px`;
  return html`<svg role="img" class="${kind}" height="${height}" style="${size}"><title>${title}</title><desc>${description}</desc>${content}</svg>`;
}

/** The width of the page's column. */
const WIDTH = 824;
/** The share of the width, in percent, of the longest bar; the rest is for its value. */
const LONGEST = 60;
const LONGEST_AMOUNT = 56;
/** Characters of a model's name that fit into the narrowest page. */
const NAME_LENGTH = 40;

export interface BarRow {
  label: string;
  before: number;
  after: number;
  /** Shown at the end of the two bars. */
  values: readonly [string, string];
}

/** Pairs of bars, before and after, below their label. */
export function drawBarChart(chart: Chart, rows: readonly BarRow[]): Markup {
  const largest = Math.max(1, ...rows.flatMap(({ before, after }) => [before, after]));
  const step = 54;
  const content = rows.map(({ label, before, after, values }, i) => [
    drawLabel(label, i * step),
    drawBar("before", i * step + 18, (before / largest) * LONGEST, values[0]),
    drawBar("after", i * step + 33, (after / largest) * LONGEST, values[1]),
  ]);
  return svg(chart, { width: WIDTH, height: rows.length * step }, content.flat());
}

export interface AmountRow {
  label: string;
  amount: number;
  /** Shown at the end of the bar. */
  value: string;
}

/** One bar a row, below its label, which may be a long path. */
export function drawAmountChart(chart: Chart, rows: readonly AmountRow[]): Markup {
  const largest = Math.max(1, ...rows.map(({ amount }) => amount));
  const step = 40;
  const content = rows.map(({ label, amount, value }, i) => [
    drawLabel(label, i * step),
    drawBar(i === 0 ? "before" : "after", i * step + 19, (amount / largest) * LONGEST_AMOUNT, value),
  ]);
  return svg(chart, { width: WIDTH, height: rows.length * step }, content.flat());
}

function drawLabel(label: string, y: number): Markup {
  const short = shortenMiddle(label, NAME_LENGTH);
  return html`<text class="label" y="${y + 13}">${short}${short === label ? "" : html`<title>${label}</title>`}</text>`;
}

/** A bar of `percent` of the width, and its value behind it. */
function drawBar(kind: string, y: number, percent: number, value: string): Markup {
  const share = round(percent);
  return html`<rect class="${kind}" y="${y}" width="${share}%" height="13" rx="2"/><text class="value" x="${share}%" dx="6" y="${y + 11}">${value}</text>`;
}

/** Pixels of a cell: across at most, and across at least where its number is shown. */
const CELL = 44;
const CELL_WITH_NUMBER = 19;
/** Where there are more columns, pointing at a cell shows its number: the page stays small. */
const COLUMNS_WITH_NUMBERS = 20;
const ROW_NAME_LENGTH = 9;

/**
 * Cells by row and column, both numbered from 0 on; rows may be shorter than others. The number stands in the cell where
 * there is room.
 * @param rows labels of the rows
 * @param largest the value that has the full color
 */
export function drawHeatMap(
  chart: Chart,
  cells: readonly (readonly number[])[],
  rows: readonly string[],
  largest: number,
): Markup {
  const names = rows.map((row) => shortenMiddle(row, ROW_NAME_LENGTH));
  const left = 14 + 7 * Math.max(0, ...names.map((name) => [...name].length));
  const columns = Math.max(1, ...cells.map((line) => line.length));
  const height = columns > 8 ? 22 : 28;
  const shade = makeScale([0, largest], [0.04, 1]);
  const opacity = (value: number) => Math.min(1, Math.max(0.04, shade(value)));
  const at = (column: number) => `${round((100 * column) / columns)}%`;
  const every = columns > 14 ? 5 : 1;
  const content = [
    ...Array.from({ length: Math.ceil(columns / every) }, (_, i) => {
      const c = i * every;
      return html`<text class="axis" x="${at(c + 0.5)}" y="12" text-anchor="middle">${c}</text>`;
    }),
    ...names.map(
      (name, r) =>
        html`<text class="axis" x="-8" y="${round(18 + (r + 0.7) * height)}" text-anchor="end">${name}</text>`,
    ),
    ...cells.flatMap((line, r) =>
      line.map((value, c) => {
        const [y, alpha, text] = [18 + r * height, opacity(value), value.toFixed(2)];
        const label = html`<text class="number${alpha > 0.85 ? " on" : alpha > 0.6 ? " middle" : ""}" x="${at(c + 0.5)}" y="${round(y + height * 0.66)}" text-anchor="middle">${formatCell(value)}</text>`;
        return html`<rect class="heat" x="${at(c)}" y="${y}" width="${at(1)}" height="${height}" fill-opacity="${round(alpha)}"><title>${rows[r] ?? ""}, ${c}: ${text}</title></rect>${columns > COLUMNS_WITH_NUMBERS ? "" : label}`;
      }),
    ),
  ];
  const kind = nameNeed(left + columns * CELL_WITH_NUMBER);
  return svg(chart, { width: left + columns * CELL, height: 20 + rows.length * height, left, kind }, content);
}

/** Three characters: .83, 1.2, 12. */
function formatCell(value: number): string {
  if (value < 0.995) return value.toFixed(2).replace(/^0/, "");
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** The colors of lines that belong together, in style.ts; each comes as a full, a dashed and a dotted line. */
export const LINE_COLORS = 8;

export interface Line {
  /** One of the page's line colors; a number for one of many lines. */
  kind: "before" | "after" | "third" | number;
  points: readonly (readonly [x: number, y: number])[];
  dots?: boolean;
  /** What the line is, which pointing at it shows. */
  name?: string;
}

export interface LineOptions {
  x: string;
  y: string;
  small?: boolean;
}

/** The classes that give a line its color and its dashes. */
function nameLineClasses(kind: Line["kind"]): string {
  return typeof kind === "number" ? `line-${kind % LINE_COLORS} dash-${Math.floor(kind / LINE_COLORS) % 3}` : kind;
}

/** Names of lines beside short pieces of them. */
export function drawLegend(lines: readonly Pick<Line, "kind" | "name">[]): Markup {
  const items = lines.map(
    ({ kind, name = "" }) =>
      html`<span><svg width="22" height="10" aria-hidden="true"><title>${name}</title><line class="line ${nameLineClasses(kind)}" x1="0" x2="22" y1="5" y2="5"/></svg>${name}</span>`,
  );
  return html`<p class="legend quiet">${items}</p>`;
}

/** Lines over a common axis. */
export function drawLineChart(
  chart: Chart,
  lines: readonly Line[],
  { x: xLabel, y: yLabel, small }: LineOptions,
): Markup {
  const height = small ? 182 : 242;
  const [top, bottom] = [26, height - 34]; // the first tick stays below the name of the axis
  const points = lines.flatMap((line) => line.points);
  const [xs, ys] = [points.map(([value]) => value), points.map(([, value]) => value)];
  const [domainX, domainY] = [findExtent(xs), widenToTicks(findExtent(ys))];
  const [x, y] = [makeScale(domainX, [0, 100]), makeScale(domainY, [bottom, top])];
  const yTicks = formatTicks(listTicks(domainY, small ? 3 : 5));
  const left = 12 + 7 * Math.max(3, ...yTicks.map(({ text }) => text.length));
  const content = [
    ...yTicks.map(({ value, text }) => {
      const at = round(y(value));
      return html`<line class="grid" x2="100%" y1="${at}" y2="${at}"/><text class="axis" x="-6" y="${at + 4}" text-anchor="end">${text}</text>`;
    }),
    ...formatTicks(listTicks(domainX, 4)).map(
      ({ value, text }) =>
        html`<text class="axis" x="${round(x(value))}%" y="${bottom + 16}" text-anchor="middle">${text}</text>`,
    ),
    html`<text class="axis" x="100%" y="${height - 4}" text-anchor="end">${xLabel}</text><text class="axis" x="${-left + 4}" y="10">${yLabel}</text>`,
    // The curves are stretched to the width of the page, their strokes are not.
    html`<svg viewBox="0 0 100 ${height}" width="100%" height="${height}" preserveAspectRatio="none" aria-hidden="true"><title>${chart.title}</title>${lines.map(
      ({ kind, points: own, name }) => {
        const path = own.map(([a, b], i) => `${i === 0 ? "M" : "L"}${round(x(a))} ${round(y(b))}`).join("");
        return html`<path class="line ${nameLineClasses(kind)}" d="${path}">${name === undefined ? "" : html`<title>${name}</title>`}</path>`;
      },
    )}</svg>`,
    ...lines.flatMap(({ kind, points: own, dots }) =>
      dots
        ? own.map(
            ([a, b]) => html`<circle class="${nameLineClasses(kind)}" cx="${round(x(a))}%" cy="${round(y(b))}" r="3"/>`,
          )
        : [],
    ),
  ];
  return svg(chart, { width: WIDTH, height, left, right: 14 }, content);
}

/** The least and the largest value, and some room around a single one. */
function findExtent(values: readonly number[]): Interval {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!Number.isFinite(low)) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

const round = (value: number) => Number(value.toFixed(2));
