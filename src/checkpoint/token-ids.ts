// Settles which tokens begin and end a text, by config.json and by the defaults of transformers where it is silent.
import type { ModelConfig } from "../model/config.ts";
import type { ParsedConfig } from "./config-file.ts";
import { GPT2_VOCABULARY, NANOGPT_VOCABULARY } from "./tokenizer.ts";

/** <|endoftext|>, the last token of GPT-2's vocabulary: both ids in GPT2Config where config.json does not name them. */
const GPT2_END_OF_TEXT = GPT2_VOCABULARY - 1;

/**
 * bos and eos (the first of several) where they are in a vocabulary of `rows`, else none, with a note. Without a
 * config.json, GPT-2's ids hold for its own vocabulary alone.
 */
export function resolveTokenIds(
  config: ParsedConfig,
  rows: number,
  notes: string[],
): Pick<ModelConfig, "bos_token_id" | "eos_token_id"> {
  const hasDefaults = config.isHuggingFace || rows === GPT2_VOCABULARY || rows === NANOGPT_VOCABULARY;
  const resolved: Pick<ModelConfig, "bos_token_id" | "eos_token_id"> = {};
  for (const key of ["bos_token_id", "eos_token_id"] as const) {
    const named = config.tokenIds[key];
    const ids = named ?? (hasDefaults && rows > GPT2_END_OF_TEXT ? [GPT2_END_OF_TEXT] : []);
    const [first] = ids.filter((id) => id < rows);
    if (first !== undefined) resolved[key] = first;
    for (const id of ids)
      if (id >= rows) notes.push(`${config.file}: ${key} ${id} is beyond the vocabulary of ${rows}; ignored`);
  }
  return resolved;
}
