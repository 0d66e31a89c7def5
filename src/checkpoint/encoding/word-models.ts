// The models that know whole words: WordLevel, and WordPiece, which also knows their parts.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";

export class WordLevel {
  private readonly vocab: ReadonlyMap<string, number>;
  private readonly unknown: string;
  private readonly file: string;

  constructor(model: FieldReader, vocab: ReadonlyMap<string, number>) {
    this.vocab = vocab;
    this.unknown = model.text("unk_token") ?? "<unk>";
    this.file = model.file;
  }

  /** @throws NfcError "mismatch" for an unknown word where the vocabulary has no unknown token */
  encode(word: string): number[] {
    return [this.vocab.get(word) ?? requireUnknown(this.vocab, this.unknown, { word, file: this.file })];
  }

  partsAt(): boolean {
    return false;
  }
}

export class WordPiece {
  private readonly vocab: ReadonlyMap<string, number>;
  private readonly unknown: string;
  private readonly prefix: string;
  private readonly longest: number;
  private readonly file: string;

  constructor(model: FieldReader, vocab: ReadonlyMap<string, number>) {
    this.vocab = vocab;
    this.unknown = model.text("unk_token") ?? "[UNK]";
    this.prefix = model.text("continuing_subword_prefix") ?? "##";
    this.longest = model.integer("max_input_chars_per_word", { min: 0, max: 2 ** 20 }) ?? 100;
    this.file = model.file;
  }

  /** The longest tokens from the left; a word that they do not cover is one unknown token. */
  encode(word: string): number[] {
    // A character has at most two units: a long word is not taken apart to be counted.
    const characters = word.length > 2 * this.longest ? null : Array.from(word);
    const ids = characters === null || characters.length > this.longest ? null : this.listPieces(characters);
    return ids ?? [requireUnknown(this.vocab, this.unknown, { word, file: this.file })];
  }

  /** The unknown token, and the tokens of one character, at the start of a word and after it. @throws NfcError "mismatch" */
  listBaseTokens(): number[] {
    const isOne = (token: string) => {
      const start = this.prefix !== "" && token.startsWith(this.prefix) ? this.prefix.length : 0;
      return Array.from(token.slice(start)).length === 1;
    };
    const single = [...this.vocab].filter(([token]) => isOne(token)).map(([, id]) => id);
    return [...single, requireUnknown(this.vocab, this.unknown, { word: "", file: this.file })];
  }

  private listPieces(characters: readonly string[]): number[] | null {
    const ids: number[] = [];
    let start = 0;
    while (start < characters.length) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        id = this.vocab.get((start > 0 ? this.prefix : "") + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return null;
      ids.push(id);
      start = end;
    }
    return ids;
  }

  partsAt(): boolean {
    return false;
  }
}

/** The id of the unknown token. @throws NfcError "mismatch" where the vocabulary lacks it */
function requireUnknown(
  vocab: ReadonlyMap<string, number>,
  unknown: string,
  { word, file }: { word: string; file: string },
): number {
  const id = vocab.get(unknown);
  if (id !== undefined) return id;
  throw new NfcError("mismatch", `${file}: knows neither ${quote(word)} nor the unknown token ${quote(unknown)}`, {
    hint: "give a text of the tokenizer's words, or a tokenizer with an unknown token",
  });
}
