// The Unigram model: the tokens of a word whose scores have the largest sum.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";
import { ALL_BYTES, listByteIds, refuseLongWord } from "./bpe.ts";

/** How much less likely an unknown character is than the least likely token. */
const UNKNOWN_PENALTY = 10;

interface Node {
  readonly next: Map<string, Node>;
  id?: number;
}

export class Unigram {
  private readonly vocab: ReadonlyMap<string, number>;
  private readonly scores: readonly number[];
  private readonly unknown: number | null;
  private readonly unknownScore: number;
  private readonly byteFallback: boolean;
  private readonly root: Node = { next: new Map() };
  private readonly file: string;
  private found: ReadonlySet<string> | undefined;

  constructor(model: FieldReader, vocab: ReadonlyMap<string, number>) {
    this.file = model.file;
    this.vocab = vocab;
    // The vocabulary has been checked: a list of pairs.
    const pairs = model.value("vocab") as readonly (readonly [string, number])[];
    this.scores = pairs.map(([, score]) => score);
    this.unknown = model.integer("unk_id", { min: 0, max: pairs.length - 1 }) ?? null;
    this.unknownScore =
      pairs.reduce((least, [, score]) => Math.min(least, score), Number.POSITIVE_INFINITY) - UNKNOWN_PENALTY;
    this.byteFallback = model.flag("byte_fallback") ?? false;
    for (const [token, id] of vocab) if (token !== "") this.insert(token, id);
  }

  /**
   * Tokens without which some text could not be encoded, or would be in another way: those of one byte, or else of one
   * character, the unknown one, and the least likely, by whose score an unknown character is measured.
   */
  listBaseTokens(): number[] {
    const bytes = this.byteFallback ? listByteIds(ALL_BYTES, this.vocab) : null;
    const single = [...this.vocab].filter(([token]) => Array.from(token).length === 1).map(([, id]) => id);
    const least = this.scores.reduce((best, score, id) => (score < (this.scores[best] as number) ? id : best), 0);
    return [...(bytes ?? single), ...(this.unknown === null ? [] : [this.unknown]), least];
  }

  private insert(token: string, id: number): void {
    let node = this.root;
    for (const character of token) {
      const child = node.next.get(character) ?? { next: new Map() };
      node.next.set(character, child);
      node = child;
    }
    node.id = id;
  }

  /** @throws NfcError "invalid-file" for a character that no token has, where there is no unknown token */
  encode(word: string): number[] {
    refuseLongWord(word.length, this.file);
    const characters = Array.from(word);
    const { ids, starts } = this.findBestPath(characters);
    const result: number[] = [];
    let unknownEnd = -1; // end of the unknown characters that are waiting for their start
    const flush = (start: number) => {
      if (unknownEnd < 0) return;
      const text = characters.slice(start, unknownEnd).join("");
      const bytes = this.byteFallback ? listByteIds(text, this.vocab) : null;
      for (const id of bytes?.reverse() ?? [this.vocab.get(text) ?? (this.unknown as number)]) result.push(id);
      unknownEnd = -1;
    };
    for (let end = characters.length; end > 0; end = starts[end] as number) {
      if (ids[end] === this.unknown) {
        if (unknownEnd < 0) unknownEnd = end;
        continue;
      }
      flush(end);
      result.push(ids[end] as number);
    }
    flush(0);
    return result.reverse();
  }

  /** The last token of the best path to each position, and where it starts. */
  private findBestPath(characters: readonly string[]): { ids: Int32Array; starts: Int32Array } {
    const count = characters.length;
    const best = new Float64Array(count + 1);
    const starts = new Int32Array(count + 1).fill(-1);
    const ids = new Int32Array(count + 1);
    const offer = (start: number, end: number, id: number, score: number) => {
      const sum = score + (best[start] as number);
      if (starts[end] !== -1 && sum <= (best[end] as number)) return;
      best[end] = sum;
      starts[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < count; start++) {
      let node = this.root.next.get(characters[start] as string);
      if (node?.id === undefined)
        offer(start, start + 1, this.findUnknown(characters[start] as string), this.unknownScore);
      for (let end = start + 1; node !== undefined; node = node.next.get(characters[end++] as string))
        if (node.id !== undefined) offer(start, end, node.id, this.scores[node.id] as number);
    }
    return { ids, starts };
  }

  private findUnknown(character: string): number {
    if (this.unknown !== null) return this.unknown;
    throw new NfcError("invalid-file", `${this.file}: knows no ${quote(character)} and has no unknown token`, {
      hint: "give a text of the model's language, or a tokenizer with an unk_id",
    });
  }

  /** Whether no token goes over the border between two characters, so that both sides stand alone. */
  partsAt(before: string, after: string): boolean {
    this.found ??= new Set(this.listBorders());
    return this.vocab.has(after) && !this.found.has(before + after);
  }

  private *listBorders(): Generator<string> {
    for (const token of this.vocab.keys()) {
      const characters = Array.from(token);
      for (let i = 1; i < characters.length; i++) yield `${characters[i - 1]}${characters[i]}`;
    }
  }
}
