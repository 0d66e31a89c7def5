// Chooses the tokens that a smaller vocabulary keeps.
import type { ModelFiles } from "../../checkpoint/collect-files.ts";
import type { TokenUse } from "../../checkpoint/token-use.ts";
import type { TokenizerJson } from "../../checkpoint/tokenizer-json.ts";
import { Heap } from "../../numeric/heap.ts";

export interface VocabularySettings {
  /** Files of text whose tokens are kept. */
  text: readonly [string, ...string[]];
  /** Field of .jsonl lines that holds the text. */
  field?: string | undefined;
  /** Tokens to keep at most: a number of them from 1, or a share of the vocabulary below 1; all that are used unless given. */
  size?: number | undefined;
  /** What the text uses, where it has been counted. @internal */
  counted?: CountedVocabulary | undefined;
}

/** What a text uses of a model's tokens, and what the model needs of them whatever the text. */
export interface CountedVocabulary {
  /** Files beside the weights, with a tokenizer.json among them. */
  files: ModelFiles;
  tokenizer: TokenizerJson;
  use: TokenUse;
  /** Tokens that stay in any case: single bytes or characters, added ones, and those that a configuration names. */
  required: ReadonlySet<number>;
  /** How many stay where all are kept that the text uses, and how many at least. */
  used: number;
  least: number;
  /** One line for each file that goes with no model. */
  notes: readonly string[];
}

/**
 * The tokens that a text uses, those that they are merged of, and those that must stay. Where these are more than `limit`,
 * tokens go one by one: next is always the one without which the text gets longer by the fewest tokens.
 * @param required ids that stay in any case, those of `use.base` among them
 * @returns ids; more than `limit` of them where more must stay
 */
export function chooseTokens(use: TokenUse, required: ReadonlySet<number>, limit: number): Set<number> {
  const kept = closeOverParts([...required, ...use.counts.keys()], use);
  const fixed = closeOverParts(required, use);
  if (kept.size > limit) dropLeastUseful(kept, fixed, use, limit);
  return kept;
}

/** The tokens, and all that they are merged of. */
export function closeOverParts(ids: Iterable<number>, { parts }: Pick<TokenUse, "parts">): Set<number> {
  const kept = new Set<number>();
  const waiting = [...ids];
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (kept.has(id)) continue;
    kept.add(id);
    for (const part of parts.get(id) ?? []) waiting.push(part);
  }
  return kept;
}

/**
 * A token that others are merged of goes after these. One that goes leaves its two parts in its place, so that the text
 * gets longer by one token for each time that it occurs; a token without parts leaves its characters.
 */
function dropLeastUseful(kept: Set<number>, fixed: ReadonlySet<number>, use: TokenUse, limit: number): void {
  const counts = new Map(use.counts);
  const dependents = new Map<number, number>(); // kept tokens that a token is part of
  for (const id of kept)
    for (const part of use.parts.get(id) ?? []) dependents.set(part, (dependents.get(part) ?? 0) + 1);
  const order = [...kept].sort((a, b) => b - a); // of equally useful ones the last goes first
  const places = new Map(order.map((id, place) => [id, place]));
  const heap = new Heap();
  const offer = (id: number) => {
    if (fixed.has(id) || (dependents.get(id) ?? 0) > 0) return;
    const lost = (counts.get(id) ?? 0) * (use.parts.has(id) ? 1 : Math.max(0, use.lengthOf(id) - 1));
    heap.push(lost * order.length + (places.get(id) as number));
  };
  for (const id of kept) offer(id);
  const size = order.length;
  for (let top = heap.pop(); top !== undefined && kept.size > limit; top = heap.pop()) {
    const id = order[top % size] as number;
    kept.delete(id);
    const count = counts.get(id) ?? 0;
    for (const part of use.parts.get(id) ?? []) {
      counts.set(part, (counts.get(part) ?? 0) + count);
      dependents.set(part, (dependents.get(part) ?? 0) - 1);
      offer(part);
    }
  }
}
