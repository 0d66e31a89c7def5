// Puts the files that make up a tokenizer together as one tokenizer.json, as transformers does.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withIoErrors } from "../io/io-error.ts";
import { readCompanion, readCompanionJson } from "./companion-files.ts";
import { BYTE_ALPHABET } from "./encoding/bytes.ts";
import {
  type AddedToken,
  AddedTokens,
  checkDefinition,
  checkId,
  type Definition,
  readFlags,
  type TokenFlags,
} from "./encoding/definition.ts";
import { FieldReader, isJsonObject } from "./fields.ts";

export const END_OF_TEXT = "<|endoftext|>";
/** GPT-2's own merges, from which its whole vocabulary follows. */
const GPT2_MERGES = fileURLToPath(new URL("../../assets/gpt2-merges.txt", import.meta.url));

/** The content of a tokenizer.json, and the file that it is from. */
export interface TokenizerJson {
  json: Record<string, unknown>;
  /** The same, checked. */
  definition: Definition;
}

/** The fields of a JSON file beside a model; undefined where it is not there. @throws NfcError as `readCompanionJson` */
export async function readFields(folder: string, name: string): Promise<FieldReader | undefined> {
  const value = await readCompanionJson(folder, name);
  return value === undefined ? undefined : new FieldReader(value, join(folder, name));
}

/**
 * The tokenizer of a folder: tokenizer.json, else vocab.json with merges.txt, and the added tokens of the files beside
 * them; null where there is none.
 * @throws NfcError "invalid-file" naming the file and the token or key
 */
export async function readTokenizerJson(folder: string): Promise<TokenizerJson | null> {
  const whole = await readFields(folder, "tokenizer.json");
  const base = whole ?? (await readVocabAndMerges(folder));
  if (base === null) return null;
  const json: Record<string, unknown> = { ...base.raw };
  const config = await readFields(folder, "tokenizer_config.json");
  const prefix = config?.flag("add_prefix_space");
  if (prefix !== undefined && (!whole || /^GPT2Tokenizer(Fast)?$/.test(config?.text("tokenizer_class") ?? "")))
    json.pre_tokenizer = setPrefixSpace(json.pre_tokenizer, prefix);
  const checked = checkDefinition(json, base.file);
  const added = await readAddedTokens(folder, checked, { config, isGpt2: !whole });
  return { json: { ...json, added_tokens: added }, definition: { ...checked, added } };
}

interface ExtraOptions {
  config?: FieldReader | undefined;
  isGpt2?: boolean | undefined;
}

/**
 * The added tokens of a vocabulary: its own, and those of the files beside it.
 * @param options `config` is tokenizer_config.json; `isGpt2` says that the class is GPT-2's, with special tokens of its own
 * @throws NfcError "invalid-file" naming the file and the token or key
 */
export async function readAddedTokens(
  folder: string,
  { file, vocab, added }: Pick<Definition, "file" | "vocab" | "added">,
  options: ExtraOptions = {},
): Promise<AddedToken[]> {
  const tokens = new AddedTokens(vocab, file, added);
  const extras = await readExtraTokens(folder, options);
  const missing = new Set(extras.filter(({ token }) => !tokens.has(token.content)).map(({ token }) => token.content));
  for (const { token, id, source, isNamed } of extras) {
    if (!isNamed) missing.delete(token.content);
    if (!isNamed || missing.has(token.content)) tokens.add(token, id, source);
  }
  return tokens.list().sort((a, b) => a.id - b.id);
}

async function readVocabAndMerges(folder: string): Promise<FieldReader | null> {
  const vocab = await readFields(folder, "vocab.json");
  const merges = await readCompanion(folder, "merges.txt");
  if (vocab === undefined || merges === null) return null;
  return new FieldReader(makeByteLevelBpe(vocab.raw, merges.toString("utf8")), vocab.file);
}

/** GPT-2's own tokenizer. */
export async function readGpt2Json(): Promise<TokenizerJson> {
  const merges = await withIoErrors(GPT2_MERGES, () => readFile(GPT2_MERGES, "utf8"));
  const tokens = listGpt2Tokens(merges);
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const end = { ...readFlags(END_OF_TEXT, { special: true }, GPT2_MERGES), id: tokens.length - 1 };
  const json = { ...makeByteLevelBpe(vocab, merges), added_tokens: [end] };
  return { json, definition: checkDefinition(json, GPT2_MERGES) };
}

/**
 * GPT-2's tokens by their ids, in the alphabet of its merges.txt: a character for each byte, what each merge makes, and
 * the end of a text.
 */
function listGpt2Tokens(mergesText: string): string[] {
  const made = listMerges(mergesText).map((pair) => pair.replace(" ", ""));
  return [...BYTE_ALPHABET, ...made, END_OF_TEXT];
}

