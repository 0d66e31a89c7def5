// Locates the files of one exported model: external data must be large enough and must not lie outside the folder.
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { NfcError } from "../../errors.ts";
import type { OnnxExternal, OnnxStructure } from "../../formats/onnx/structure.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { contains } from "../../io/output-guard.ts";
import { quoteUntrusted } from "../../io/printable.ts";

/** protobuf's limit, beyond which ONNX Runtime reads no model file. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;
const INCOMPLETE = "download or export the model again, with all its files";

export interface DataOptions {
  /** Any name below the model's own folder will do; else only those that transformers.js looks for. */
  anyName?: boolean | undefined;
}

/**
 * The external data files of a model, in the order of their first use, and the bytes of all its files.
 * @param folder the model folder, which links must not leave; the model file itself has been looked at
 * @throws NfcError "invalid-file" for a name that is not the model's own, a link that leads out of the folder, or a
 * file that is too short; "not-found"
 */
export async function locateData(
  structure: OnnxStructure,
  folder: string,
  { anyName = false }: DataOptions = {},
): Promise<{ data: string[]; bytes: number }> {
  const { path, fileBytes } = structure;
  if (fileBytes > MAX_MODEL_BYTES)
    throw new NfcError("invalid-file", `${path}: has ${fileBytes} bytes; an ONNX file holds 2 GiB at most`, {
      hint: "export with --external-data",
    });
  let bytes = fileBytes;
  const data: string[] = [];
  for (const [location, needed] of listExtents(structure, anyName)) {
    const file = join(dirname(path), location);
    await refuseLinkOut(file, folder);
    const status = await withIoErrors(file, () => stat(file));
    if (!status.isFile()) throw new NfcError("invalid-file", `${file}: is no regular file`, { hint: INCOMPLETE });
    if (status.size < needed)
      throw new NfcError("invalid-file", `${file}: has ${status.size} bytes, ${basename(path)} needs ${needed}`, {
        hint: INCOMPLETE,
      });
    bytes += status.size;
    data.push(file);
  }
  return { data, bytes };
}

/** Location → bytes that the file must have. */
function listExtents({ path, initializers }: OnnxStructure, anyName: boolean): Map<string, number> {
  const ends = new Map<string, number>();
  for (const { name, external, byteLength } of initializers) {
    if (!external) continue;
    checkLocation(path, name, external, anyName);
    const end = external.offset + byteLength;
    ends.set(external.location, Math.max(end, ends.get(external.location) ?? 0));
  }
  return ends;
}

/** Accepts the names that transformers.js looks for, `<model file>_data`, `_data_1`, …, and none outside the folder. */
function checkLocation(path: string, tensor: string, { location }: OnnxExternal, anyName: boolean): void {
  const model = basename(path);
  const own = location.startsWith(`${model}_data`) && /^(_[1-9]\d{0,2})?$/.test(location.slice(model.length + 5));
  const leaves = /^[\\/]|^[A-Za-z]:/.test(location) || location.split(/[\\/]/).includes("..");
  if (own || (anyName && !leaves)) return;
  const fact = leaves ? "leaves the model's folder" : `is not ${model}_data or ${model}_data_N`;
  const message = `${path}: tensor ${quoteUntrusted(tensor)}: external data ${quoteUntrusted(location)} ${fact}`;
  throw new NfcError("invalid-file", message, {
    hint: "export the model again, or rewrite it with onnx.save and that location",
  });
}

/** @throws NfcError "invalid-file" for a file that lies elsewhere than its name says, "not-found" */
export async function refuseLinkOut(file: string, folder: string): Promise<void> {
  const resolve = (path: string) => withIoErrors(path, () => realpath(path));
  const [root, place] = await Promise.all([resolve(folder), resolve(file)]);
  if (contains(root, place)) return;
  throw new NfcError("invalid-file", `${file}: is a link that leads out of ${folder}`, {
    hint: "copy the folder with its links followed: cp -rL",
  });
}
