// Continues prompts with text, token by token: a batch at a time, until an end token, a stop string or a limit.
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { makeRandom } from "../../numeric/random.ts";
import type { Decoder } from "./decoder.ts";
import { checkPrompt } from "./prompt-ids.ts";
import { makeSampler, type SamplingOptions } from "./sampling.ts";
import { TextStream } from "./text-stream.ts";

export const DEFAULT_NEW_TOKENS = 64;
export const DEFAULT_BATCH_SIZE = 8;

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

/**
 * One event a token, row by row. A row that has finished leaves its batch.
 * @throws NfcError "usage" for a prompt that does not fit, "invalid-file" for logits that are not finite, "aborted" when
 * the signal fires while prompts are read
 */
export async function* decodePrompts(
  decoder: Decoder,
  tokenizer: Tokenizer,
  prompts: readonly (readonly number[])[],
  options: DecodeOptions = {},
): AsyncGenerator<GenerateEvent, void, undefined> {
  for (const [row, prompt] of prompts.entries()) checkPrompt(prompt, decoder.config, `prompt ${row + 1}`);
  const rows = prompts.map((prompt, row) => startRow(row, prompt, tokenizer, decoder, options));
  const size = options.batchSize ?? DEFAULT_BATCH_SIZE;
  for (let start = 0; start < rows.length; start += size)
    yield* generateBatch(decoder, rows.slice(start, start + size), options.signal);
}

async function* generateBatch(
  decoder: Decoder,
  batch: readonly Row[],
  signal: AbortSignal | undefined,
): AsyncGenerator<GenerateEvent, void, undefined> {
  let rows = batch;
  let next: () => Promise<Float32Array[]> = () =>
    decoder.prompt(
      rows.map(({ prompt }) => prompt),
      signal,
    );
  while (rows.length > 0) {
    if (signal?.aborted) {
      for (const row of rows) yield row.interrupt();
      return;
    }
    const logits = await next();
    const events = rows.map((row, i) => row.take(logits[i] as Float32Array));
    yield* events;
    const going = [...events.keys()].filter((i) => events[i]?.finish === null);
    const ids = going.map((i) => events[i]?.id as number);
    if (going.length < rows.length) decoder.keep(going);
    rows = going.map((i) => rows[i] as Row);
    next = () => decoder.step(ids);
  }
}

/** One prompt and its text. */
interface Row {
  prompt: readonly number[];
  /** Chooses the token after the last one. */
  take(logits: Float32Array): GenerateEvent;
  interrupt(): GenerateEvent;
}

function startRow(
  index: number,
  prompt: readonly number[],
  tokenizer: Tokenizer,
  { config, source }: Decoder,
  { maxNewTokens = DEFAULT_NEW_TOKENS, end = [], stop = [], seed = 0, ...sampling }: DecodeOptions,
): Row {
  const choose = makeSampler(sampling, makeRandom(seed, index), prompt, source);
  const stream = new TextStream(tokenizer, prompt, stop);
  const ends = new Set(end);
  let wanted = maxNewTokens;
  let room = config.n_positions - prompt.length;
  const event = (id: number | null, text: string, finish: FinishReason | null) => ({ row: index, id, text, finish });
  return {
    prompt,
    take(logits) {
      const id = choose(logits);
      wanted -= 1;
      room -= 1;
      if (ends.has(id)) return event(id, stream.end(), "end");
      const text = stream.push(id);
      if (stream.stopped) return event(id, text, "stop");
      if (wanted > 0 && room > 0) return event(id, text, null);
      const rest = stream.end();
      return event(id, text + rest, stream.stopped ? "stop" : wanted > 0 ? "positions" : "length");
    },
    interrupt: () => event(null, stream.end(), "interrupted"),
  };
}
