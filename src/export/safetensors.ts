// Writes the model as safetensors: compact in a chosen dtype, or expanded to plain GPT-2.

import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { makeFormMetadata } from "../checkpoint/form-keys.ts";
import { makeTensorSource } from "../checkpoint/model-folder.ts";
import { NfcError } from "../errors.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import { type WriteResult, writeSafetensors } from "../formats/safetensors/writer.ts";
import { makePlainConfig } from "../model/head-widths.ts";
import { listParameters } from "../model/parameters.ts";
import { hasDistanceMean } from "../model/variants.ts";
import { makeExpandedSource } from "./expand.ts";

export interface SafetensorsExportOptions {
  /** Dtype of all tensors; each keeps its own unless given. */
  dtype?: FloatDtype | undefined;
  maxShardSize?: number | undefined;
  /** Expand to plain GPT-2: q and k of every head are written out, as wide as GPT-2's; noise is dropped. */
  gpt2?: boolean | undefined;
  onBytes?: ((written: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Writes model.safetensors (or shards) below `folder`, a staging folder. */
export function writeModelTensors(
  folder: string,
  checkpoint: Checkpoint,
  { dtype, gpt2 = false, ...options }: SafetensorsExportOptions,
): Promise<WriteResult> {
  const config = gpt2 ? makePlainConfig(checkpoint.config) : checkpoint.config;
  const sources = listParameters(config).map((spec) => {
    const tensor = requireTensor(checkpoint, spec.name);
    const same = tensor.shape.join() === spec.shape.join();
    return same ? makeTensorSource(checkpoint, tensor, dtype) : makeExpandedSource(checkpoint, tensor, spec, dtype);
  });
  return writeSafetensors(folder, sources, { ...options, metadata: makeFormMetadata(config) });
}

/**
 * Constant means and the noise at its mean vanish in the softmax, so those variants expand exactly; distance means do
 * not: GPT-2 has no place for them.
 * @throws NfcError "unsupported" for distance means unless `dropNoise`
 */
export function checkExpandable(checkpoint: Checkpoint, dropNoise: boolean): void {
  if (hasDistanceMean(checkpoint.config.variant) && !dropNoise)
    throw new NfcError(
      "unsupported",
      `${checkpoint.source}: plain GPT-2 cannot express the distance means of ${checkpoint.config.variant}, so its logits would change`,
      { hint: "convert with --variant symmetric, or give --drop-noise to lose them" },
    );
}
