// Cuts JSON into its records as it streams in (the elements of an array, or values that follow each other).

/** Lines with a value each, the elements of one array, or values that may span lines. */
export type JsonShape = "lines" | "array" | "values";

/** One value's text, and the number of the line that it begins on. */
export interface JsonValue {
  json: string;
  line: number;
}

/**
 * Cuts a stream of text into values, of which it holds one at a time. Only brackets, quotes and commas are looked at: what
 * is cut out may turn out to be no JSON.
 */
export class JsonCutter {
  /** The depth at which values stand: 1 inside an array, else 0. */
  private readonly base: 0 | 1;
  private depth = 0;
  private inString = false;
  private escaped = false;
  /** A value has begun. */
  private begun = false;
  private afterComma = false;
  /** The array's last bracket has been read. */
  private ended = false;
  private line = 1;
  private firstLine = 1;
  private pending = "";

  constructor(shape: "array" | "values") {
    this.base = shape === "array" ? 1 : 0;
  }

  /** What has begun and not ended; for an array also what follows its end. */
  get rest(): JsonValue | null {
    return this.begun ? { json: this.pending, line: this.firstLine } : null;
  }

  /** Whether an array has been read to its last bracket. */
  get hasEnded(): boolean {
    return this.ended;
  }

  /** The values that end in this piece of text. */
  *push(text: string): Generator<JsonValue> {
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const character = text[at] as string;
      if (character === "\n") this.line++;
      const hadBegun = this.begun;
      const end = this.step(character);
      if (!hadBegun) start = at;
      if (end === null) continue;
      yield { json: this.pending + text.slice(start, at + end), line: this.firstLine };
      this.pending = "";
      this.begun = false;
    }
    if (this.begun) this.pending += text.slice(start);
  }

  /** Takes one character; 1 where it is a value's last, 0 where it follows one, else null. */
  private step(character: string): 0 | 1 | null {
    if (this.inString) return this.stepInString(character);
    if (character === " " || character === "\n" || character === "\r" || character === "\t")
      return this.begun && this.depth === 0 && this.base === 0 ? 0 : null;
    if (this.base === 1 && !this.ended) {
      if (this.depth === 0 && character === "[") {
        this.depth = 1;
        return null;
      }
      if (this.depth === 1 && (character === "," || character === "]")) return this.endElement(character);
    }
    this.begin();
    if (this.ended) return null;
    if (character === '"') this.inString = true;
    else if (character === "{" || character === "[") this.depth++;
    else if ((character === "}" || character === "]") && this.depth > this.base) return this.close();
    return null;
  }

  private stepInString(character: string): 1 | null {
    if (this.escaped) this.escaped = false;
    else if (character === "\\") this.escaped = true;
    else if (character === '"') {
      this.inString = false;
      if (this.depth === 0) return 1;
    }
    return null;
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    this.afterComma = false;
    this.firstLine = this.line;
  }

  private close(): 1 | null {
    this.depth--;
    return this.depth === 0 ? 1 : null;
  }

  /** An element ends before a comma or the array's last bracket; between two commas it is empty. */
  private endElement(character: string): 0 | null {
    const isElement = this.begun || this.afterComma || character === ",";
    if (!this.begun) this.firstLine = this.line;
    this.afterComma = character === ",";
    if (character === "]") {
      this.depth = 0;
      this.ended = true;
    }
    return isElement ? 0 : null;
  }
}
