// How many tokens the tokenizer beside a checkpoint has: what its vocabulary can be trimmed to.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile } from "../io/json.ts";
import { FieldReader, isJsonObject } from "./fields.ts";

/** A tokenizer.json with 250,000 tokens takes 20 MB. */
const MAX_TOKENIZER_BYTES = 2 ** 28;

/**
 * One more than the largest token id of tokenizer.json (vocabulary and added tokens) or vocab.json; undefined when
 * `folder` has neither.
 * @throws NfcError `invalid-file` when the file does not hold a vocabulary
 */
export async function readTokenizerSize(folder: string): Promise<number | undefined> {
  const tokenizer = join(folder, "tokenizer.json");
  if (existsSync(tokenizer)) {
    const fields = new FieldReader(await readJsonFile(tokenizer, { maxBytes: MAX_TOKENIZER_BYTES }), tokenizer);
    const model = fields.value("model");
    const vocabulary = isJsonObject(model) && isJsonObject(model.vocab) ? Object.values(model.vocab) : [];
    const added = fields.value("added_tokens");
    const extra = Array.isArray(added) ? added.map((token) => (isJsonObject(token) ? token.id : undefined)) : [];
    return countIds([...vocabulary, ...extra], fields, "model");
  }
  const vocab = join(folder, "vocab.json");
  if (!existsSync(vocab)) return undefined;
  const fields = new FieldReader(await readJsonFile(vocab, { maxBytes: MAX_TOKENIZER_BYTES }), vocab);
  return countIds(Object.values(fields.raw), fields, "the vocabulary");
}

function countIds(ids: readonly unknown[], fields: FieldReader, key: string): number {
  let largest = -1;
  for (const id of ids) {
    if (typeof id === "number" && Number.isSafeInteger(id) && id > largest) largest = id;
  }
  if (largest < 0) throw fields.wrong(key, "a vocabulary with token ids");
  return largest + 1;
}
