// Writes the tokenizer.json that a model's older tokenizer files, or GPT-2's built-in vocabulary, amount to.
import { join } from "node:path";
import { parseJson } from "../io/json.ts";
import { isForeignTokenizer } from "../io/tokenizer-files.ts";
import type { ModelConfig } from "../model/config.ts";
import type { ModelFiles } from "./collect-files.ts";
import { FieldReader, isJsonObject } from "./fields.ts";
import { GPT2_VOCABULARY, NANOGPT_VOCABULARY } from "./tokenizer.ts";
import { END_OF_TEXT, readGpt2Json, readTokenizerJson } from "./tokenizer-json.ts";

const TOKENIZER = "tokenizer.json";
const SETTINGS = "tokenizer_config.json";
const SPECIAL = "special_tokens_map.json";

/**
 * The files with a tokenizer.json and a tokenizer_config.json, without which transformers.js reads no text; as they are
 * where the tokenizer is one that nfc does not read.
 */
export async function completeTokenizer(
  files: ModelFiles,
  folder: string | null,
  config: ModelConfig,
): Promise<ModelFiles> {
  const complete = new Map(files);
  if (!files.has(TOKENIZER)) {
    const definition = await defineTokenizer(files, folder, config);
    if (definition === null) return files;
    complete.set(TOKENIZER, `${JSON.stringify(definition)}\n`);
    complete.set(SETTINGS, makeSettings(files, config));
  }
  if (!complete.has(SETTINGS)) complete.set(SETTINGS, formatJson({ tokenizer_class: "PreTrainedTokenizerFast" }));
  return complete;
}

/** The tokenizer of vocab.json and merges.txt, or GPT-2's where the folder has none and the vocabulary is GPT-2's. */
async function defineTokenizer(
  files: ModelFiles,
  folder: string | null,
  { vocab_size }: ModelConfig,
): Promise<object | null> {
  const own = folder === null ? null : await readTokenizerJson(folder);
  if (own !== null) return own.json;
  if ([...files.keys()].some(definesTokenizer)) return null;
  return vocab_size === GPT2_VOCABULARY || vocab_size === NANOGPT_VOCABULARY ? (await readGpt2Json()).json : null;
}

const definesTokenizer = (name: string) => isForeignTokenizer(name) || ["vocab.txt", "vocab.json"].includes(name);

/**
 * tokenizer_config.json for GPT-2's class: what the source's says counts, then its special_tokens_map.json, which
 * transformers.js does not read.
 */
function makeSettings(files: ModelFiles, config: ModelConfig): string {
  const given = parseFile(files, SETTINGS);
  const special = isJsonObject(given.added_tokens_decoder) ? {} : parseFile(files, SPECIAL);
  const named = Object.entries(special).map(([key, token]) => [key, isJsonObject(token) ? token.content : token]);
  const ends = { bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, unk_token: END_OF_TEXT };
  return formatJson({
    tokenizer_class: "GPT2Tokenizer",
    model_max_length: config.n_positions,
    ...(config.vocab_size >= GPT2_VOCABULARY && ends),
    ...given,
    ...Object.fromEntries(named),
  });
}

function parseFile(files: ModelFiles, name: string): Record<string, unknown> {
  const content = files.get(name);
  return content === undefined ? {} : new FieldReader(parseJson(Buffer.from(content), name), name).raw;
}

const formatJson = (value: object) => `${JSON.stringify(value, null, 2)}\n`;

/** A line for a tokenizer that travels, but that neither nfc nor transformers.js reads. */
export function explainTokenizer(files: ModelFiles, folder: string | null): string[] {
  if (files.has(TOKENIZER) || (files.has("vocab.json") && files.has("merges.txt"))) return [];
  const names = [...files.keys()].filter(definesTokenizer);
  if (names.length === 0) return [];
  const make = `AutoTokenizer.from_pretrained(${JSON.stringify(folder)}).save_pretrained(${JSON.stringify(folder)})`;
  return [
    `${join(folder ?? "", names.join(", "))}: copied, but nfc and transformers.js read text by a tokenizer.json only: make it in Python with transformers, ${make}`,
  ];
}
