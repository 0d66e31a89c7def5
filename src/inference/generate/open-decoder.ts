// Opens the decoder of a checkpoint or an export, and that of a draft, which is held against the model it drafts for.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import type { NoiseMode } from "../../model/attention.ts";
import type { Precision } from "../../model/precision.ts";
import { chooseFile, type ExportedModel } from "../exported/exported-model.ts";
import { Decoder } from "./decoder.ts";
import { checkDraft, countRunningBytes, type DraftedModel } from "./draft/check-draft.ts";

export interface DecoderOptions {
  /** The file of an export; fp32, or the first there is, unless given. */
  precision?: Precision | undefined;
  /** A checkpoint's noise, its mean unless given. */
  noise?: NoiseMode | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
}

/** @throws NfcError "usage" for an option that is not for this kind of model, "not-found" for a precision that is not there */
export function openDecoder(model: Checkpoint | ExportedModel, options: DecoderOptions): Promise<Decoder> {
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

/** What a draft is held against: the model as it runs. @throws NfcError "not-found" for a precision that is not there */
export function describeModel(model: Checkpoint | ExportedModel, precision: Precision | undefined): DraftedModel {
  const { source, folder, config } = model;
  const bytes = "files" in model ? chooseFile(model, precision).bytes : countRunningBytes(config);
  return { source, folder, config, bytes };
}

/**
 * @param device chosen once the draft has passed
 * @throws NfcError "mismatch" as `checkDraft`; as `openDecoder`
 */
export async function openDraft(
  model: DraftedModel,
  draft: Checkpoint | ExportedModel,
  {
    precision,
    device,
    threads,
  }: Omit<DecoderOptions, "noise" | "device"> & { device: () => Promise<Device | undefined> },
): Promise<Decoder> {
  await checkDraft(model, describeModel(draft, precision));
  return openDecoder(draft, { precision, device: await device(), threads });
}
