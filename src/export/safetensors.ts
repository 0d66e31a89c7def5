// Writes the model as safetensors: compact in a chosen dtype, or expanded to plain GPT-2 ([s, v] → [s, s, v]).

import { type Checkpoint, type CheckpointTensor, requireTensor } from "../checkpoint/checkpoint.ts";
import { makeFormMetadata } from "../checkpoint/form-keys.ts";
import { collectBytes, convertChunks, makeTensorSource } from "../checkpoint/model-folder.ts";
import { NfcError } from "../errors.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import { type TensorSource, type WriteResult, writeSafetensors } from "../formats/safetensors/writer.ts";
import type { ModelConfig } from "../model/config.ts";
import { listParameters } from "../model/parameters.ts";
import { hasDistanceMean } from "../model/variants.ts";

export interface SafetensorsExportOptions {
  /** Dtype of all tensors; each keeps its own unless given. */
  dtype?: FloatDtype | undefined;
  maxShardSize?: number | undefined;
  /** Expand to plain GPT-2: q = k = s, noise dropped. */
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
  const config = gpt2 ? expandConfig(checkpoint.config) : checkpoint.config;
  const sources = listParameters(config).map(({ name, shape }) => {
    const tensor = requireTensor(checkpoint, name);
    const same = tensor.shape.join() === shape.join();
    return same ? makeTensorSource(checkpoint, tensor, dtype) : makeExpandedSource(checkpoint, tensor, shape, dtype);
  });
  return writeSafetensors(folder, sources, { ...options, metadata: makeFormMetadata(config) });
}

/** The plain GPT-2 that a tied model becomes. */
export function expandConfig(config: ModelConfig): ModelConfig {
  return { ...config, variant: "dense" };
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

/** c_attn [·, 2C] as [·, 3C], byte for byte. */
function makeExpandedSource(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  shape: readonly number[],
  dtype: FloatDtype = tensor.dtype,
): TensorSource {
  const rows = shape.length === 2 ? (shape[0] as number) : 1;
  async function* chunks() {
    const packed = await collectBytes(convertChunks(checkpoint.chunks(tensor.name), tensor, dtype)); // rows of [s, v]
    const width = packed.byteLength / rows / 2;
    const out = new Uint8Array(3 * rows * width);
    for (let row = 0; row < rows; row++) {
      const s = packed.subarray(2 * row * width, (2 * row + 1) * width);
      out.set(s, 3 * row * width);
      out.set(packed.subarray(2 * row * width, 2 * (row + 1) * width), (3 * row + 1) * width);
    }
    yield out;
  }
  return { name: tensor.name, dtype, shape, chunks };
}
