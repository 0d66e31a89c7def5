// A strict pull parser for JSON from untrusted files: exact integers, visible duplicates, bounded depth, no value tree.
import { NfcError } from "../errors.ts";

/** serde_json's limit. No header is nested deeper; a text that is attacks the stack. */
const MAX_DEPTH = 128;
export type JsonKind = "object" | "array" | "string" | "number" | "boolean" | "null" | "nothing";

/**
 * Decodes UTF-8 bytes.
 * @throws NfcError `invalid-file` for malformed UTF-8 and for a byte order mark.
 */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new NfcError("invalid-file", `${what} starts with a byte order mark`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new NfcError("invalid-file", `${what} is not valid UTF-8`, { cause });
  }
}

/**
 * Walks over a JSON text. The caller asks for the values it expects, in order, and decides itself what a duplicate key
 * means; nothing is built for values that are skipped, so memory does not grow with a hostile text.
 * Every fault is an NfcError `invalid-file` that begins with `what` (for instance `model.safetensors: the header`).
 */
export class JsonCursor {
  private readonly text: string;
  private readonly what: string;
  private at = 0;
  private depth = 0;

  constructor(text: string, what: string) {
    this.text = text;
    this.what = what;
  }

  /** The kind of the next value, without consuming it. */
  kind(): JsonKind {
    this.skipSpace();
    const character = this.text[this.at];
    if (character === undefined) return "nothing";
    if (character === "{") return "object";
    if (character === "[") return "array";
    if (character === '"') return "string";
    if (character === "-" || isDigit(this.text.charCodeAt(this.at))) return "number";
    if (character === "t" || character === "f") return "boolean";
    return character === "n" ? "null" : "nothing";
  }

  /** Consumes an object; `onMember` must consume the value of each key. */
  object(onMember: (key: string) => void): void {
    this.list("{", "}", () => {
      if (this.kind() !== "string") this.fail("expected a key in quotes");
      const key = this.string();
      this.expect(":");
      onMember(key);
    });
  }

  /** Consumes an array; `onItem` must consume each item. */
  array(onItem: (index: number) => void): void {
    let index = 0;
    this.list("[", "]", () => onItem(index++));
  }

  /** Consumes a string and resolves its escapes. */
  string(): string {
    this.expect('"');
    const start = this.at;
    let escaped = false;
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (Number.isNaN(code)) this.fail("a string does not end");
      if (code < 0x20) this.fail("a control character stands unescaped in a string");
      this.at++;
      if (code === QUOTE) break;
      if (code !== BACKSLASH) continue;
      escaped = true;
      this.escape();
    }
    if (!escaped) return this.text.slice(start, this.at - 1);
    // The text is known to be valid. Put together piece by piece, millions of escapes would cost a gigabyte.
    return JSON.parse(this.text.slice(start - 1, this.at)) as string;
  }

  /** Consumes a number and returns its text, digit for digit. */
  number(): string {
    this.skipSpace();
    const start = this.at;
    if (this.text[this.at] === "-") this.at++;
    if (this.text[this.at] === "0") this.at++;
    else this.digits();
    if (isDigit(this.text.charCodeAt(this.at))) this.fail("a number starts with 0");
    if (this.text[this.at] === ".") {
      this.at++;
      this.digits();
    }
    if (this.text[this.at] === "e" || this.text[this.at] === "E") {
      this.at++;
      if (this.text[this.at] === "+" || this.text[this.at] === "-") this.at++;
      this.digits();
    }
    return this.text.slice(start, this.at);
  }

  /** Consumes a value of any kind, checking its syntax. */
  skip(): void {
    const kind = this.kind();
    if (kind === "object") this.object(() => this.skip());
    else if (kind === "array") this.array(() => this.skip());
    else if (kind === "string") this.string();
    else if (kind === "number") this.number();
    else if (kind === "null") this.word("null");
    else if (kind === "boolean") this.word(this.text[this.at] === "t" ? "true" : "false");
    else this.fail("expected a value");
  }

  /** Requires that nothing but white space follows. */
  end(): void {
    this.skipSpace();
    if (this.at < this.text.length) this.fail("something follows the closing bracket");
  }

  private list(open: string, close: string, onEntry: () => void): void {
    this.expect(open);
    if (++this.depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH} levels`);
    this.skipSpace();
    if (this.text[this.at] === close) this.at++;
    else {
      do onEntry();
      while (this.comma(close));
    }
    this.depth--;
  }

  /** After an entry: true for a comma, false for the closing bracket. */
  private comma(close: string): boolean {
    this.skipSpace();
    const character = this.text[this.at];
    if (character !== "," && character !== close) this.fail(`expected "," or "${close}"`);
    this.at++;
    return character === ",";
  }

  /** Checks an escape behind its backslash. */
  private escape(): void {
    const letter = this.text[this.at++];
    if (letter !== "u") {
      if (!ESCAPES.includes(letter ?? "?")) this.fail("unknown escape in a string");
      return;
    }
    const first = this.hex4();
    if (first < 0xd800 || first > 0xdfff) return;
    if (first > 0xdbff || this.text.slice(this.at, this.at + 2) !== "\\u") this.fail("a lone surrogate in a string");
    this.at += 2;
    const second = this.hex4();
    if (second < 0xdc00 || second > 0xdfff) this.fail("a lone surrogate in a string");
  }

  private hex4(): number {
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("\\u needs four hexadecimal digits");
    this.at += 4;
    return Number.parseInt(digits, 16);
  }

  private digits(): void {
    const start = this.at;
    while (isDigit(this.text.charCodeAt(this.at))) this.at++;
    if (this.at === start) this.fail("expected a digit");
  }

  private word(word: string): void {
    if (!this.text.startsWith(word, this.at)) this.fail("expected a value");
    this.at += word.length;
  }

  private expect(character: string): void {
    this.skipSpace();
    if (this.text[this.at] !== character) this.fail(`expected ${JSON.stringify(character)}`);
    this.at++;
  }

  private skipSpace(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.at++;
    }
  }

  private fail(fact: string): never {
    throw new NfcError("invalid-file", `${this.what} is not valid JSON: ${fact} at character ${this.at}`);
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** What may follow a backslash, besides u. */
const ESCAPES = '"\\/bfnrt';

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
