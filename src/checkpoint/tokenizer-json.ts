// Makes the content of a tokenizer.json from GPT-2's older files: vocab.json, merges.txt, and those that add tokens.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { MAX_VOCAB } from "../model/config.ts";
import { readCompanion, readCompanionJson } from "./companion-files.ts";
import { FieldReader, isJsonObject, quote } from "./fields.ts";

export const END_OF_TEXT = "<|endoftext|>";
/** GPT-2's own merges, from which its whole vocabulary follows. */
export const GPT2_MERGES = fileURLToPath(new URL("../../assets/gpt2-merges.txt", import.meta.url));

/** A token beside the vocabulary's, or one of it that is found anywhere in a text; keys are those of tokenizer.json. */
export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

/** The parts of a byte-level BPE, as GPT-2's. */
interface ByteLevelParts {
  vocab: Record<string, number>;
  /** The content of merges.txt. */
  mergesText: string;
  addedTokens: readonly AddedToken[];
  addPrefixSpace?: boolean | undefined;
}

/** The pairs of a merges.txt, the first to merge first. */
function listMerges(mergesText: string): string[] {
  return mergesText.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"));
}

/** The content of a tokenizer.json for GPT-2's older pair of files. */
function makeByteLevelBpe({ vocab, mergesText, addedTokens, addPrefixSpace = false }: ByteLevelParts): object {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [...addedTokens].sort((a, b) => a.id - b.id),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      vocab,
      merges: listMerges(mergesText),
    },
  };
}

/**
 * The content of a tokenizer.json for a folder with vocab.json and merges.txt; null where one of them is missing. Tokens
 * are added, and become special, by the rules of transformers.
 * @throws NfcError "invalid-file" for what is no vocabulary, and for an id that is none
 */
export async function readByteLevelBpe(folder: string): Promise<object | null> {
  const raw = await readCompanionJson(folder, "vocab.json");
  const merges = await readCompanion(folder, "merges.txt");
  if (raw === undefined || merges === null) return null;
  const fields = new FieldReader(raw, join(folder, "vocab.json"));
  for (const [token, id] of Object.entries(fields.raw)) checkTokenId(id, token, fields.file);
  const vocab = fields.raw as Record<string, number>;
  const settings = await readTokenizerSettings(folder);
  const addPrefixSpace = settings.config.flag("add_prefix_space") ?? false;
  const addedTokens = listAddedTokens(settings, vocab);
  return makeByteLevelBpe({ vocab, mergesText: merges.toString("utf8"), addedTokens, addPrefixSpace });
}

/** The content of GPT-2's own tokenizer.json. */
export async function readGpt2Definition(): Promise<object> {
  const mergesText = await withIoErrors(GPT2_MERGES, () => readFile(GPT2_MERGES, "utf8"));
  const tokens = listGpt2Tokens(mergesText);
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const end = { ...PLAIN, id: tokens.length - 1, content: END_OF_TEXT, special: true };
  return makeByteLevelBpe({ vocab, mergesText, addedTokens: [end] });
}

/**
 * GPT-2's tokens by their ids, in the alphabet of its merges.txt: a character for each byte (the printable bytes
 * themselves, then U+0100 on for the others), what each merge makes, and the end of a text.
 */
function listGpt2Tokens(mergesText: string): string[] {
  const codes = [...range(33, 127), ...range(161, 173), ...range(174, 256), ...range(256, 324)];
  const made = listMerges(mergesText).map((pair) => pair.replace(" ", ""));
  return [...codes.map((code) => String.fromCodePoint(code)), ...made, END_OF_TEXT];
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** The files beside a vocabulary that add tokens to it or make some of its own special. */
export interface TokenizerSettings {
  /** tokenizer_config.json; empty where there is none. */
  config: FieldReader;
  /** special_tokens_map.json. */
  special: FieldReader;
  /** added_tokens.json. */
  added: FieldReader;
}

/** @throws NfcError "invalid-file" for one that is no JSON object */
export async function readTokenizerSettings(folder: string): Promise<TokenizerSettings> {
  const read = async (name: string) =>
    new FieldReader((await readCompanionJson(folder, name)) ?? {}, join(folder, name));
  return {
    config: await read("tokenizer_config.json"),
    special: await read("special_tokens_map.json"),
    added: await read("added_tokens.json"),
  };
}

/** The id of a token in a file. @throws NfcError "invalid-file" where it is none */
export function checkTokenId(id: unknown, token: string, file: string): number {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < MAX_VOCAB) return id;
  throw new NfcError("invalid-file", `${file}: ${quote(token)} has the id ${quote(id)}, expected a token id`);
}

