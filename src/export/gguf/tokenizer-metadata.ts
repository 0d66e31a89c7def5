// A byte-level BPE tokenizer as GGUF metadata: tokens with their kinds, merges and special ids, as llama.cpp reads them.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { Definition } from "../../checkpoint/encoding/definition.ts";
import type { FieldReader } from "../../checkpoint/fields.ts";
import { readTokenizerJson } from "../../checkpoint/tokenizer-json.ts";
import { NfcError } from "../../errors.ts";
import type { GgufValue } from "../../formats/gguf/writer.ts";
import { readEndTokens } from "../../inference/generate/end-tokens.ts";

/** llama.cpp's kinds of tokens (llama_token_type). */
const KIND = { normal: 1, control: 3, user: 4, unused: 5 } as const;

/**
 * `tokenizer.ggml.*` for the tokenizer in the folder of a model, one token for each row of its embedding: rows without a
 * token are named and marked unused, and tokens without a row are left out.
 * @throws NfcError "not-found" without a tokenizer, "unsupported" for one that is not GPT-2's kind
 */
export async function makeTokenizerMetadata(
  folder: string,
  { source, config, rawConfig }: Pick<Checkpoint, "source" | "config" | "rawConfig">,
): Promise<Map<string, GgufValue>> {
  const found = await readTokenizerJson(folder);
  if (found === null)
    throw new NfcError("not-found", `${source}: no tokenizer.json, without which llama.cpp loads no GPT-2`, {
      hint: "put the model's tokenizer.json beside its weights",
    });
  const { definition } = found;
  checkKind(definition);
  const tokens = Array.from({ length: config.vocab_size }, (_, id) => ({
    text: `[PAD${id}]`,
    kind: KIND.unused as number,
  }));
  const name = (id: number, text: string, kind: number) => {
    if (id < tokens.length) tokens[id] = { text, kind };
  };
  for (const [text, id] of definition.vocab) name(id, text, KIND.normal);
  for (const { id, content, special } of definition.added) name(id, content, special ? KIND.control : KIND.user);
  const [end] = await readEndTokens({ folder, config, rawConfig });
  const ids = { bos: config.bos_token_id ?? end, eos: end };
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { string: "gpt2" }],
    ["tokenizer.ggml.pre", { string: "gpt-2" }],
    ["tokenizer.ggml.tokens", { strings: tokens.map(({ text }) => text) }],
    ["tokenizer.ggml.token_type", { int32s: tokens.map(({ kind }) => kind) }],
    ["tokenizer.ggml.merges", { strings: listMerges(definition.model) }],
    ...Object.entries(ids).flatMap(([key, id]): [string, GgufValue][] =>
      id === undefined || id < 0 || id >= tokens.length ? [] : [[`tokenizer.ggml.${key}_token_id`, { uint32: id }]],
    ),
    ["tokenizer.ggml.add_bos_token", { bool: false }],
  ]);
}

/**
 * llama.cpp's "gpt-2" cuts the text by GPT-2's pattern and merges bytes; other kinds would give other ids.
 * @throws NfcError "unsupported"
 */
function checkKind({ file, model, normalizer, preTokenizer }: Definition): void {
  const refuse = (fact: string) => {
    throw new NfcError("unsupported", `${file}: ${fact}, and llama.cpp would read text otherwise than the model`, {
      hint: "export the model as ONNX",
    });
  };
  if (model.raw.type !== undefined && model.raw.type !== "BPE") refuse("is no BPE tokenizer as GPT-2's is");
  if (normalizer) refuse("changes the text before it is cut");
  const { type, use_regex = true, add_prefix_space = false } = preTokenizer?.raw ?? {};
  if (type !== "ByteLevel" || use_regex !== true || add_prefix_space !== false)
    refuse("cuts the text otherwise than GPT-2's does");
}

/** "a b" for each pair, as older files have them; newer ones have pairs. */
function listMerges(model: FieldReader): string[] {
  const merges = model.value("merges") ?? [];
  if (!Array.isArray(merges)) throw model.wrong("merges", "a list");
  return merges.map((pair: unknown) => (Array.isArray(pair) ? pair.join(" ") : String(pair)));
}
