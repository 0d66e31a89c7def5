// The frame of a page, with one style and without network or scripts, and the sections in it.
import type { Block } from "../render/blocks.ts";
import { html, Markup, renderBlock } from "../render/html.ts";
import { STYLE } from "./style.ts";

/** Nothing may be loaded and no script may run, whatever a name in a model file says. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/** A whole page. */
export function renderFrame(title: string, version: string, body: readonly Markup[]): string {
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${POLICY}"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="generator" content="nfc ${version}"><title>${title}</title>${new Markup(`<style>${STYLE}</style>`)}</head>
<body>${body}<footer class="quiet"><p>Made by nfc ${version}, the npm package noiseformer-compiler.</p></footer></body></html>
`.html;
}

/** A part of a page under a heading. */
export function renderSection(title: string, ...content: readonly (Markup | Block)[]): Markup {
  const parts = content.map((part) => (part instanceof Markup ? part : renderBlock(part)));
  return html`<section><h2>${title}</h2>${parts}</section>`;
}

/** A chart with a caption. */
export function renderFigure(chart: Markup, caption = ""): Markup {
  return html`<figure>${chart}${caption === "" ? "" : html`<figcaption>${caption}</figcaption>`}</figure>`;
}
