// Text and markup apart: every name of a file or tensor goes through `text`, so that none can become an element.

/** Markup that is safe to put into a page. */
export class Markup {
  readonly html: string;

  constructor(html: string) {
    this.html = html;
  }
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Control characters and invisible ones are shown as a box: they say nothing in a page, and direction marks may lie. */
function escapeHtml(value: string): string {
  return value
    .replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
    .replace(/(?![\t\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "\u25a1");
}

type Part = string | number | Markup | readonly Part[];

const render = (part: Part): string =>
  part instanceof Markup ? part.html : Array.isArray(part) ? part.map(render).join("") : escapeHtml(String(part));

/** A template: what is filled in is text, unless it is markup already. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((out, string, i) => out + render(parts[i - 1] as Part) + string));
}

export const NOTHING = new Markup("");
