// A tokenizer as a pipeline: added tokens, normalizer, added tokens again, words, ids of each word; and back to text.
import { NfcError } from "../../errors.ts";
import { quote } from "../fields.ts";
import { type Section, TokenFinder } from "./added-tokens.ts";
import { Bpe } from "./bpe.ts";
import { type Decoder, makeDecoder } from "./decoders.ts";
import type { AddedToken, Definition } from "./definition.ts";
import { Gpt2WordEncoder } from "./gpt2-words.ts";
import { makeNormalizer, type Normalizer } from "./normalizers.ts";
import { makePreTokenizer, type PreTokenizer } from "./pre-tokenizers.ts";
import { runLimited } from "./time-limit.ts";
import { Unigram } from "./unigram.ts";
import { WordLevel, WordPiece } from "./word-models.ts";

/** What turns a word into ids. */
type Model = Bpe | Unigram | WordLevel | WordPiece;

/** Where a piece of text stands: at the text's very start, or in the middle of a section. */
export interface Place {
  first: boolean;
  continued: boolean;
}

/** Most words whose ids are kept (16 MB of prose have some 100,000), and the longest of them. */
const MAX_WORDS = 2 ** 18;
const MAX_KEPT_LENGTH = 64;

export class Pipeline {
  readonly file: string;
  readonly added: readonly AddedToken[];
  readonly normalizer: Normalizer | null;
  readonly preTokenizer: PreTokenizer | null;
  readonly model: Model;
  /** Texts by which the tokens that are looked for after normalizing are found. */
  readonly normalizedContents: ReadonlyMap<AddedToken, string>;
  /** Whether all patterns are known to take time in proportion to the text. */
  private readonly isSafe: boolean;
  private readonly decoder: Decoder | null;
  private readonly rawFinder: TokenFinder;
  private readonly normalizedFinder: TokenFinder;
  private readonly tokens: ReadonlyMap<number, string>;
  private readonly known = new Map<string, readonly number[]>();
  private gpt2Words: Gpt2WordEncoder | undefined;

  /** @throws NfcError "invalid-file", "unsupported" */
  constructor(definition: Definition) {
    const { file, vocab, added, normalizer, preTokenizer, decoder } = definition;
    this.file = file;
    this.added = added;
    this.normalizer = normalizer && makeNormalizer(normalizer);
    this.preTokenizer = preTokenizer && makePreTokenizer(preTokenizer);
    this.decoder = decoder && makeDecoder(decoder);
    this.model = makeModel(definition);
    const patterns = [this.normalizer, this.preTokenizer, this.decoder].flatMap((part) => part?.patterns ?? []);
    this.isSafe = patterns.every(({ known }) => known);
    const raw = added.filter(({ normalized }) => !normalized);
    this.rawFinder = new TokenFinder(raw);
    const late = added.filter(({ normalized }) => normalized);
    this.normalizedContents = this.limit(
      () => new Map(late.map((token) => [token, this.normalizer?.normalize(token.content, false) ?? token.content])),
      late.reduce((sum, { content }) => sum + content.length, 0),
    );
    const textOf = (token: AddedToken) => this.normalizedContents.get(token) ?? token.content;
    this.tokens = new Map([...[...vocab].map(swap), ...added.map((token) => [token.id, textOf(token)] as const)]);
    this.normalizedFinder = new TokenFinder(late, [...this.normalizedContents.values()]);
  }

  /** One more than the largest id. */
  get size(): number {
    let largest = -1;
    for (const id of this.tokens.keys()) largest = Math.max(largest, id);
    return largest + 1;
  }

  /** Whether a piece after the first has the same ids whatever came before it, and takes time in proportion to its length. */
  get encodesAnyPlace(): boolean {
    return this.normalizer === null && this.isSafe;
  }

  findToken(id: number): string | undefined {
    return this.tokens.get(id);
  }

  /** The ids of a text, or of a piece of it at `place`, which becomes that of the next piece. */
  encode(text: string, place: Place = { first: true, continued: false }): number[] {
    return this.limit(() => this.encodeNow(text.replace(/\p{Surrogate}/gu, "\ufffd"), place), text.length);
  }

  decode(ids: readonly number[]): string {
    const tokens = ids.flatMap((id) => this.tokens.get(id) ?? []);
    if (this.decoder === null) return tokens.join(" ");
    const { decode } = this.decoder;
    return this.limit(() => decode(tokens).join(""), tokens.length);
  }

  private limit<T>(run: () => T, characters: number): T {
    return this.isSafe ? run() : runLimited(run, this.file, characters);
  }

  private encodeNow(text: string, place: Place): number[] {
    const ids: number[] = [];
    for (const section of this.rawFinder.split(text)) {
      if ("id" in section) ids.push(section.id);
      else this.encodeSection(section.text, place, ids);
      Object.assign(place, { first: false, continued: !("id" in section) });
    }
    return ids;
  }

  private encodeSection(text: string, place: Place, ids: number[]): void {
    const normalized = this.normalizer?.normalize(text, place.continued) ?? text;
    const sections: readonly Section[] = this.normalizedFinder.split(normalized);
    for (const [i, section] of sections.entries()) {
      if ("id" in section) ids.push(section.id);
      else this.encodeWords(section.text, place.first && i === 0, ids);
    }
  }

  private encodeWords(text: string, first: boolean, ids: number[]): void {
    const { beginGpt2Words } = this.preTokenizer ?? {};
    if (beginGpt2Words) {
      this.gpt2Words ??= new Gpt2WordEncoder((word) => this.encodeNewWord(word));
      this.gpt2Words.encode(beginGpt2Words(text), ids);
      return;
    }
    const words = this.preTokenizer?.split([text], first) ?? [text];
    for (const word of words) for (const id of this.encodeWord(word)) ids.push(id);
  }

  private encodeWord(word: string): readonly number[] {
    const known = this.known.get(word);
    if (known) return known;
    const ids = this.encodeNewWord(word);
    if (word.length <= MAX_KEPT_LENGTH && this.known.size < MAX_WORDS) this.known.set(word, ids);
    return ids;
  }

  private encodeNewWord(word: string): readonly number[] {
    return this.model.encode(this.preTokenizer?.finish?.(word) ?? word);
  }
}

const swap = ([token, id]: readonly [string, number]) => [id, token] as const;

/** The kinds of models by their names; files of before 2021 do not name theirs. */
function makeModel({ model, vocab, file }: Definition): Model {
  const type = model.text("type") ?? guessType(model.raw);
  if ((type === "Unigram") !== Array.isArray(model.value("vocab")))
    throw model.wrong("vocab", `the vocabulary of a model of type ${quote(type)}`);
  if (type === "BPE") return new Bpe(model, vocab);
  if (type === "WordPiece") return new WordPiece(model, vocab);
  if (type === "WordLevel") return new WordLevel(model, vocab);
  if (type === "Unigram") return new Unigram(model, vocab);
  throw new NfcError("unsupported", `${file}: the model type ${quote(type)} is not supported`, {
    hint: "BPE, WordPiece, WordLevel and Unigram are",
  });
}

function guessType(model: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(model.vocab)) return "Unigram";
  if ("merges" in model) return "BPE";
  return "continuing_subword_prefix" in model ? "WordPiece" : "WordLevel";
}
