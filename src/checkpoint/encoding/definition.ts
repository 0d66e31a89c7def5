// Checks the content of a tokenizer.json before anything is built from it: every token a string, every id one integer.
import { NfcError } from "../../errors.ts";
import { FieldReader, isJsonObject, quote } from "../fields.ts";

/** Ids lie below it: no vocabulary has more than some hundred thousand tokens. */
const MAX_TOKENS = 2 ** 24;

/** A token that is found in the text itself, before it is cut into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** It counts only where no letter, mark, digit or underscore touches it. */
  readonly single_word: boolean;
  /** It takes the white space before it, or after it, with it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** It is looked for after the text has been normalized. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** The content of a tokenizer.json with checked ids. */
export interface Definition {
  /** The file that it came from, for messages. */
  readonly file: string;
  readonly model: FieldReader;
  readonly vocab: ReadonlyMap<string, number>;
  readonly added: readonly AddedToken[];
  readonly normalizer: FieldReader | null;
  readonly preTokenizer: FieldReader | null;
  readonly decoder: FieldReader | null;
}

/** @throws NfcError "invalid-file" naming the file and the token or key */
export function checkDefinition(json: unknown, file: string): Definition {
  const fields = new FieldReader(json, file);
  const model = readPart(fields, "model");
  if (model === null) throw fields.wrong("model", "an object with a vocabulary");
  const vocab = readVocabulary(model, file);
  return {
    file,
    model,
    vocab,
    added: readAddedTokens(fields, vocab),
    normalizer: readPart(fields, "normalizer"),
    preTokenizer: readPart(fields, "pre_tokenizer"),
    decoder: readPart(fields, "decoder"),
  };
}

/** An object of the definition, whose messages name the file and its key. */
function readPart(fields: FieldReader, key: string): FieldReader | null {
  const value = fields.value(key);
  if (value === undefined) return null;
  if (!isJsonObject(value)) throw fields.wrong(key, "an object");
  return new FieldReader(value, fields.file);
}

/** The objects of a list of the definition. */
export function readParts(fields: FieldReader, key: string): FieldReader[] {
  const value = fields.value(key) ?? [];
  if (!Array.isArray(value)) throw fields.wrong(key, "a list");
  return value.map((part) => new FieldReader(part, fields.file));
}

function readVocabulary(model: FieldReader, file: string): Map<string, number> {
  const value = model.value("vocab");
  if (Array.isArray(value)) return readUnigramVocabulary(value, model, file);
  if (!isJsonObject(value)) throw model.wrong("vocab", "an object of tokens and their ids");
  return checkVocabulary(value, file);
}

/** The tokens of a JSON object and their ids. @throws NfcError "invalid-file" */
export function checkVocabulary(value: Readonly<Record<string, unknown>>, file: string): Map<string, number> {
  const vocab = new Map<string, number>();
  const tokens = new Map<number, string>();
  for (const [token, raw] of Object.entries(value)) {
    const id = checkId(raw, token, file);
    const other = tokens.get(id);
    if (other !== undefined) throw makeDuplicateError(file, other, token, id);
    vocab.set(token, id);
    tokens.set(id, token);
  }
  return vocab;
}

/** A Unigram vocabulary is a list of [token, score]; a token's place is its id. */
function readUnigramVocabulary(value: readonly unknown[], model: FieldReader, file: string): Map<string, number> {
  const vocab = new Map<string, number>();
  if (value.length > MAX_TOKENS) throw model.wrong("vocab", `at most ${MAX_TOKENS} tokens`);
  for (const [id, entry] of value.entries()) {
    const [token, score] = Array.isArray(entry) ? entry : [];
    if (typeof token !== "string" || typeof score !== "number" || !Number.isFinite(score))
      throw new NfcError("invalid-file", `${file}: token ${id} is ${quote(entry)}, expected [token, score]`);
    vocab.set(token, id);
  }
  return vocab;
}

/** @throws NfcError "invalid-file" for anything but an integer from 0 on */
export function checkId(id: unknown, token: string, file: string): number {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < MAX_TOKENS) return id;
  throw new NfcError("invalid-file", `${file}: the id of token ${quote(token)} is ${quote(id)}`, {
    hint: `a token's id is an integer from 0 to ${MAX_TOKENS - 1}`,
  });
}

function makeDuplicateError(file: string, one: string, other: string, id: number): NfcError {
  return new NfcError("invalid-file", `${file}: tokens ${quote(one)} and ${quote(other)} have one id, ${id}`, {
    hint: "give each token its own id, that of its row in the model",
  });
}

function readAddedTokens(fields: FieldReader, vocab: ReadonlyMap<string, number>): AddedToken[] {
  const added = new AddedTokens(vocab, fields.file);
  for (const entry of readParts(fields, "added_tokens")) {
    const content = entry.text("content");
    if (content === undefined) throw entry.wrong("content", "the token of an added token");
    added.add(readFlags(content, entry.raw, fields.file), checkId(entry.raw.id, content, fields.file));
  }
  return added.list();
}

/** An added token without its id. */
export type TokenFlags = Omit<AddedToken, "id">;

/** The flags of an added token in JSON; those that are not there are what Hugging Face's library takes. */
export function readFlags(content: string, raw: unknown, file: string, special = false): TokenFlags {
  const fields = new FieldReader(raw, file);
  const isSpecial = fields.flag("special") ?? special;
  return {
    content,
    single_word: fields.flag("single_word") ?? false,
    lstrip: fields.flag("lstrip") ?? false,
    rstrip: fields.flag("rstrip") ?? false,
    normalized: fields.flag("normalized") ?? !isSpecial,
    special: isSpecial,
  };
}

/**
 * Gives added tokens their ids as Hugging Face's library does: that of the vocabulary, else the next one. A file that
 * says another id would be read differently by different programs, and is refused.
 */
export class AddedTokens {
  private readonly vocab: ReadonlyMap<string, number>;
  private readonly file: string;
  private readonly byContent = new Map<string, AddedToken>();
  /** The tokens that have ids, by these. */
  private readonly taken = new Map<number, string>();
  private next: number;

  constructor(vocab: ReadonlyMap<string, number>, file: string, present: readonly AddedToken[] = []) {
    this.vocab = vocab;
    this.file = file;
    for (const [token, id] of vocab) this.taken.set(id, token);
    this.next = vocab.size;
    for (const token of present) this.add(token, token.id);
  }

  has(content: string): boolean {
    return this.byContent.has(content);
  }

  list(): AddedToken[] {
    return [...this.byContent.values()];
  }

  /** @param id the token's id in the file, where the file says one */
  add(token: TokenFlags, id?: number, file = this.file): void {
    if (token.content === "") return;
    const own = this.byContent.get(token.content)?.id ?? this.vocab.get(token.content) ?? this.next;
    const other = this.taken.get(own);
    // The next id counts the tokens: another one has it where the ids of the vocabulary have a gap.
    if (other !== undefined && other !== token.content) throw makeDuplicateError(file, other, token.content, own);
    if (id !== undefined && id !== own)
      throw new NfcError("invalid-file", `${file}: token ${quote(token.content)} has id ${id}, expected ${own}`, {
        hint: "added tokens have the ids of the vocabulary, or those that follow it without a gap",
      });
    this.byContent.set(token.content, { ...token, id: own });
    this.taken.set(own, token.content);
    if (own >= this.next) this.next = own + 1;
  }
}
