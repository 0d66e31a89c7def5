// Counts the tokens of the tokenizer beside a checkpoint, and finds the ids that its configurations name.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { isForeignTokenizer } from "../io/tokenizer-files.ts";
import { readCompanion } from "./companion-files.ts";
import { checkVocabulary, type Definition } from "./encoding/definition.ts";
import { isJsonObject } from "./fields.ts";
import { readAddedTokens, readFields, readTokenizerJson } from "./tokenizer-json.ts";

/**
 * One more than the largest token id of the tokenizer in `folder`: its vocabulary (tokenizer.json, else vocab.json, else
 * vocab.txt) and the tokens that other files add to it. undefined when there is no tokenizer.
 * @throws NfcError "invalid-file" when a file does not hold a vocabulary; "unsupported" for a tokenizer whose size nfc
 * cannot tell
 */
export async function readTokenizerSize(folder: string): Promise<number | undefined> {
  const found = await readTokenizerJson(folder);
  const vocabulary = found?.definition ?? (await readPlainVocabulary(folder));
  if (vocabulary === undefined) return undefined;
  if (vocabulary.vocab.size === 0) throw new NfcError("invalid-file", `${vocabulary.file}: holds no vocabulary`);
  return countIds([...vocabulary.vocab.values(), ...vocabulary.added.map(({ id }) => id)]);
}

/** One more than the largest id. */
function countIds(ids: readonly number[]): number {
  return ids.reduce((most, id) => Math.max(most, id + 1), 0);
}

/** The vocabulary of a tokenizer without a tokenizer.json that can be made: vocab.json alone, or vocab.txt. */
async function readPlainVocabulary(folder: string): Promise<Pick<Definition, "file" | "vocab" | "added"> | undefined> {
  const bare = await readBareVocabulary(folder);
  if (!bare) return undefined;
  const config = await readFields(folder, "tokenizer_config.json");
  return { ...bare, added: await readAddedTokens(folder, { ...bare, added: [] }, { config }) };
}

async function readBareVocabulary(folder: string): Promise<Pick<Definition, "file" | "vocab"> | undefined> {
  const json = await readFields(folder, "vocab.json");
  if (json) return { file: json.file, vocab: checkVocabulary(json.raw, json.file) };
  const names = await withIoErrors(folder, () => readdir(folder));
  const foreign = names.filter(isForeignTokenizer).sort();
  if (foreign.length > 0)
    throw new NfcError("unsupported", `${join(folder, foreign[0] ?? "")}: nfc cannot tell how many tokens it has`, {
      hint: "give the number of rows to keep: --trim-vocab N",
    });
  const lines = await readCompanion(folder, "vocab.txt");
  const file = join(folder, "vocab.txt");
  return lines === null ? undefined : { file, vocab: listLines(lines.toString("utf8")) };
}

/** BERT's vocab.txt: a token a line, its id the line's number. */
function listLines(text: string): Map<string, number> {
  const lines = text.split(/\r\n|\r|\n/);
  if (lines.at(-1) === "") lines.pop();
  return new Map(lines.map((token, id) => [token, id]));
}

/** Keys whose values, at any depth of lists, are token ids. */
export const ID_KEYS = /(^|_)(token_ids?|suppress_tokens|words_ids|decoder_ids)$|^sequence_bias$/;

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
export const MAX_CONFIG_DEPTH = 8;
