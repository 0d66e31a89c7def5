// Counts which tokens a text is made of, and of which other tokens each of them is merged.
import { NfcError } from "../errors.ts";
import { Bpe } from "./encoding/bpe.ts";
import { cutPieces } from "./encoding/cuts.ts";
import type { Definition } from "./encoding/definition.ts";
import { Pipeline } from "./encoding/pipeline.ts";
import { WordLevel } from "./encoding/word-models.ts";
import { checkIds } from "./tokenizer.ts";

export interface TokenUse {
  /** How often each token occurs, by its id. */
  counts: ReadonlyMap<number, number>;
  /** The two tokens of which a token is merged, for all that occur or that these are merged of. */
  parts: ReadonlyMap<number, readonly [left: number, right: number]>;
  /** Ids without which some text could not be encoded: bytes or single characters, and the unknown token. */
  base: readonly number[];
  /** Characters of a token. */
  lengthOf(id: number): number;
}

/**
 * A token that occurs is merged in one way: no merge crosses its borders, so that inside them the order of merges is that
 * of the token alone.
 * @param rows tokens of the model
 * @param named further tokens, whose parts are wanted as well
 * @throws NfcError "unsupported" for a tokenizer of whole words, "mismatch" for a token that the model lacks
 */
export async function countTokenUse(
  definition: Definition,
  texts: AsyncIterable<string>,
  { rows, named }: { rows: number; named: Iterable<number> },
): Promise<TokenUse> {
  const pipeline = new Pipeline(definition);
  const { model } = pipeline;
  if (model instanceof WordLevel)
    throw new NfcError("unsupported", `${definition.file}: knows whole words only: without a word it cannot be read`, {
      hint: "leave out --vocab-from for this model",
    });
  const parts = new Map<number, readonly [number, number]>();
  if (model instanceof Bpe) model.onMerge = (left, right, result) => parts.set(result, [left, right]);
  const counts = new Map<number, number>();
  const place = { first: true, continued: false };
  for await (const piece of cutPieces(texts, pipeline))
    for (const id of checkIds(pipeline.encode(piece, place), pipeline, rows)) counts.set(id, (counts.get(id) ?? 0) + 1);
  const added = new Set(definition.added.map(({ id }) => id));
  const tokens = new Map([...definition.vocab].map(([token, id]) => [id, token]));
  if (model instanceof Bpe)
    for (const id of named) if (!added.has(id) && tokens.has(id)) model.encode(tokens.get(id) as string);
  const unknown = model instanceof Bpe ? model.unknownId : undefined;
  const base = [...model.listBaseTokens(), ...(unknown === undefined ? [] : [unknown])];
  const lengthOf = (id: number) => Array.from(tokens.get(id) ?? "").length;
  return { counts, parts, base: base.filter((id) => id < rows), lengthOf };
}
