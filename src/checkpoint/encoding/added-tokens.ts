// Finds added tokens in a text: from the left, the longest first, with the white space that they take.
import type { AddedToken } from "./definition.ts";

/** A stretch of text, or a token that was found in it. */
export type Section = { readonly text: string } | { readonly id: number };

interface Node {
  readonly next: Map<string, Node>;
  token?: AddedToken;
}

/** Characters of words, as the regular expressions of Hugging Face's library have them. */
const WORD_CHARACTER = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /\p{White_Space}/u;

export class TokenFinder {
  private readonly root: Node = { next: new Map() };
  /** The first characters of all tokens, at which a search can stop. */
  private readonly starts: RegExp | null;

  /** @param contents the text by which each token is found */
  constructor(tokens: readonly AddedToken[], contents: readonly string[] = tokens.map(({ content }) => content)) {
    const firsts = new Set<string>();
    for (const [i, content] of contents.entries()) {
      if (content === "") continue;
      firsts.add(content[0] as string);
      this.insert(content, tokens[i] as AddedToken);
    }
    const codes = [...firsts].map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
    this.starts = codes.length === 0 ? null : new RegExp(`[${codes.join("")}]`, "g");
  }

  private insert(content: string, token: AddedToken): void {
    let node = this.root;
    for (let i = 0; i < content.length; i++) {
      const unit = content[i] as string;
      const child = node.next.get(unit) ?? { next: new Map() };
      node.next.set(unit, child);
      node = child;
    }
    node.token ??= token;
  }

  /** The sections of a text; none is empty. */
  split(text: string): Section[] {
    const sections: Section[] = [];
    let done = 0;
    let from = 0;
    for (;;) {
      const found = this.find(text, from);
      if (found === null) break;
      const { token, start, end } = found;
      from = end;
      if (token.single_word && touchesWord(text, start, end)) continue;
      const left = token.lstrip ? Math.max(done, skipSpaceBack(text, start)) : start;
      const right = token.rstrip ? skipSpace(text, end) : end;
      if (left > done) sections.push({ text: text.slice(done, left) });
      sections.push({ id: token.id });
      done = right;
    }
    if (done < text.length) sections.push({ text: text.slice(done) });
    return sections;
  }

  private find(text: string, from: number): { token: AddedToken; start: number; end: number } | null {
    if (this.starts === null) return null;
    this.starts.lastIndex = from;
    for (let match = this.starts.exec(text); match !== null; match = this.starts.exec(text)) {
      const start = match.index;
      let found: { token: AddedToken; start: number; end: number } | null = null;
      let node: Node | undefined = this.root;
      for (let end = start; node !== undefined; node = node.next.get(text[end++] as string))
        if (node.token) found = { token: node.token, start, end };
      if (found) return found;
      this.starts.lastIndex = start + 1;
    }
    return null;
  }
}

function touchesWord(text: string, start: number, end: number): boolean {
  const before = start > 0 && WORD_CHARACTER.test(characterBefore(text, start));
  return before || (end < text.length && WORD_CHARACTER.test(String.fromCodePoint(text.codePointAt(end) as number)));
}

/** The character that ends before `at`. */
export function characterBefore(text: string, at: number): string {
  const unit = text.charCodeAt(at - 1);
  const pair = unit >= 0xdc00 && unit < 0xe000 && at > 1 && (text.codePointAt(at - 2) as number) > 0xffff;
  return text.slice(pair ? at - 2 : at - 1, at);
}

function skipSpaceBack(text: string, end: number): number {
  let at = end;
  while (at > 0 && SPACE.test(text[at - 1] as string)) at--;
  return at;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (at < text.length && SPACE.test(text[at] as string)) at++;
  return at;
}
