// The arrays of a run on disk: the values and moments of the trained parameters, in float32.
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { countElements, viewBytes } from "../formats/dtype.ts";
import { openSafetensors } from "../formats/safetensors/reader.ts";
import { SINGLE_FILE } from "../formats/safetensors/shard-plan.ts";
import { makeBytesSource, type TensorSource } from "../formats/safetensors/writer.ts";

export function makeArraySource(name: string, shape: readonly number[], data: Float32Array): TensorSource {
  return makeBytesSource(name, "F32", shape, viewBytes(data));
}

/**
 * Fills arrays from the model.safetensors of a folder, each under its name.
 * @throws NfcError "not-found", "invalid-file" for an array of another size or with impossible values
 */
export async function readArrays(folder: string, arrays: readonly [string, Float32Array][]): Promise<void> {
  const reader = await openSafetensors(join(folder, SINGLE_FILE));
  try {
    for (const [name, array] of arrays) {
      const { shape = null } = reader.tensors.get(name) ?? {};
      if (shape && countElements(shape) !== array.length)
        throw new NfcError(
          "invalid-file",
          `${reader.path}: ${name} has ${countElements(shape)} values, not ${array.length}`,
        );
      checkValues(await reader.readF32(name, array), name, reader.path);
    }
  } finally {
    await reader.close();
  }
}

/** A run goes on only from finite values, and from second moments, which are means of squares, of at least 0. */
function checkValues(values: Float32Array, name: string, path: string): void {
  const least = name.startsWith("moment2/") ? 0 : Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value) || value < least)
      throw new NfcError("invalid-file", `${path}: ${name}[${i}] is ${value}, from which no run can go on`);
  }
}
