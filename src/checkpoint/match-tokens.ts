// Gives a model the token ids of another whose vocabulary was cut, so that both can be asked about one text.
import { NfcError } from "../errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { quote } from "./fields.ts";
import { KeptIds, readVocabularyCut, type VocabularyCut } from "./kept-ids.ts";
import { selectTokens } from "./select-tokens.ts";
import { listModelTokens } from "./tokenizer.ts";

type TokenSource = Pick<Checkpoint, "source" | "folder" | "config" | "record">;

/**
 * `other` as it is where neither vocabulary was cut, or both have the same tokens; otherwise the tokens of it that `model`
 * has kept: its probabilities are those among them. Closing it closes nothing.
 * @throws NfcError "mismatch" where `other` has not the same tokens in these places, or has kept fewer
 */
export async function matchTokens(model: TokenSource, other: Checkpoint): Promise<Checkpoint> {
  const cut = readVocabularyCut(model.record, model.source);
  const theirs = readVocabularyCut(other.record, other.source);
  if (!cut && !theirs) return other;
  const [own, all] = [model.config.vocab_size, other.config.vocab_size];
  if (own !== all && !cut)
    throw new NfcError("mismatch", `${other.source} has kept only ${all} of the ${own} tokens of ${model.source}`, {
      hint: "compare the other way round: the model with fewer tokens first",
    });
  const kept = own === all || !cut ? new KeptIds(Array(own).keys()) : findPlaces(cut, theirs);
  await checkSameTokens(model, other, kept);
  return own === all ? other : selectTokens(other, kept);
}

/** The ids of another model for the tokens of a cut one; both may have been cut from the same tokens. */
function findPlaces(cut: VocabularyCut, theirs: VocabularyCut | null): KeptIds {
  return (theirs?.from === cut.from && cut.kept.placesIn(theirs.kept)) || cut.kept;
}

/** @throws NfcError "mismatch" naming the first token that differs */
async function checkSameTokens(model: TokenSource, other: Checkpoint, { ids }: KeptIds): Promise<void> {
  const hint = "name the model whose vocabulary was cut, or one with its tokenizer";
  if (ids.length !== model.config.vocab_size || (ids.at(-1) ?? 0) >= other.config.vocab_size)
    throw new NfcError(
      "mismatch",
      `${model.source} has kept other tokens than the ${other.config.vocab_size} of ${other.source}`,
      { hint },
    );
  const [mine, theirs] = [await listModelTokens(model), await listModelTokens(other)];
  for (const [place, id] of ids.entries()) {
    const [a, b] = [mine.get(place), theirs.get(id)];
    if (a === b) continue;
    const show = (token: string | undefined) => (token === undefined ? "no token" : quote(token));
    const fact = `token ${place} of ${model.source} is ${show(a)}, and its place ${id} in ${other.source} has ${show(b)}`;
    throw new NfcError("mismatch", fact, { hint });
  }
}
