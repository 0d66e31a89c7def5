// Cuts the vocabulary to the tokens that a text uses: rows of the embedding and the head, and the tokenizer's files.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { cutTokenizerFiles } from "../../checkpoint/cut-tokenizer.ts";
import { KeptIds, VOCABULARY_AXIS } from "../../checkpoint/kept-ids.ts";
import { selectTokens } from "../../checkpoint/select-tokens.ts";
import { NfcError } from "../../errors.ts";
import { sha256Files } from "../../io/sha256.ts";
import type { Cut, CutTools } from "../cut.ts";
import { chooseTokens, type VocabularySettings } from "./vocabulary-choice.ts";
import { countVocabulary } from "./vocabulary-count.ts";

/**
 * The model with fewer tokens. Special and added tokens stay, and so do those that configurations name and those of a
 * single byte (or character), so that any text can still be encoded.
 * @throws NfcError "usage" for a size below what must stay; as `countVocabulary`
 */
export async function cutVocabulary(
  checkpoint: Checkpoint,
  settings: VocabularySettings,
  { signal, onProgress }: Pick<CutTools, "signal" | "onProgress">,
): Promise<Cut> {
  const { text, field, size = Number.POSITIVE_INFINITY } = settings;
  const { vocab_size: rows } = checkpoint.config;
  const counted = settings.counted ?? (await countVocabulary(checkpoint, { text, field, signal, onProgress }));
  const { files, tokenizer, use, required, least } = counted;
  const limit = size < 1 ? Math.floor(size * rows) : size;
  if (limit < least) throw makeTooSmallError(checkpoint, limit, least);
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
