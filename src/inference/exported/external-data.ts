// Locates the files of one exported model: external data must be large enough and must not lie outside the folder.
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { NfcError } from "../../errors.ts";
import type { OnnxExternal, OnnxStructure } from "../../formats/onnx/structure.ts";
import { fileExists } from "../../io/exists.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { contains } from "../../io/output-guard.ts";
import { quoteUntrusted } from "../../io/printable.ts";

/** protobuf's limit, beyond which ONNX Runtime reads no model file. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;
const INCOMPLETE = "download or export the model again, with all its files";

export interface DataOptions {
  /** Any name below the model's own folder will do; else only those that transformers.js looks for. */
  anyName?: boolean | undefined;
  /** Files that are not there are passed over: the caller does with the sizes that the model states. */
  mayLack?: boolean | undefined;
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
  { anyName = false, mayLack = false }: DataOptions = {},
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
    if (mayLack && !fileExists(file)) continue;
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

/** Location → bytes that the file must have. @throws NfcError "invalid-file" for tensors that share some of their bytes */
function listExtents({ path, initializers }: OnnxStructure, anyName: boolean): Map<string, number> {
  const places = new Map<string, Place[]>();
  for (const { name, external, byteLength } of initializers) {
    if (!external) continue;
    checkLocation(path, name, external, anyName);
    const { location, offset } = external;
    const own = places.get(location);
    const place = { name, begin: offset, end: offset + byteLength };
    if (own) own.push(place);
    else places.set(location, [place]);
  }
  for (const found of places.values()) refuseOverlap(path, found);
  return new Map(
    Array.from(places, ([location, found]) => [location, found.reduce((most, { end }) => Math.max(most, end), 0)]),
  );
}

interface Place {
  name: string;
  begin: number;
  end: number;
}

/** Two names of one weight have all bytes in common; any other overlap is a wrong offset. */
function refuseOverlap(path: string, places: readonly Place[]): void {
  const sorted = places.filter(({ begin, end }) => end > begin).sort((a, b) => a.begin - b.begin || a.end - b.end);
  for (const [i, { name, begin, end }] of sorted.entries()) {
    const next = sorted[i + 1];
    if (!next || next.begin >= end || (next.begin === begin && next.end === end)) continue;
    const fact = `the external data of ${quoteUntrusted(name)} and ${quoteUntrusted(next.name)} overlap`;
    throw new NfcError("invalid-file", `${path}: ${fact}`, { hint: INCOMPLETE });
  }
}

/** Accepts the names that transformers.js looks for, `<model file>_data`, `_data_1`, …; or any. */
function checkLocation(path: string, tensor: string, { location }: OnnxExternal, anyName: boolean): void {
  const model = basename(path);
  const own = location.startsWith(`${model}_data`) && /^(_[1-9]\d{0,2})?$/.test(location.slice(model.length + 5));
  const itself = join(dirname(path), location) === join(path);
  if (!itself && (own || anyName)) return;
  const fact = itself ? "is the model file itself" : `is not ${model}_data or ${model}_data_N`;
  const message = `${path}: tensor ${quoteUntrusted(tensor)}: external data ${quoteUntrusted(location)} ${fact}`;
  throw new NfcError("invalid-file", message, {
    hint: "export the model again, or rewrite it with onnx.save and that location",
  });
}

/**
 * @returns where the file really lies
 * @throws NfcError "invalid-file" for a file that lies elsewhere than its name says, "not-found"
 */
export async function refuseLinkOut(file: string, folder: string): Promise<string> {
  const resolve = (path: string) => withIoErrors(path, () => realpath(path));
  const [root, place] = await Promise.all([resolve(folder), resolve(file)]);
  if (contains(root, place)) return place;
  throw new NfcError("invalid-file", `${file}: is a link that leads out of ${folder}`, {
    hint: "copy the folder with its links followed: cp -rL",
  });
}
