// Cuts the vocabulary to the tokens that a text uses: rows of the embedding and the head, and the tokenizer's files.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { cutTokenizerFiles } from "../../checkpoint/cut-tokenizer.ts";
import { KeptIds, VOCABULARY_AXIS } from "../../checkpoint/kept-ids.ts";
import { selectTokens } from "../../checkpoint/select-tokens.ts";
import { NfcError } from "../../errors.ts";
import { sha256Files } from "../../io/sha256.ts";
import type { Cut, CutTools } from "../cut.ts";
import { type CountedVocabulary, chooseTokens, type VocabularySettings } from "./vocabulary-choice.ts";
import { countVocabulary } from "./vocabulary-count.ts";

/** What is known of a cut before it is made: what the text uses, and how many tokens stay at most. */
export interface VocabularyChoice {
  text: readonly [string, ...string[]];
  counted: CountedVocabulary;
  limit: number;
}

/** @throws NfcError "usage" for a size below what must stay; as `countVocabulary` */
export async function prepareVocabulary(
  checkpoint: Checkpoint,
  { text, field, size = Number.POSITIVE_INFINITY, counted: known }: VocabularySettings,
  { signal, onProgress }: Pick<CutTools, "signal" | "onProgress">,
): Promise<VocabularyChoice> {
  const counted = known ?? (await countVocabulary(checkpoint, { text, field, signal, onProgress }));
  const limit = size < 1 ? Math.floor(size * checkpoint.config.vocab_size) : size;
  if (limit < counted.least) throw makeTooSmallError(checkpoint, limit, counted.least);
  return { text, counted, limit };
}

/**
 * The model with fewer tokens. Special and added tokens stay, and so do those that configurations name and those of a
 * single byte (or character), so that any text can still be encoded.
 */
export async function cutVocabulary(
  checkpoint: Checkpoint,
  { text, counted, limit }: VocabularyChoice,
  { signal }: Pick<CutTools, "signal">,
): Promise<Cut> {
  const { vocab_size: rows } = checkpoint.config;
  const { files, tokenizer, use, required } = counted;
  const kept = new KeptIds(chooseTokens(use, required, limit));
  const cut = cutTokenizerFiles(files, tokenizer, kept, checkpoint.folder);
  const model = selectTokens(checkpoint, kept);
  const record = { file: text.join(", "), sha256: await sha256Files(text, signal) };
  const whole = kept.size === rows ? [`the text uses all ${rows} tokens: the vocabulary stays as it is`] : [];
  const facts = { axis: VOCABULARY_AXIS, from: rows, to: kept.size, text: record, kept: kept.format() };
  return {
    model: { ...model, companions: cut.files, notes: [...model.notes, ...counted.notes, ...cut.notes, ...whole] },
    finish: async () => ({ cuts: [facts] }),
  };
}

function makeTooSmallError({ source }: Checkpoint, limit: number, least: number): NfcError {
  const fact = `cannot keep only ${limit} tokens: ${least} must stay, those of one byte or character and the special ones`;
  return new NfcError("usage", `${source}: ${fact}`, { hint: `give --vocab-size ${least} or more` });
}
