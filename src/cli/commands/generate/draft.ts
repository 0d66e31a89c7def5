// Opens the model of nfc generate --draft: a checkpoint or an export that is held against the model it drafts for.
import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { ExportedModel } from "../../../inference/exported/exported-model.ts";
import type { Decoder } from "../../../inference/generate/decoder.ts";
import type { DraftedModel } from "../../../inference/generate/draft/check-draft.ts";
import type { Precision } from "../../../model/precision.ts";
import { type DeviceFlags, resolveDevice } from "../../device.ts";
import { withCheckpoint } from "../../open-checkpoint.ts";
import { type CommonFlags, refuseIf, type SourceFlags } from "../../options.ts";
import { type Context, note } from "../../terminal.ts";

export interface DraftFlags {
  draft?: string;
  draftPrecision?: Precision;
  draftTokens?: number;
}

/** @throws NfcError "usage" for flags that need a draft, or that do not go with one */
export function checkDraftFlags(
  flags: DraftFlags & { noise?: "mean" | "sample" },
  { batchSizeGiven }: { batchSizeGiven: boolean },
): void {
  const { draft, draftPrecision, draftTokens, noise } = flags;
  const alone = draft === undefined;
  refuseIf(alone && draftPrecision, "--draft-precision is for a draft", "add --draft FOLDER");
  refuseIf(alone && draftTokens !== undefined, "--draft-tokens is for a draft", "add --draft FOLDER");
  refuseIf(!alone && batchSizeGiven, "--draft continues one prompt at a time", "leave out --batch-size");
  refuseIf(
    !alone && noise === "sample",
    "--draft needs a model that answers twice alike, which --noise sample does not",
    "leave out one of them",
  );
}

/** Opens the draft of that name. @throws NfcError as `openDraft`; as opening a model does */
export async function openNamedDraft(
  context: Context,
  name: string,
  flags: DraftFlags & CommonFlags & SourceFlags & DeviceFlags,
  model: DraftedModel,
): Promise<Decoder> {
  const { hasOnnxFiles, openExportedFile } = await import("../../../inference/exported/exported-model.ts");
  const { openDraft } = await import("../../../inference/generate/open-decoder.ts");
  const { draftPrecision: precision, json, quiet, offline, threads } = flags;
  const open = (draft: Checkpoint | ExportedModel) => {
    const device = () => resolveDevice(context, flags, draft.config, "run");
    return openDraft(model, draft, { precision, device, threads });
  };
  if (precision !== undefined || (await hasOnnxFiles(name)))
    return open((await openExportedFile(name, precision)).model);
  const output = { ...(json && { json }), ...(quiet && { quiet }), ...(offline && { offline }) };
  return withCheckpoint(context, name, output, (checkpoint, progress) => {
    progress.stop();
    for (const text of checkpoint.notes) note(context.io, flags, text);
    return open(checkpoint);
  });
}
