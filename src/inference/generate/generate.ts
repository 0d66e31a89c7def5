// Continues prompts with text, token by token: a batch at a time, until an end token, a stop string or a limit.
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { makeRandom } from "../../numeric/random.ts";
import type { Decoder } from "./decoder.ts";
import { checkPrompt } from "./prompt-ids.ts";
import { makeSampler } from "./sampling.ts";
import { type DecodeOptions, type GenerateEvent, TextRow } from "./text-row.ts";

export { DEFAULT_NEW_TOKENS, type DecodeOptions, type FinishReason, type GenerateEvent } from "./text-row.ts";
export const DEFAULT_BATCH_SIZE = 8;

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
  const rows = prompts.map((prompt, row) => {
    const text = new TextRow(row, prompt, tokenizer, decoder.config, options);
    const choose = makeSampler(options, makeRandom(options.seed ?? 0, row), prompt, decoder.source);
    return { prompt, interrupt: () => text.interrupt(), take: (logits: Float32Array) => text.push(choose(logits)) };
  });
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
