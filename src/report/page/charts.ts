// The charts of the report page, as SVG: bars, lines and heat maps, each with a title and a description.
import { html, type Markup } from "../render/html.ts";
import { type Interval, listTicks, makeScale, widenToTicks } from "./scale.ts";

/** Widths in CSS pixels of the drawing; the page scales it. */
const WIDTH = 640;
const SMALL = 300;

export interface Chart {
  title: string;
  /** The content in words, for screen readers. */
  description: string;
}

function svg({ title, description }: Chart, width: number, height: number, content: readonly Markup[]): Markup {
  return html`<svg viewBox="0 0 ${width} ${height}" role="img" style="max-width:${width}px"><title>${title}</title><desc>${description}</desc>${content}</svg>`;
}

export interface BarRow {
  label: string;
  before: number;
  after: number;
  /** Shown at the end of the two bars. */
  values: readonly [string, string];
}

const LABEL = 118;
const VALUE = 96;

/** Pairs of bars, before and after. */
export function drawBarChart(chart: Chart, rows: readonly BarRow[]): Markup {
  const largest = Math.max(1, ...rows.flatMap(({ before, after }) => [before, after]));
  const x = makeScale([0, largest], [0, WIDTH - LABEL - VALUE]);
  const step = 40;
  const content = rows.map(({ label, before, after, values }, i) => {
    const y = i * step + 4;
    const bar = (value: number, top: number, kind: string, text: string) =>
      html`<rect class="${kind}" x="${LABEL}" y="${top}" width="${round(Math.max(value > 0 ? 1 : 0, x(value)))}" height="13" rx="2"/><text class="value" x="${round(LABEL + x(value) + 6)}" y="${top + 11}">${text}</text>`;
    return html`<text class="label" x="${LABEL - 10}" y="${y + 19}" text-anchor="end">${label}</text>${bar(before, y, "before", values[0])}${bar(after, y + 16, "after", values[1])}`;
  });
  return svg(chart, WIDTH, rows.length * step + 4, content);
}

export interface AmountRow {
  label: string;
  amount: number;
  /** Shown at the end of the bar. */
  value: string;
}

/** One bar a row, below its label, which may be a long path. */
export function drawAmountChart(chart: Chart, rows: readonly AmountRow[]): Markup {
  const room = 150;
  const x = makeScale([0, Math.max(1, ...rows.map(({ amount }) => amount))], [0, WIDTH - room]);
  const step = 40;
  const content = rows.map(({ label, amount, value }, i) => {
    const [y, width] = [i * step, round(Math.max(amount > 0 ? 1 : 0, x(amount)))];
    return html`<text class="label" x="0" y="${y + 13}">${label}</text><rect class="${i === 0 ? "before" : "after"}" x="0" y="${y + 19}" width="${width}" height="13" rx="2"/><text class="value" x="${width + 6}" y="${y + 30}">${value}</text>`;
  });
  return svg(chart, WIDTH, rows.length * step, content);
}

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
  const left = 56;
  const columns = Math.max(...cells.map((line) => line.length));
  const size = Math.min(44, (WIDTH - left) / Math.max(1, columns));
  const height = Math.min(28, size);
  const shade = makeScale([0, largest], [0.04, 1]);
  const opacity = (value: number) => Math.min(1, Math.max(0.04, shade(value)));
  const content = [
    ...Array.from(
      { length: columns },
      (_, c) => html`<text class="axis" x="${round(left + (c + 0.5) * size)}" y="12" text-anchor="middle">${c}</text>`,
    ),
    ...rows.map(
      (row, r) =>
        html`<text class="axis" x="${left - 8}" y="${round(18 + (r + 0.7) * height)}" text-anchor="end">${row}</text>`,
    ),
    ...cells.flatMap((line, r) =>
      line.map((value, c) => {
        const [x, y, alpha] = [left + c * size, 18 + r * height, opacity(value)];
        const text = value.toFixed(2);
        const label = html`<text class="${alpha > 0.55 ? "on" : "cell"}" x="${round(x + size / 2)}" y="${round(y + height * 0.66)}" text-anchor="middle">${text}</text>`;
        return html`<rect class="heat" x="${round(x + 0.5)}" y="${round(y + 0.5)}" width="${round(size - 1)}" height="${round(height - 1)}" fill-opacity="${round(alpha)}"><title>${rows[r] ?? ""}, ${c}: ${text}</title></rect>${size < 34 ? "" : label}`;
      }),
    ),
  ];
  return svg(chart, Math.ceil(left + columns * size), Math.ceil(20 + rows.length * height), content);
}

export interface Line {
  /** One of the page's line colors. */
  kind: "before" | "after" | "third";
  points: readonly (readonly [x: number, y: number])[];
  dots?: boolean;
}

export interface LineOptions {
  x: string;
  y: string;
  small?: boolean;
}

/** Lines over a common axis. */
export function drawLineChart(
  chart: Chart,
  lines: readonly Line[],
  { x: xLabel, y: yLabel, small }: LineOptions,
): Markup {
  const [width, height] = small ? [SMALL, 182] : [WIDTH, 242];
  const [left, right, top, bottom] = [52, 10, 26, 34]; // the first tick stays below the name of the axis
  const points = lines.flatMap((line) => line.points);
  const [xs, ys] = [points.map(([value]) => value), points.map(([, value]) => value)];
  const [domainX, domainY] = [findExtent(xs), widenToTicks(findExtent(ys))];
  const x = makeScale(domainX, [left, width - right]);
  const y = makeScale(domainY, [height - bottom, top]);
  const tick = (value: number) => String(Number(value.toPrecision(3)));
  const content = [
    ...listTicks(domainY, small ? 3 : 5).map(
      (value) =>
        html`<line class="grid" x1="${left}" x2="${width - right}" y1="${round(y(value))}" y2="${round(y(value))}"/><text class="axis" x="${left - 6}" y="${round(y(value) + 4)}" text-anchor="end">${tick(value)}</text>`,
    ),
    ...listTicks(domainX, small ? 4 : 8).map(
      (value) =>
        html`<text class="axis" x="${round(x(value))}" y="${height - bottom + 16}" text-anchor="middle">${tick(value)}</text>`,
    ),
    html`<text class="axis" x="${width - right}" y="${height - 4}" text-anchor="end">${xLabel}</text><text class="axis" x="4" y="10">${yLabel}</text>`,
    ...lines.map(({ kind, points: own, dots }) => {
      const path = own.map(([a, b], i) => `${i === 0 ? "M" : "L"}${round(x(a))} ${round(y(b))}`).join("");
      const marks = dots
        ? own.map(([a, b]) => html`<circle class="${kind}" cx="${round(x(a))}" cy="${round(y(b))}" r="3"/>`)
        : [];
      return html`<path class="line ${kind}" d="${path}"/>${marks}`;
    }),
  ];
  return svg(chart, width, height, content);
}

/** The least and the largest value, and some room around a single one. */
function findExtent(values: readonly number[]): Interval {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!Number.isFinite(low)) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

const round = (value: number) => Number(value.toFixed(2));
