// Continues texts with an open model, a checkpoint or an export: tokenizer, end tokens, decoder and their closing.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../checkpoint/tokenizer.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import type { NoiseMode } from "../../model/attention.ts";
import type { Precision } from "../../model/precision.ts";
import { chooseFile, type ExportedModel } from "../exported/exported-model.ts";
import { Decoder } from "./decoder.ts";
import { readEndTokens } from "./end-tokens.ts";
import { DEFAULT_NEW_TOKENS, type DecodeOptions, decodePrompts, type GenerateEvent } from "./generate.ts";
import { encodePrompts } from "./prompt-ids.ts";

export interface GenerateOptions extends DecodeOptions {
  /** Texts to continue. */
  prompts: readonly string[];
  /** The file of an export; fp32, or the first there is, unless given. */
  precision?: Precision | undefined;
  /** A checkpoint's noise, its mean unless given; an export has its own built in. */
  noise?: NoiseMode | undefined;
  /** Keep only the end of a prompt that leaves no room for the new tokens. */
  truncate?: boolean | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
}

/**
 * Continues the prompts, one event a token. The model's own end tokens end a text unless `end` names others.
 * @example
 * ```js
 * for await (const { text } of generate(model, { prompts: ["It was"] })) process.stdout.write(text);
 * ```
 * @throws NfcError "usage" for a prompt that does not fit or an option that is not for this kind of model, "not-found" for
 * a precision that is not there; see `decodePrompts`
 */
export async function* generate(
  model: Checkpoint | ExportedModel,
  options: GenerateOptions,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const { truncate = false, maxNewTokens = DEFAULT_NEW_TOKENS } = options;
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const prompts = encodePrompts(options.prompts, tokenizer, model.config, { truncate, maxNewTokens });
  const end = options.end ?? (await readEndTokens(model));
  const decoder = await openDecoder(model, options);
  try {
    yield* decodePrompts(decoder, tokenizer, prompts, { ...options, end });
  } finally {
    await decoder.close();
  }
}

function openDecoder(model: Checkpoint | ExportedModel, options: GenerateOptions): Promise<Decoder> {
  const { precision, noise, device, threads } = options;
  const refuse = (fact: string, hint: string) => {
    throw new NfcError("usage", `${model.source}: ${fact}`, { hint });
  };
  if ("files" in model) {
    if (noise) refuse("an export has its noise built in", "leave out noise");
    return Decoder.ofFile(chooseFile(model, precision), model.config, { device, threads });
  }
  if (precision) refuse("a checkpoint has no precisions", "leave out precision, or open an export");
  return Decoder.ofCheckpoint(model, { noise, device, threads });
}
