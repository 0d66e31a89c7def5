// Overwrites a tensor (float32) in a folder's model.safetensors.
import { open } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";

/** Every number of the tensor becomes `value`, or what a function makes of it. */
export async function overwrite(
  folder: string,
  name: string,
  value: number | ((old: number) => number),
): Promise<void> {
  const file = join(folder, "model.safetensors");
  const reader = await openSafetensors(file);
  const tensor = reader.tensors.get(name);
  if (!tensor) throw new Error(`${file} has no ${name}`);
  const values = (await reader.readF32(name)).map((old) => (typeof value === "number" ? value : value(old)));
  await reader.close();
  const handle = await open(file, "r+");
  await handle.write(new Uint8Array(values.buffer, values.byteOffset), 0, tensor.byteLength, tensor.offset);
  await handle.close();
}

export const poison = (folder: string, name: string): Promise<void> => overwrite(folder, name, Number.NaN);