/**
 * The tokens that the settings add to `vocab`, with the ids that transformers gives them: added_tokens_decoder counts
 * alone where it is there; a special token that is nowhere else comes after all others.
 */
export function listAddedTokens(settings: TokenizerSettings, vocab: Readonly<Record<string, number>>): AddedToken[] {
  const { config, special, added } = settings;
  const decoder = config.value("added_tokens_decoder");
  const own = isJsonObject(decoder);
  const named = listSpecialTokens(own ? config.raw : { ...config.raw, ...special.raw });
  const tokens = new Map<string, AddedToken>();
  const add = (id: number, token: object) => {
    const { content = "", special: marked } = token as Partial<AddedToken>;
    const special = marked === true || named.has(content);
    tokens.set(content, { ...PLAIN, normalized: !special, ...token, content, special, id });
  };
  if (own) {
    for (const [id, token] of Object.entries(decoder)) add(checkDecoderEntry(config, id, token), token as object);
  } else for (const [content, id] of Object.entries(added.raw)) add(checkTokenId(id, content, added.file), { content });
  let next = countIds([...Object.values(vocab), ...[...tokens.values()].map(({ id }) => id)]);
  for (const [content, token] of named) {
    if (tokens.has(content)) continue;
    const known = Object.hasOwn(vocab, content) ? vocab[content] : undefined;
    if (known === undefined && token === DEFAULT) continue;
    add(known ?? next++, { ...token, content, special: true });
  }
  return [...tokens.values()];
}

const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false };

/** Marks the special tokens that no file names: those of GPT2Tokenizer's own defaults. */
const DEFAULT = {};

function checkDecoderEntry(config: FieldReader, id: string, token: unknown): number {
  const number = Number(id);
  const fits = /^\d+$/.test(id) && number < MAX_VOCAB && isJsonObject(token) && typeof token.content === "string";
  if (fits) return number;
  throw config.wrong("added_tokens_decoder", "tokens by their ids");
}

/** One more than the largest id. */
export function countIds(ids: readonly number[]): number {
  return ids.reduce((most, id) => Math.max(most, id + 1), 0);
}

/** Special tokens in the order in which transformers adds them: the named ones of every model, the model's own, the others. */
const NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** The special tokens that settings name, with what they say of each. */
function listSpecialTokens(settings: Record<string, unknown>): Map<string, object> {
  const tokens = new Map<string, object>();
  const add = (value: unknown) => {
    const token = typeof value === "string" ? { content: value } : value;
    if (!isJsonObject(token) || typeof token.content !== "string" || token.content === "") return;
    const { __type: _, ...properties } = token;
    if (!tokens.has(token.content)) tokens.set(token.content, properties);
  };
  for (const name of NAMES) add(settings[name]);
  for (const name of Object.keys(settings)) if (name.endsWith("_token") && !NAMES.includes(name)) add(settings[name]);
  const extra = settings.extra_special_tokens ?? settings.additional_special_tokens;
  if (typeof extra === "object" && extra !== null) for (const token of Object.values(extra)) add(token);
  if (!NAMES.slice(0, 3).every((name) => Object.hasOwn(settings, name)) && !tokens.has(END_OF_TEXT))
    tokens.set(END_OF_TEXT, DEFAULT);
  return tokens;
}
