// Counts what a text uses of a model's tokens: what a smaller vocabulary is chosen by.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { collectModelFiles, type ModelFiles } from "../../checkpoint/collect-files.ts";
import { completeTokenizer } from "../../checkpoint/complete-tokenizer.ts";
import type { Definition } from "../../checkpoint/encoding/definition.ts";
import { quote } from "../../checkpoint/fields.ts";
import { mapNamedIds, mapPostProcessor } from "../../checkpoint/named-ids.ts";
import { countTokenUse, type TokenUse } from "../../checkpoint/token-use.ts";
import { readGpt2Json, readTokenizerJson, type TokenizerJson } from "../../checkpoint/tokenizer-json.ts";
import { NfcError } from "../../errors.ts";
import { detectCommonKind } from "../../io/data-file.ts";
import { parseJson } from "../../io/json.ts";
import { readTextPieces } from "../../io/text.ts";
import { isForeignTokenizer } from "../../io/tokenizer-files.ts";
import type { LongCall } from "../../progress.ts";
import { type CountedVocabulary, closeOverParts } from "./vocabulary-choice.ts";

export interface CountOptions extends LongCall {
  /** Files of text. */
  text: readonly [string, ...string[]];
  /** Field of .jsonl lines that holds the text. */
  field?: string | undefined;
  /** Ids of parts of the text that do not count, since models are measured on them. */
  without?: readonly number[] | undefined;
}

/**
 * @throws NfcError "unsupported" for a tokenizer that cannot be cut, "usage" for a text of ids or without any text,
 * "mismatch" for a token that the model has no row for, "not-found"
 */
export async function countVocabulary(
  checkpoint: Checkpoint,
  { text, field, without = [], signal, onProgress }: CountOptions,
): Promise<CountedVocabulary> {
  const { vocab_size: rows } = checkpoint.config;
  onProgress?.({ phase: "counting tokens", done: 0, total: null, unit: "files", brief: true });
  if ((await detectCommonKind(text)) === "ids")
    throw new NfcError("usage", `${text[0]}: holds token ids, and the vocabulary is taken from text`, {
      hint: "give the text itself: --vocab-from FILE",
    });
  const { files, notes, ...tokenizer } = await readTokenizerFiles(checkpoint);
  const named = listRequired(checkpoint, files, tokenizer);
  const all = await countTokenUse(tokenizer.definition, readTextPieces(text, { field, signal }), { rows, named });
  const use = { ...all, counts: subtract(all.counts, without) };
  if (use.counts.size === 0)
    throw new NfcError("usage", `${text.join(", ")}: there is no text to choose the tokens by`, {
      hint: `give text of the kind that the model is for${without.length > 0 ? ", besides what is measured on" : ""}`,
    });
  const required = new Set([...named, ...use.base]);
  const used = closeOverParts([...required, ...use.counts.keys()], use).size;
  return { files, tokenizer, use, required, used, least: closeOverParts(required, use).size, notes };
}

function subtract(counts: TokenUse["counts"], ids: readonly number[]): TokenUse["counts"] {
  const rest = new Map(counts);
  for (const id of ids) {
    const left = (rest.get(id) ?? 0) - 1;
    if (left > 0) rest.set(id, left);
    else rest.delete(id);
  }
  return rest;
}

/** The tokenizer, and the files of the model's folder with a tokenizer.json among them. */
async function readTokenizerFiles({ folder, config, companions: made }: Checkpoint) {
  const collected = made ? { files: made, notes: [] } : await collectModelFiles(folder);
  const has = collected.files.has("tokenizer.json");
  const files = has ? collected.files : await completeTokenizer(collected.files, folder, config);
  if (!files.has("tokenizer.json")) {
    const foreign = [...files.keys()].filter((name) => isForeignTokenizer(name) || /^vocab\.(txt|json)$/.test(name));
    const found = foreign.length > 0 ? `its tokenizer is ${foreign.join(", ")}` : "it has no tokenizer";
    throw new NfcError("unsupported", `${folder ?? "the checkpoint"}: ${found}, and nfc cuts a tokenizer.json`, {
      hint: "put the model's tokenizer.json beside its weights (transformers writes one with save_pretrained)",
    });
  }
  const own = folder === null ? null : await readTokenizerJson(folder);
  return { ...(own ?? (await readGpt2Json())), files, notes: collected.notes };
}

/**
 * Ids that stay whatever the text: those of added tokens and those that a configuration names, rows without a token
 * among these.
 * @throws NfcError "mismatch" for an added token that the model has no row for
 */
function listRequired(checkpoint: Checkpoint, files: ModelFiles, { json, definition }: TokenizerJson): Set<number> {
  const { config, rawConfig } = checkpoint;
  const required = new Set(definition.added.map((token) => requireRow(checkpoint, definition, token)));
  const add = (id: number) => {
    if (id < config.vocab_size) required.add(id);
    return id;
  };
  const { bos_token_id, eos_token_id } = config;
  for (const id of [bos_token_id, eos_token_id]) if (id !== undefined) add(id);
  mapNamedIds(rawConfig, add);
  for (const name of ["generation_config.json", "tokenizer_config.json"]) {
    const content = files.get(name);
    if (content !== undefined) mapNamedIds(Object(parseJson(Buffer.from(content), name)), add);
  }
  mapPostProcessor(json.post_processor, add);
  const { pad_id: padding } = Object(json.padding);
  if (Number.isInteger(padding)) add(padding);
  return required;
}

function requireRow(
  { source, config }: Checkpoint,
  { file }: Definition,
  { id, content }: Definition["added"][number],
): number {
  if (id < config.vocab_size) return id;
  const fact = `the token ${quote(content)} has id ${id}, and ${source} only ${config.vocab_size} tokens`;
  throw new NfcError("mismatch", `${file}: ${fact}`, {
    hint: "take it out of the tokenizer's files, or give the model a row for it (resize_token_embeddings in transformers)",
  });
}
