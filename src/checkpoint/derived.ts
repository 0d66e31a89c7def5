// A checkpoint made from another one without writing it: some tensors are made when they are read, the rest are the base's.
import { countBytes, decodeFloats, type FloatDtype } from "../formats/dtype.ts";
import type { ModelConfig } from "../model/config.ts";
import { listParameters, type ParameterSpec } from "../model/parameters.ts";
import { type Checkpoint, type CheckpointTensor, requireTensor } from "./checkpoint.ts";
import { collectBytes, encodeWithin } from "./model-folder.ts";

/** A tensor that the base does not have as it is: its bytes in `dtype`, which may still be on their way. */
export interface MadeTensor {
  dtype: FloatDtype;
  /** @param name of the tensor, for faults @throws NfcError "unsupported" for a number that the dtype cannot hold */
  chunks(name: string): AsyncIterable<Uint8Array>;
  /** As float32, where that is nearer than decoding the chunks. */
  readF32?: (() => Promise<Float32Array>) | undefined;
}

/** Where a tensor of a derived checkpoint comes from: made, or the base's tensor of this name. */
export type TensorOrigin = MadeTensor | string;

/**
 * The checkpoint of `config` whose tensors come from where `origin` says. Nothing is read before a tensor is asked for.
 * Closing it closes nothing: the base stays the caller's.
 * @param origin of a parameter, for each of `listParameters(config)`
 */
export function deriveCheckpoint(
  base: Checkpoint,
  config: ModelConfig,
  origin: (parameter: ParameterSpec) => TensorOrigin,
): Checkpoint {
  const made = new Map<string, MadeTensor>();
  const copied = new Map<string, string>();
  const tensors = listParameters(config).map((parameter): [string, CheckpointTensor] => {
    const { name, shape } = parameter;
    const from = origin(parameter);
    if (typeof from === "string") {
      const tensor = requireTensor(base, from);
      if (tensor.shape.join() !== shape.join()) throw new Error(`${from} is [${tensor.shape}], ${name} [${shape}]`);
      copied.set(name, from);
      return [name, { ...tensor, name }];
    }
    made.set(name, from);
    const place = { sourceName: name, transposed: false, file: base.source, offset: 0 };
    return [name, { name, dtype: from.dtype, shape, byteLength: countBytes(from.dtype, shape), ...place }];
  });
  return {
    ...base,
    config,
    tensors: new Map(tensors),
    readF32: (name) => {
      const tensor = made.get(name);
      return tensor ? readMade(tensor, name) : base.readF32(copied.get(name) ?? name);
    },
    chunks: (name) => made.get(name)?.chunks(name) ?? base.chunks(copied.get(name) ?? name),
    close: async () => undefined,
  };
}

/** A tensor of values that `read` gives as float32. */
export function makeTensor(dtype: FloatDtype, read: () => Promise<Float32Array>): MadeTensor {
  return {
    dtype,
    async *chunks(name) {
      yield encodeWithin(await read(), name, dtype);
    },
    readF32: read,
  };
}

async function readMade({ dtype, chunks, readF32 }: MadeTensor, name: string): Promise<Float32Array> {
  return readF32 ? readF32() : decodeFloats(await collectBytes(chunks(name)), dtype);
}
