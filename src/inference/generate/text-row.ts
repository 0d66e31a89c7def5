// Turns the tokens of one prompt's continuation into events: its text, and where it ends.
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { SamplingOptions } from "./sampling.ts";
import { TextStream } from "./text-stream.ts";

export const DEFAULT_NEW_TOKENS = 64;

export interface DecodeOptions extends SamplingOptions {
  maxNewTokens?: number | undefined;
  /** Ids that end a text; with none, it goes on past them. See `readEndTokens`. */
  end?: readonly number[] | undefined;
  /** The text ends before the first of these strings. */
  stop?: readonly string[] | undefined;
  /** Seed of the draws; each prompt has a stream of its own. */
  seed?: number | undefined;
  /** Prompts that share a batch. */
  batchSize?: number | undefined;
  /** Unfinished texts end as "interrupted" once it fires. */
  signal?: AbortSignal | undefined;
}

/** An end token; a stop string; `maxNewTokens`; n_positions; the signal. */
export type FinishReason = "end" | "stop" | "length" | "positions" | "interrupted";

export interface GenerateEvent {
  /** Index of the prompt. */
  row: number;
  /** The new token; null when the text ends without one. */
  id: number | null;
  /** The text that is now certain: whole characters, and nothing that may become a stop string. */
  text: string;
  /** Set on the last event of a prompt. */
  finish: FinishReason | null;
}

export class TextRow {
  private readonly index: number;
  private readonly stream: TextStream;
  private readonly ends: ReadonlySet<number>;
  /** Tokens that `maxNewTokens` still allows, and positions that the model has left. */
  private wanted: number;
  private room: number;

  constructor(
    index: number,
    prompt: readonly number[],
    tokenizer: Tokenizer,
    { n_positions }: ModelConfig,
    { maxNewTokens = DEFAULT_NEW_TOKENS, end = [], stop = [] }: DecodeOptions,
  ) {
    this.index = index;
    this.stream = new TextStream(tokenizer, prompt, stop);
    this.ends = new Set(end);
    this.wanted = maxNewTokens;
    this.room = n_positions - prompt.length;
  }

  /** Tokens that may still come, unless an end comes first. */
  get left(): number {
    return Math.min(this.wanted, this.room);
  }

  push(id: number): GenerateEvent {
    this.wanted -= 1;
    this.room -= 1;
    if (this.ends.has(id)) return this.event(id, this.stream.end(), "end");
    const text = this.stream.push(id);
    if (this.stream.stopped) return this.event(id, text, "stop");
    if (this.left > 0) return this.event(id, text, null);
    const rest = this.stream.end();
    return this.event(id, text + rest, this.stream.stopped ? "stop" : this.wanted > 0 ? "positions" : "length");
  }

  interrupt(): GenerateEvent {
    return this.event(null, this.stream.end(), "interrupted");
  }

  private event(id: number | null, text: string, finish: FinishReason | null): GenerateEvent {
    return { row: this.index, id, text, finish };
  }
}