/** The pairs of a merges.txt, the first to merge first. */
function listMerges(mergesText: string): string[] {
  return mergesText.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"));
}

/** Makes the content of a tokenizer.json from GPT-2's older pair of files. */
function makeByteLevelBpe(vocab: Readonly<Record<string, unknown>>, mergesText: string): Record<string, unknown> {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: listMerges(mergesText),
    },
  };
}

function setPrefixSpace(preTokenizer: unknown, add_prefix_space: boolean): unknown {
  if (!isJsonObject(preTokenizer) || preTokenizer.type !== "ByteLevel") return preTokenizer;
  return { ...preTokenizer, add_prefix_space };
}

/** A token of the files beside the vocabulary. */
interface ExtraToken {
  token: TokenFlags;
  /** Its id, where the file says one. */
  id?: number | undefined;
  /** The file that has it. */
  source: string;
  /** It is only named (as the end of a text, say), and added only where it is missing. */
  isNamed: boolean;
}

/** The keys of special tokens, in the order in which transformers adds them; a model's own (image_token) follow. */
const NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/** GPT-2's special tokens unless the files name others. */
const GPT2_NAMED = { bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, unk_token: END_OF_TEXT };

/**
 * The tokens that the files beside a vocabulary add: `added_tokens_decoder` of tokenizer_config.json, or without it
 * added_tokens.json and special_tokens_map.json; then the special tokens that they name.
 */
async function readExtraTokens(folder: string, { config, isGpt2 = false }: ExtraOptions): Promise<ExtraToken[]> {
  const sources: FieldReader[] = [];
  if (isGpt2) sources.push(new FieldReader(GPT2_NAMED, join(folder, "vocab.json")));
  if (config) sources.push(config);
  const decoder = config?.value("added_tokens_decoder");
  if (config && decoder !== undefined) {
    if (!isJsonObject(decoder)) throw config.wrong("added_tokens_decoder", "an object");
    const named = listNamed(sources);
    return [...listDecoder(decoder, config.file, new Set(named.map(({ token }) => token.content))), ...named];
  }
  const map = await readFields(folder, "special_tokens_map.json");
  if (map) sources.push(map);
  const named = listNamed(sources);
  const added = await readFields(folder, "added_tokens.json");
  if (!added) return named;
  const special = new Set(named.map(({ token }) => token.content));
  const listed = Object.entries(added.raw).map(([content, id]) => ({
    token: readFlags(content, { special: special.has(content) }, added.file),
    id: checkId(id, content, added.file),
    source: added.file,
    isNamed: false,
  }));
  return [...listed.sort((a, b) => a.id - b.id), ...named];
}

/** @param special the tokens that are named, and special for that */
function listDecoder(
  decoder: Readonly<Record<string, unknown>>,
  file: string,
  special: ReadonlySet<string>,
): ExtraToken[] {
  const tokens = Object.entries(decoder).map(([id, value]) => {
    const content = isJsonObject(value) && typeof value.content === "string" ? value.content : id;
    return {
      token: readFlags(content, special.has(content) ? { ...Object(value), special: true } : value, file),
      id: checkId(/^\d+$/.test(id) ? Number(id) : id, content, file),
      source: file,
      isNamed: false,
    };
  });
  return tokens.sort((a, b) => a.id - b.id);
}

/** The special tokens that some files name; of one name, the last file's. */
function listNamed(sources: readonly FieldReader[]): ExtraToken[] {
  const tokens: ExtraToken[] = [];
  const seen = new Set<string>();
  const add = (value: unknown, source: string) => {
    const token = readNamed(value, source);
    const text = JSON.stringify(value);
    if (token !== null && !seen.has(text)) tokens.push({ token, source, isNamed: true });
    seen.add(text);
  };
  const others = sources.flatMap(({ raw }) => Object.keys(raw)).filter((key) => key.endsWith("_token"));
  for (const name of new Set([...NAMES, ...others])) {
    const source = sources.findLast((fields) => fields.has(name));
    if (source) add(source.value(name), source.file);
  }
  // The newer of two keys for further tokens counts where both are there.
  for (const key of ["extra_special_tokens", "additional_special_tokens"]) {
    const source = sources.findLast((fields) => fields.has(key));
    const value = source?.value(key);
    if (source === undefined || value === undefined) continue;
    if (typeof value !== "object" || value === null) throw source.wrong(key, "a list of tokens");
    for (const item of Object.values(value)) add(item, source.file);
    break;
  }
  return tokens;
}

function readNamed(value: unknown, file: string): TokenFlags | null {
  if (typeof value === "string") return readFlags(value, {}, file, true);
  if (!isJsonObject(value) || typeof value.content !== "string") return null;
  return readFlags(value.content, { ...value, special: true }, file, true);
}
