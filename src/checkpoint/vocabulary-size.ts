// Counts the tokens of the tokenizer beside a checkpoint, and finds the ids that its configurations name.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { toIoError } from "../io/io-error.ts";
import { readCompanion, readCompanionJson } from "./companion-files.ts";
import { FieldReader, isJsonObject } from "./fields.ts";
import { isForeignTokenizer } from "./tokenizer-files.ts";
import { checkTokenId, countIds, listAddedTokens, readTokenizerSettings } from "./tokenizer-json.ts";

/**
 * One more than the largest token id of the tokenizer in `folder`: its vocabulary (tokenizer.json, else vocab.json, else
 * vocab.txt) and the tokens that other files add to it. undefined when there is no tokenizer.
 * @throws NfcError "invalid-file" when a file does not hold a vocabulary; "unsupported" for a tokenizer whose size nfc
 * cannot tell
 */
export async function readTokenizerSize(folder: string): Promise<number | undefined> {
  const vocab = await readVocabulary(folder);
  if (vocab === undefined) return undefined;
  const added = listAddedTokens(await readTokenizerSettings(folder), vocab);
  return countIds([...Object.values(vocab), ...added.map(({ id }) => id)]);
}

/** Ids by token. */
type Vocabulary = Record<string, number>;

async function readVocabulary(folder: string): Promise<Vocabulary | undefined> {
  const tokenizer = await readCompanionJson(folder, "tokenizer.json");
  if (tokenizer !== undefined) return listTokenizerIds(new FieldReader(tokenizer, join(folder, "tokenizer.json")));
  const vocab = await readCompanionJson(folder, "vocab.json");
  if (vocab !== undefined) {
    const fields = new FieldReader(vocab, join(folder, "vocab.json"));
    return checkVocabulary(Object.entries(fields.raw), fields.file);
  }
  const names = await readdir(folder).catch((error: unknown) => Promise.reject(toIoError(error, folder)));
  const foreign = names.filter(isForeignTokenizer).sort();
  if (foreign.length > 0)
    throw new NfcError("unsupported", `${join(folder, foreign[0] ?? "")}: nfc cannot tell how many tokens it has`, {
      hint: "give the number of rows to keep: --trim-vocab N",
    });
  const lines = await readCompanion(folder, "vocab.txt");
  return lines === null ? undefined : listLines(lines.toString("utf8"), join(folder, "vocab.txt"));
}

/** The ids of a tokenizer.json: BPE, WordPiece and WordLevel give them by token, Unigram is a list in their order. */
function listTokenizerIds(fields: FieldReader): Vocabulary {
  const model = fields.value("model");
  const vocab = isJsonObject(model) ? model.vocab : undefined;
  const entries = Array.isArray(vocab)
    ? vocab.map((entry, id): [string, unknown] => [Array.isArray(entry) ? String(entry[0]) : "", id])
    : Object.entries(isJsonObject(vocab) ? vocab : {});
  const added = fields.value("added_tokens");
  const extra = (Array.isArray(added) ? added : []).map((token): [string, unknown] =>
    isJsonObject(token) ? [String(token.content), token.id] : ["", token],
  );
  return checkVocabulary([...entries, ...extra], fields.file);
}

/** Ids by token; of a token that stands twice, the larger id counts. */
function checkVocabulary(entries: readonly [string, unknown][], file: string): Vocabulary {
  const vocab = Object.create(null) as Vocabulary;
  for (const [token, id] of entries) vocab[token] = Math.max(checkTokenId(id, token, file), vocab[token] ?? 0);
  if (entries.length > 0) return vocab;
  throw new NfcError("invalid-file", `${file}: holds no vocabulary with token ids`);
}

/** BERT's vocab.txt: a token a line, its id the line's number. */
function listLines(text: string, file: string): Vocabulary {
  const lines = text.split(/\r\n|\r|\n/);
  if (lines.at(-1) === "") lines.pop();
  const entries = lines.map((token, id): [string, number] => [token, id]);
  return checkVocabulary(entries, file);
}

/** Keys whose values, at any depth of lists, are token ids. */
const ID_KEYS = /(^|_)(token_ids?|suppress_tokens|words_ids|decoder_ids)$|^sequence_bias$/;

/** A token id that a configuration names, and the key that names it. */
export interface NamedId {
  key: string;
  id: number;
}

/** All token ids in `config`, a config.json or generation_config.json: end tokens, padding, suppressed ones and so on. */
export function listNamedIds(config: unknown, depth = 0): NamedId[] {
  if (!isJsonObject(config) || depth > MAX_CONFIG_DEPTH) return [];
  return Object.entries(config).flatMap(([key, value]) => {
    if (!ID_KEYS.test(key)) return listNamedIds(value, depth + 1);
    const ids = Array.isArray(value) ? value.flat(MAX_CONFIG_DEPTH) : [value];
    return ids.filter((id): id is number => Number.isInteger(id) && id >= 0).map((id) => ({ key, id }));
  });
}

/** `task_specific_params` and the like lie a few levels deep. */
const MAX_CONFIG_DEPTH = 8;
