// Turns token ids into text as they come: whole characters only, and nothing that is or may become a stop string.
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";

/** The character that decoders put for the bytes of an unfinished one. */
const UNFINISHED = /\ufffd+$/;
/** Ids before the text that are decoded with it, for tokenizers whose first token reads differently. */
const CONTEXT = 4;

export class TextStream {
  /** Whether a stop string has come; the text ends before it. */
  stopped = false;
  private readonly tokenizer: Tokenizer;
  private readonly stops: readonly string[];
  /** Ids that end with a whole character; what follows is decoded after them. */
  private context: number[];
  /** The ids since, and the length of their text that is out already. */
  private pending: number[] = [];
  private given = 0;
  /** Text that may become a stop string. */
  private held = "";

  /** @param prompt the ids before the text */
  constructor(tokenizer: Tokenizer, prompt: readonly number[], stops: readonly string[] = []) {
    this.tokenizer = tokenizer;
    this.stops = stops.filter((stop) => stop !== "");
    this.context = prompt.slice(-CONTEXT);
  }

  /** The text that this id brings for certain, perhaps none. */
  push(id: number): string {
    this.pending.push(id);
    const text = this.pendingText();
    const whole = text.replace(UNFINISHED, "");
    const fresh = whole.slice(this.given);
    this.given = Math.max(this.given, whole.length);
    if (whole === text) this.settle();
    return this.filter(fresh);
  }

  /** Gives the text that was held back, at the end. */
  end(): string {
    const text = this.filter(this.pendingText().slice(this.given));
    this.settle();
    const rest = this.stopped ? "" : this.held;
    this.held = "";
    return text + rest;
  }

  private settle(): void {
    if (this.pending.length > 0) this.context = this.pending;
    this.pending = [];
    this.given = 0;
  }

  private pendingText(): string {
    const before = this.decode(this.context).length;
    return this.decode([...this.context, ...this.pending]).slice(before);
  }

  /** Ids that pad a vocabulary have no text. */
  private decode(ids: readonly number[]): string {
    const known = ids.filter((id) => id < this.tokenizer.size);
    return known.length === 0 ? "" : this.tokenizer.decode(known);
  }

  private filter(text: string): string {
    if (this.stopped) return "";
    const all = this.held + text;
    const found = this.stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    this.stopped = found.length > 0;
    const end = this.stopped ? Math.min(...found) : all.length - this.unsure(all);
    this.held = this.stopped ? "" : all.slice(end);
    return all.slice(0, end);
  }

  /** Length of the longest end of `text` with which a stop string begins. */
  private unsure(text: string): number {
    const longest = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--)
      if (this.stops.some((stop) => stop.startsWith(text.slice(-length)))) return length;
    return 0;
  }
}
