// The frame of our pages: no network, no scripts, one style; and the sections and tables in it.
import { html, Markup } from "./markup.ts";
import { STYLE } from "./style.ts";

/** Nothing may be loaded and no script may run, whatever a name in a model file says. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/** A whole page. */
export function renderFrame(title: string, version: string, body: readonly Markup[]): string {
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${POLICY}"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title>${new Markup(`<style>${STYLE}</style>`)}</head>
<body>${body}<footer class="quiet"><p>Made by nfc ${version}.</p></footer></body></html>
`.html;
}

/** A part of a page under a heading. */
export function renderSection(title: string, ...content: readonly Markup[]): Markup {
  return html`<section><h2>${title}</h2>${content}</section>`;
}

/** A table that scrolls sideways where it is too wide. */
export function renderTable(heading: readonly string[], rows: readonly (readonly string[])[]): Markup {
  const cells = (tag: "th" | "td", row: readonly string[]) =>
    row.map((cell) => (tag === "th" ? html`<th scope="col">${cell}</th>` : html`<td>${cell}</td>`));
  return html`<div class="scroll"><table><thead><tr>${cells("th", heading)}</tr></thead><tbody>${rows.map((row) => html`<tr>${cells("td", row)}</tr>`)}</tbody></table></div>`;
}
