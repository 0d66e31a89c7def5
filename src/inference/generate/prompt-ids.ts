// Makes token ids of prompts that leave a model room to go on: longer ones are refused, or cut to their end.

import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";

export interface PromptOptions {
  /** The prompt's name in messages. */
  name: string;
  /** Cut the prompt so that this many tokens can follow, at the least one; null: never cut it. */
  reserved?: number | null | undefined;
}

/**
 * Token ids of several prompts, which are named by their number in messages.
 * @param options `truncate`: cut each to its end so that `maxNewTokens` can follow
 * @throws NfcError "usage" as `checkPrompt`
 */
export function encodePrompts(
  texts: readonly string[],
  tokenizer: Tokenizer,
  config: ModelConfig,
  { truncate, maxNewTokens }: { truncate: boolean; maxNewTokens: number },
): number[][] {
  const reserved = truncate ? maxNewTokens : null;
  return texts.map((text, i) => encodePrompt(text, tokenizer, config, { name: `prompt ${i + 1}`, reserved }));
}

/** @throws NfcError "usage" as `checkPrompt` */
export function encodePrompt(
  text: string,
  tokenizer: Tokenizer,
  config: ModelConfig,
  { name, reserved = null }: PromptOptions,
): number[] {
  const ids = tokenizer.encode(text);
  const room = reserved === null ? ids.length : Math.max(1, config.n_positions - reserved);
  const kept = ids.slice(Math.max(0, ids.length - room));
  checkPrompt(kept, config, name);
  return kept;
}

/** @throws NfcError "usage" for a prompt without tokens, or without room for one more */
export function checkPrompt(ids: readonly number[], { n_positions }: ModelConfig, name: string): void {
  if (ids.length === 0)
    throw new NfcError("usage", `${name} is empty`, { hint: "give at least one token to start from" });
  if (ids.length >= n_positions)
    throw new NfcError("usage", `${name} has ${ids.length} tokens, and the model takes at most ${n_positions - 1}`, {
      hint: "shorten it, or keep its end with --truncate",
    });
}
