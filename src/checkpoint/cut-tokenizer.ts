// Cuts the files of a tokenizer down to some of its tokens, whose ids are numbered anew.
import { join } from "node:path";
import { parseJson } from "../io/json.ts";
import type { ModelFiles } from "./collect-files.ts";
import { GENERATION_FILE } from "./config-file.ts";
import { FieldReader, isJsonObject } from "./fields.ts";
import type { KeptIds } from "./kept-ids.ts";
import { mapNamedIds, mapPostProcessor } from "./named-ids.ts";
import type { TokenizerJson } from "./tokenizer-json.ts";

/** What the cut of every file knows. */
interface Cutting {
  /** Whether a token stays, by its text. */
  keeps: (token: string) => boolean;
  kept: KeptIds;
  /** The new id of an old one; an id that no row has stays as it is, beyond the vocabulary. */
  map: (id: number) => number;
}

/** Files with names of tokens but no ids, and those that say how a conversation is written. */
const UNTOUCHED = ["special_tokens_map.json", "chat_template.json", "chat_template.jinja"];

/**
 * The files with the kept tokens alone. Merges stay where both parts and the result stay, in their order.
 * @param tokenizer what the files amount to
 * @returns the files, and one line for each that is left out because it holds the old vocabulary in another form
 */
export function cutTokenizerFiles(
  files: ModelFiles,
  { definition }: Pick<TokenizerJson, "definition">,
  kept: KeptIds,
  folder: string | null,
): { files: ModelFiles; notes: string[] } {
  const tokens = new Set([...definition.vocab].filter(([, id]) => kept.find(id) !== undefined).map(([token]) => token));
  const cutting: Cutting = { kept, keeps: (token) => tokens.has(token), map: (id) => kept.find(id) ?? id };
  const cut = new Map<string, string | Uint8Array>();
  const notes: string[] = [];
  for (const [name, content] of files) {
    const made = UNTOUCHED.includes(name) ? content : cutFile(name, content, cutting, definition.file);
    if (made === null) notes.push(`${join(folder ?? "", name)}: not copied: it holds the vocabulary before the cut`);
    else cut.set(name, made);
  }
  return { files: cut, notes };
}

function cutFile(name: string, content: string | Uint8Array, cutting: Cutting, file: string): string | null {
  const readJson = () => new FieldReader(parseJson(Buffer.from(content), name), file).raw;
  const { keeps, kept, map } = cutting;
  switch (name) {
    case "tokenizer.json":
      return `${JSON.stringify(cutDefinition(readJson(), cutting))}\n`;
    case "vocab.json":
      return `${JSON.stringify(cutVocabulary(readJson(), kept))}\n`;
    case "merges.txt":
      return filterLines(content, (line) => line === "" || line.startsWith("#version") || keepsMerge(line, keeps, 0));
    case "vocab.txt":
      return filterLines(content, (line, at) => line === "" || kept.find(at) !== undefined);
    case "added_tokens.json":
      return formatJson(cutVocabulary(readJson(), kept));
    case "tokenizer_config.json":
      return formatJson(cutSettings(readJson(), cutting));
    case GENERATION_FILE:
      return formatJson(mapNamedIds(readJson(), map));
    default:
      return null;
  }
}

const formatJson = (value: object) => `${JSON.stringify(value, null, 2)}\n`;

function filterLines(content: string | Uint8Array, keeps: (line: string, at: number) => boolean): string {
  const lines = Buffer.from(content).toString("utf8").split(/\r?\n/);
  return lines.filter(keeps).join("\n");
}

/** @param prefix length of the prefix that a merge takes from the right part */
function keepsMerge(merge: unknown, keeps: Cutting["keeps"], prefix: number): boolean {
  const [left = "", right = ""]: string[] = Array.isArray(merge) ? merge : String(merge).split(" ");
  return keeps(left) && keeps(right) && keeps(left + right.slice(prefix));
}

/** Tokens and their ids. */
function cutVocabulary(vocab: Record<string, unknown>, kept: KeptIds): Record<string, number> {
  const entries = Object.entries(vocab).flatMap(([token, id]): [string, number][] => {
    const place = kept.find(id as number);
    return place === undefined ? [] : [[token, place]];
  });
  return Object.fromEntries(entries);
}

function cutDefinition(json: Record<string, unknown>, cutting: Cutting): Record<string, unknown> {
  const { keeps, kept, map } = cutting;
  const { padding, added_tokens: added, model: before } = json;
  const model: Record<string, unknown> = { ...Object(before) };
  if (Array.isArray(model.vocab)) model.vocab = model.vocab.filter((_, id) => kept.find(id) !== undefined);
  else model.vocab = cutVocabulary(Object(model.vocab), kept);
  const prefix = String(model.continuing_subword_prefix ?? "").length;
  if (Array.isArray(model.merges)) model.merges = model.merges.filter((merge) => keepsMerge(merge, keeps, prefix));
  if (typeof model.unk_id === "number") model.unk_id = map(model.unk_id);
  return {
    ...json,
    ...(Array.isArray(added) && { added_tokens: added.map((token) => ({ ...token, id: map(token.id) })) }),
    ...(isJsonObject(padding) && { padding: { ...padding, pad_id: map(Number(padding.pad_id ?? 0)) } }),
    ...("post_processor" in json && { post_processor: mapPostProcessor(json.post_processor, map) }),
    model,
  };
}

/** tokenizer_config.json: the ids of its added tokens are keys. */
function cutSettings(json: Record<string, unknown>, { map }: Cutting): Record<string, unknown> {
  const settings = mapNamedIds(json, map);
  const { added_tokens_decoder: decoder } = json;
  if (!isJsonObject(decoder)) return settings;
  const entries = Object.entries(decoder).map(([id, token]) => [String(map(Number(id))), token]);
  return { ...settings, added_tokens_decoder: Object.fromEntries(entries) };
}
