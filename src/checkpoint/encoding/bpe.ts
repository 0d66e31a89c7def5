// Byte pair encoding: the characters of a word, merged by rank.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";
import { type MergeListener, Merges } from "./merges.ts";

/** Symbols of the longest word: merging takes some 100 bytes and two microseconds for each. */
const MAX_WORD_SYMBOLS = 2 ** 20;

interface BpeOptions {
  readonly unknown: string | undefined;
  readonly fuse: boolean;
  readonly byteFallback: boolean;
  readonly ignoreMerges: boolean;
  readonly prefix: string;
  readonly suffix: string;
}

export class Bpe {
  /** Told of every merge, where it is set. */
  onMerge: MergeListener | undefined;
  private readonly vocab: ReadonlyMap<string, number>;
  private readonly merges: Merges;
  private readonly options: BpeOptions;
  private readonly file: string;

  /** @throws NfcError "invalid-file" for merges of tokens that are not there */
  constructor(model: FieldReader, vocab: ReadonlyMap<string, number>) {
    const dropout = model.number("dropout", { min: 0, max: 1 }) ?? 0;
    if (dropout > 0)
      throw new NfcError("unsupported", `${model.file}: dropout ${dropout} makes ids random`, {
        hint: "set the tokenizer's dropout to null",
      });
    this.file = model.file;
    this.vocab = vocab;
    this.options = {
      unknown: model.text("unk_token"),
      fuse: model.flag("fuse_unk") ?? false,
      byteFallback: model.flag("byte_fallback") ?? false,
      ignoreMerges: model.flag("ignore_merges") ?? false,
      prefix: model.text("continuing_subword_prefix") ?? "",
      suffix: model.text("end_of_word_suffix") ?? "",
    };
    this.merges = readMerges(model, vocab, this.options.prefix.length);
  }

  /** The ids of a word. Characters that the vocabulary lacks become the unknown token, or nothing where there is none. */
  encode(word: string): number[] {
    const whole = this.options.ignoreMerges ? this.vocab.get(word) : undefined;
    if (whole !== undefined) return [whole];
    refuseLongWord(word.length, this.file);
    const ids = this.listSymbols(word);
    return ids.length < 2 ? ids : this.merges.merge(ids, this.onMerge);
  }

  /** Whether no merge goes over the border between two characters inside a word, so that both sides stand alone. */
  partsAt(before: string, after: string): boolean {
    const { prefix, suffix, ignoreMerges } = this.options;
    if (prefix !== "" || suffix !== "" || ignoreMerges) return false;
    return this.vocab.has(before) && this.vocab.has(after) && !this.borders.has(before + after);
  }

  /** The last and first characters of the two sides of each merge. */
  private get borders(): ReadonlySet<string> {
    this.found ??= new Set(this.listBorders());
    return this.found;
  }
  private found: ReadonlySet<string> | undefined;

  private *listBorders(): Generator<string> {
    const tokens = new Map([...this.vocab].map(([token, id]) => [id, token]));
    for (const [left, right] of this.merges.listPairs())
      yield `${Array.from(tokens.get(left) as string).at(-1)}${Array.from(tokens.get(right) as string)[0]}`;
  }

  /** Tokens that words begin as, before anything is merged: those of one character, or of one byte. */
  listBaseTokens(): number[] {
    const { byteFallback, prefix, suffix } = this.options;
    const bytes = byteFallback ? listByteIds(ALL_BYTES, this.vocab) : null;
    const isSymbol = (token: string) => {
      const start = prefix !== "" && token.startsWith(prefix) ? prefix.length : 0;
      const end = suffix !== "" && token.endsWith(suffix) ? token.length - suffix.length : token.length;
      return Array.from(token.slice(start, end)).length === 1;
    };
    return bytes ?? [...this.vocab].filter(([token]) => isSymbol(token)).map(([, id]) => id);
  }

  /** The token of what is unknown; undefined where there is none. */
  get unknownId(): number | undefined {
    return this.options.unknown === undefined ? undefined : this.vocab.get(this.options.unknown);
  }

  private listSymbols(word: string): number[] {
    const { unknown, fuse, byteFallback, prefix, suffix } = this.options;
    const ids: number[] = [];
    let waiting = 0; // unknown tokens that come before the next known one
    let at = 0;
    for (const character of word) {
      const start = at === 0 ? "" : prefix;
      at += character.length;
      const symbol = start + character + (at === word.length ? suffix : "");
      const id = this.vocab.get(symbol);
      if (id !== undefined) {
        if (waiting > 0) ids.push(this.findUnknown());
        waiting = 0;
        ids.push(id);
        continue;
      }
      const bytes = byteFallback ? listByteIds(symbol, this.vocab) : null;
      if (bytes) ids.push(...bytes);
      else if (unknown !== undefined) {
        if (waiting > 0 && !fuse) ids.push(this.findUnknown());
        waiting = 1;
      }
    }
    if (waiting > 0) ids.push(this.findUnknown());
    return ids;
  }

  /** The id of the unknown token. @throws NfcError "invalid-file" where the vocabulary lacks it */
  private findUnknown(): number {
    const { unknown = "" } = this.options;
    const id = this.vocab.get(unknown);
    if (id !== undefined) return id;
    throw new NfcError("invalid-file", `${this.file}: the unknown token ${quote(unknown)} is not in the vocabulary`, {
      hint: "add it to the vocabulary, or set unk_token to a token that is there",
    });
  }
}

/** @throws NfcError "unsupported" for a word of more symbols than fit into memory */
export function refuseLongWord(count: number, file: string): void {
  if (count <= MAX_WORD_SYMBOLS) return;
  throw new NfcError("unsupported", `a word of ${count} characters, at most ${MAX_WORD_SYMBOLS} can be encoded`, {
    hint: `put spaces or line breaks into the text: it has none where ${file} could cut it`,
  });
}

/** Every byte there is. */
export const ALL_BYTES = Uint8Array.from({ length: 256 }, (_, byte) => byte);

/** The ids of the tokens <0x00> to <0xFF> for a text's bytes; null where one is missing. */
export function listByteIds(text: string | Uint8Array, vocab: ReadonlyMap<string, number>): number[] | null {
  const ids: number[] = [];
  for (const byte of typeof text === "string" ? Buffer.from(text, "utf8") : text) {
    const id = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) return null;
    ids.push(id);
  }
  return ids;
}

function readMerges(model: FieldReader, vocab: ReadonlyMap<string, number>, prefix: number): Merges {
  const value = model.value("merges") ?? [];
  if (!Array.isArray(value)) throw model.wrong("merges", "a list of pairs");
  const merges = new Merges(value.length);
  for (const [rank, raw] of value.entries()) {
    const pair: unknown[] = Array.isArray(raw) ? raw : typeof raw === "string" ? raw.split(" ") : [];
    const [left, right] = pair;
    if (typeof left !== "string" || typeof right !== "string" || pair.length !== 2)
      throw new NfcError("invalid-file", `${model.file}: merge ${rank} is ${quote(raw)}, expected a pair of tokens`);
    const find = (token: string) => {
      const id = vocab.get(token);
      if (id !== undefined) return id;
      const fact = `merge ${rank} needs the token ${quote(token)}, which the vocabulary lacks`;
      throw new NfcError("invalid-file", `${model.file}: ${fact}`);
    };
    merges.add(find(left), find(right), rank, find(left + right.slice(prefix)));
  }
  return merges;
}
