// Refuses a draft that cannot serve a model: other tokens, or no fewer bytes to read for a token.
import { quote } from "../../../checkpoint/fields.ts";
import { listModelTokens } from "../../../checkpoint/tokenizer.ts";
import { NfcError } from "../../../errors.ts";
import type { ModelConfig } from "../../../model/config.ts";
import { countParameters } from "../../../model/parameters.ts";

export interface DraftedModel {
  /** The model's name in messages. */
  source: string;
  folder: string | null;
  config: ModelConfig;
  /** Bytes of its weights as they run. */
  bytes: number;
}

/** Bytes of a checkpoint's weights, which run in float32. */
export const countRunningBytes = (config: ModelConfig): number => 4 * countParameters(config);

/** @throws NfcError "mismatch" for a draft of another vocabulary, or one that is no smaller than the model */
export async function checkDraft(model: DraftedModel, draft: DraftedModel): Promise<void> {
  const refuse = (fact: string, hint: string) => {
    throw new NfcError("mismatch", `${draft.source}: ${fact}`, { hint });
  };
  const [own, other] = [model.config.vocab_size, draft.config.vocab_size];
  const sameTokens = "take a draft that was cut or distilled from the model, with its vocabulary";
  if (own !== other) refuse(`has ${other} tokens, ${model.source} has ${own}: it cannot draft for it`, sameTokens);
  const different = await findOtherToken(model, draft);
  if (different !== null) refuse(`${different} ${model.source}: it cannot draft for it`, sameTokens);
  if (draft.bytes < model.bytes) return;
  const sizes = `${draft.bytes} bytes of weights against the model's ${model.bytes}`;
  refuse(`is no smaller: ${sizes}; a draft pays by being cheaper`, "take a smaller model, or leave out --draft");
}

/** Says which token is not that of the model; null where the tokenizers have the same tokens. */
async function findOtherToken(model: DraftedModel, draft: DraftedModel): Promise<string | null> {
  if (model.folder !== null && model.folder === draft.folder) return null;
  const [mine, theirs] = [await listModelTokens(model), await listModelTokens(draft)];
  const show = (token: string | undefined) => (token === undefined ? "no token" : quote(token));
  for (let id = 0; id < model.config.vocab_size; id++) {
    const [a, b] = [mine.get(id), theirs.get(id)];
    if (a !== b) return `its token ${id} is ${show(b)}, and ${show(a)} in`;
  }
  return null;
}
