// Overwrites a tensor (float32) in a folder's model.safetensors.
import { open } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";

/** Every number of the tensor becomes `value`. */
export async function overwrite(folder: string, name: string, value: number): Promise<void> {
  const file = join(folder, "model.safetensors");
  const reader = await openSafetensors(file);
  const tensor = reader.tensors.get(name);
  await reader.close();
  if (!tensor) throw new Error(`${file} has no ${name}`);
  const handle = await open(file, "r+");
  const values = new Float32Array(tensor.byteLength / Float32Array.BYTES_PER_ELEMENT).fill(value);
  await handle.write(new Uint8Array(values.buffer), 0, tensor.byteLength, tensor.offset);
  await handle.close();
}

export const poison = (folder: string, name: string): Promise<void> => overwrite(folder, name, Number.NaN);
