// The arrays of a run on disk: the values and moments of the trained parameters, in float32.
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { countElements, viewBytes } from "../formats/dtype.ts";
import { openSafetensors } from "../formats/safetensors/reader.ts";
import { SINGLE_FILE } from "../formats/safetensors/shard-plan.ts";
import { makeBytesSource, type TensorSource } from "../formats/safetensors/writer.ts";
import type { ParameterState, StatePart } from "./step/parameter-state.ts";

/** A part of a parameter, and its name in the file. */
export interface StateArray {
  key: string;
  name: string;
  part: StatePart;
}

/** Arrays of the trained parameters, each as PART/NAME, the grids first; those parts that a parameter has not are left out. */
export function listArrays(store: ParameterState, parts: readonly StatePart[]): StateArray[] {
  return parts.flatMap((part) =>
    store.trained
      .filter((name) => store.shapePart(name, part) !== null)
      .map((name) => ({ key: `${part}/${name}`, name, part })),
  );
}

/** A part of a parameter, read when it is written. */
export function makeArraySource(store: ParameterState, { key, name, part }: StateArray): TensorSource {
  const shape = store.shapePart(name, part) ?? [];
  return {
    name: key,
    dtype: "F32",
    shape,
    async *chunks() {
      yield* makeBytesSource(key, "F32", shape, viewBytes(await store.read(name, part))).chunks();
    },
  };
}

/**
 * Fills parts of parameters from the model.safetensors of a folder. The grids of a run that did not round yet are not
 * there: rounding is then off, and they are chosen when it begins.
 * @throws NfcError "not-found", "invalid-file" for an array of another size or with impossible values
 */
export async function readArrays(folder: string, store: ParameterState, arrays: readonly StateArray[]): Promise<void> {
  const reader = await openSafetensors(join(folder, SINGLE_FILE));
  let rounds = true;
  try {
    for (const { key, name, part } of arrays) {
      const { shape = null } = reader.tensors.get(key) ?? {};
      if (part === "grid" && !shape) {
        rounds = false;
        continue;
      }
      const size = countElements(store.shapePart(name, part) ?? []);
      if (shape && countElements(shape) !== size)
        throw new NfcError("invalid-file", `${reader.path}: ${key} has ${countElements(shape)} values, not ${size}`);
      await store.fill(name, part, async (into) => checkValues(await reader.readF32(key, into), key, reader.path));
    }
    if (!rounds) await store.setRounding(false);
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
