// Continues texts with an open model, a checkpoint or an export: tokenizer, end tokens, decoder and their closing.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../checkpoint/tokenizer.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import type { NoiseMode } from "../../model/attention.ts";
import type { Precision } from "../../model/precision.ts";
import type { ExportedModel } from "../exported/exported-model.ts";
import type { Decoder } from "./decoder.ts";
import { decodeDrafted } from "./draft/decode-drafted.ts";
import { Pace } from "./draft/pace.ts";
import { readEndTokens } from "./end-tokens.ts";
import { DEFAULT_NEW_TOKENS, type DecodeOptions, decodePrompts, type GenerateEvent } from "./generate.ts";
import { describeModel, openDecoder, openDraft } from "./open-decoder.ts";
import { encodePrompts } from "./prompt-ids.ts";
import { isGreedy } from "./sampling.ts";

export interface GenerateOptions extends DecodeOptions {
  /** Texts to continue. */
  prompts: readonly string[];
  /** The file of an export; fp32, or the first there is, unless given. */
  precision?: Precision | undefined;
  /** A checkpoint's noise, its mean unless given; an export has its own built in. */
  noise?: NoiseMode | undefined;
  /** Keep only the end of a prompt that leaves no room for the new tokens. */
  truncate?: boolean | undefined;
  /**
   * A smaller model with the same tokens, which proposes what comes next; the text stays the model's own. Prompts are then
   * continued one after the other.
   */
  draft?: Checkpoint | ExportedModel | undefined;
  /** The file of the draft's export; fp32, or the first there is, unless given. */
  draftPrecision?: Precision | undefined;
  /** Tokens that are drafted at a time; chosen by what they cost unless given. */
  draftTokens?: number | undefined;
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
 * a precision that is not there, "mismatch" for a draft of other tokens or one that is no smaller; see `decodePrompts`
 */
export async function* generate(
  model: Checkpoint | ExportedModel,
  options: GenerateOptions,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const { truncate = false, maxNewTokens = DEFAULT_NEW_TOKENS } = options;
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const prompts = encodePrompts(options.prompts, tokenizer, model.config, { truncate, maxNewTokens });
  const end = options.end ?? (await readEndTokens(model));
  const { decoder, draft } = await openAll(async (keep) => {
    const small = options.draft && keep(await openOwnDraft(model, options.draft, options));
    return { draft: small, decoder: keep(await openDecoder(model, options)) };
  });
  try {
    const decoding = { ...options, end };
    if (!draft) yield* decodePrompts(decoder, tokenizer, prompts, decoding);
    else {
      const pace = new Pace({ fixed: options.draftTokens, greedy: isGreedy(options) });
      yield* decodeDrafted({ model: decoder, draft, pace }, tokenizer, prompts, decoding);
    }
  } finally {
    await Promise.all([draft?.close(), decoder.close()]);
  }
}

function openOwnDraft(
  model: Checkpoint | ExportedModel,
  draft: Checkpoint | ExportedModel,
  { precision, draftPrecision, device, threads, noise }: GenerateOptions,
): Promise<Decoder> {
  if (noise?.kind === "generated")
    throw new NfcError("usage", `${model.source}: a draft needs a model without drawn noise`, {
      hint: "leave out draft, or noise",
    });
  const settings = { precision: draftPrecision, device: async () => device, threads };
  return openDraft(describeModel(model, precision), draft, settings);
}
