// Opens the model of nfc generate --draft: a checkpoint or an export that is held against the model it drafts for.
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

/** @throws NfcError "mismatch" as `checkDraft`; as opening a model does */
export async function openDraft(
  context: Context,
  name: string,
  flags: DraftFlags & CommonFlags & SourceFlags & DeviceFlags,
  model: DraftedModel,
): Promise<Decoder> {
  const { hasOnnxFiles, openExportedFile } = await import("../../../inference/exported/exported-model.ts");
  const { Decoder } = await import("../../../inference/generate/decoder.ts");
  const { checkDraft, countRunningBytes } = await import("../../../inference/generate/draft/check-draft.ts");
  const { draftPrecision, json, quiet, offline, threads } = flags;
  if (draftPrecision !== undefined || (await hasOnnxFiles(name))) {
    const { model: exported, file } = await openExportedFile(name, draftPrecision);
    const { source, folder, config } = exported;
    await checkDraft(model, { source, folder, config, bytes: file.bytes });
    return Decoder.ofFile(file, config, { device: await resolveDevice(context, flags, config, "run"), threads });
  }
  const output = { ...(json && { json }), ...(quiet && { quiet }), ...(offline && { offline }) };
  return withCheckpoint(context, name, output, async (checkpoint, progress) => {
    progress.stop();
    for (const text of checkpoint.notes) note(context.io, flags, text);
    const { source, folder, config } = checkpoint;
    await checkDraft(model, { source, folder, config, bytes: countRunningBytes(config) });
    const device = await resolveDevice(context, flags, config, "run");
    return Decoder.ofCheckpoint(checkpoint, { device, threads });
  });
}
