// The look of the report page: one column, system fonts, light, dark and on paper. Colors are Okabe and Ito's.

import { NARROW_STYLE } from "../render/narrow.ts";

/** Colors that are told apart by most eyes, on light and on dark ground. */
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a7d00", "#7b8790"];
const LINE_STYLE = `${LINES.map((color, i) => `svg .line-${i} { stroke: ${color}; }`).join(" ")}
svg .dash-1 { stroke-dasharray: 6 3; } svg .dash-2 { stroke-dasharray: 1.5 3; }`;

export const STYLE = `
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2227; --quiet: #59636c; --line: #dde2e6; --soft: #f4f6f7;
  --before: #8b969e; --after: #0072b2; --third: #d55e00; --on: #fff; font: 16px/1.55 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181b; --ink: #e6eaed; --quiet: #9aa6af; --line: #2c343a;
  --soft: #1b2125; --before: #76828b; --after: #56b4e9; --third: #e69f00; --on: #0d1114; } }
* { box-sizing: border-box; }
body { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; background: var(--ground); color: var(--ink); overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .5rem; font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .25rem; font-size: .95rem; }
p { margin: .4rem 0; max-width: 42rem; }
.quiet, figcaption { color: var(--quiet); font-size: .875rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 1.75rem 0 0; padding: 0; }
.facts div { padding: .9rem 1rem; border-radius: .6rem; background: var(--soft); }
.facts dt { color: var(--quiet); font-size: .8rem; }
.facts dd { margin: .1rem 0 0; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts dd + dd { font-size: .85rem; font-weight: 400; color: var(--quiet); }
figure { margin: 1rem 0; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: .5rem 1.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
.scroll + .scroll { margin-top: 1.25rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
th:first-child, td:first-child, th.left, td.left { text-align: left; }
td wbr { white-space: normal; }
td.wrap, dd.wrap { white-space: normal; overflow-wrap: anywhere; text-align: left; }
code { font: .82rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
code .flag { white-space: nowrap; }
ul { padding-left: 1.1rem; } li { margin: .25rem 0; }
.legend span { margin-right: 1.25rem; } .legend i { display: inline-block; width: .75rem; height: .75rem; margin-right: .4rem; border-radius: 2px; }
.legend .before { background: var(--before); } .legend .after { background: var(--after); } .legend .third { background: var(--third); }
svg { display: block; overflow: visible; font: 12px system-ui, sans-serif; } .legend svg { display: inline-block; margin-right: .4rem; vertical-align: middle; }
.legend span { white-space: nowrap; }
svg text { fill: var(--ink); } svg .axis, svg .value { fill: var(--quiet); } svg .axis { font-size: 11px; }
svg rect.before { fill: var(--before); } svg rect.after, svg rect.heat { fill: var(--after); }
svg .grid { stroke: var(--line); } svg .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
svg rect.heat { stroke: var(--ground); }
${LINE_STYLE}
svg .line.before { stroke: var(--before); } svg .line.after { stroke: var(--after); } svg .line.third { stroke: var(--third); }
svg circle.before { fill: var(--before); } svg circle.after { fill: var(--after); } svg circle.third { fill: var(--third); }
svg .number { font-size: 11px; } svg text.on { fill: var(--on); }
@media screen and (prefers-color-scheme: dark) { svg text.middle { fill: var(--on); } }
@media print { :root { --ground: #fff; --ink: #000; --quiet: #444; --soft: #f4f4f4; --line: #ccc; --before: #8b969e; --after: #0072b2; --third: #d55e00; --on: #fff; }
  body { max-width: none; padding: 0; font-size: 11pt; } h2 { break-after: avoid; } figure, table, .facts { break-inside: avoid; } }
@media (max-width: 34rem) { body { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.4rem; } }
${NARROW_STYLE}
`;
