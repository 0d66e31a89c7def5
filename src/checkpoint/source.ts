// Finds the weights that a user means: a file, a shard index, or the one checkpoint in a folder.
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { NfcError } from "../errors.ts";
import { INDEX_FILE, SINGLE_FILE } from "../formats/safetensors/shard-plan.ts";
import { findFormatByName } from "../io/file-format.ts";
import { toIoError } from "../io/io-error.ts";
import { findInnerCheckpoints, refuseTrainerFolder } from "./folder-kinds.ts";
import { findPickles, hasForeignName, makePickleError, refuseOtherFormat } from "./foreign-formats.ts";
import { isAddress, suggestHub } from "./hub/suggest.ts";
import { listFirstQuoted } from "./naming/layout.ts";

/** The weights to open, and the folder of their config and tokenizer. */
export interface LocalSource {
  weights: string;
  folder: string;
}

const SHARD = /-\d{5}-of-\d{5}\.safetensors$/;
const INDEX = /\.safetensors\.index\.json$/;

/**
 * @param path a .safetensors file, a *.safetensors.index.json, or a folder that holds one checkpoint
 * @throws NfcError `not-found`, `usage` for an ambiguous folder, `unsupported` for other formats
 */
export async function resolveLocal(path: string): Promise<LocalSource> {
  if (isAddress(path)) throw makeAbsentError(path);
  const stats = await statOrThrow(path);
  if (stats.isDirectory()) return { weights: join(path, await chooseWeights(path)), folder: path };
  if (/\.bin\.index\.json$/.test(path)) {
    const pickles = findPickles(dirname(path), await readdir(dirname(path)));
    throw makePickleError(path, pickles.length > 0 ? pickles : [path.replace(/\.index\.json$/, "")]);
  }
  if (path.endsWith(".json") && !INDEX.test(path)) {
    throw new NfcError("usage", `${path}: is not a checkpoint or a shard index (*.safetensors.index.json)`, {
      hint: `give the model's folder: ${dirname(path)}`,
    });
  }
  if (SHARD.test(path)) {
    throw new NfcError("usage", `${path}: is one shard of a checkpoint`, {
      hint: `give its folder or its index: ${join(dirname(path), INDEX_FILE)}`,
    });
  }
  if (!INDEX.test(path)) await refuseOtherFormat(path);
  return { weights: path, folder: dirname(path) };
}

async function statOrThrow(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw toIoError(error, path);
    throw makeAbsentError(path);
  }
}

function makeAbsentError(path: string): NfcError {
  return new NfcError("not-found", `${path}: no such file or folder`, { hint: suggestHub(path) ?? "check the path" });
}

/** model.safetensors, its index, or the only index or file there is; a folder with anything else says what it holds. */
async function chooseWeights(folder: string): Promise<string> {
  const names = (await readdir(folder).catch((error: unknown) => Promise.reject(toIoError(error, folder)))).filter(
    (name) => !name.startsWith("."),
  );
  refuseTrainerFolder(folder, names);
  const chosen = selectWeights(names, folder);
  if (chosen !== null) {
    if (!INDEX.test(chosen)) await refuseOtherFormat(join(folder, chosen));
    return chosen;
  }
  throw await makeNothingToReadError(folder, names);
}

/**
 * The file to open among a folder's names, or null when there is none.
 * @throws NfcError `usage` when several would do
 */
export function selectWeights(names: readonly string[], folder: string): string | null {
  for (const name of [SINGLE_FILE, INDEX_FILE]) if (names.includes(name)) return name;
  const indexes = names.filter((name) => INDEX.test(name));
  if (indexes.length === 1) return indexes[0] ?? null;
  const files = names.filter((name) => name.endsWith(".safetensors") && !SHARD.test(name));
  if (indexes.length === 0 && files.length <= 1) return files[0] ?? null;
  const message = `${folder}: holds several checkpoints: ${listFirstQuoted([...indexes, ...files].sort())}`;
  throw new NfcError("usage", message, { hint: "name the file itself" });
}

async function makeNothingToReadError(folder: string, names: readonly string[]): Promise<NfcError> {
  const pickles = findPickles(folder, names);
  if (pickles.length > 0) return makePickleError(pickles.length === 1 ? (pickles[0] ?? folder) : folder, pickles);
  if (names.some((name) => SHARD.test(name))) {
    return new NfcError("not-found", `${folder}: has shards but no ${INDEX_FILE}`, {
      hint: "download the index as well",
    });
  }
  const foreign = names.filter((name) => hasForeignName(name) || name === "onnx");
  if (foreign.length > 0) {
    const message = `${folder}: holds ${listFirstQuoted(foreign.map((name) => basename(name)))}, but no safetensors file`;
    const hint = findFormatByName(foreign[0] ?? "")?.asCheckpoint ?? "give the safetensors checkpoint it was made from";
    return new NfcError("unsupported", message, { hint });
  }
  const inner = await findInnerCheckpoints(folder, names);
  const last = inner.at(-1);
  if (last !== undefined)
    return new NfcError("usage", `${folder}: holds no weights itself, but the folders ${listFirstQuoted(inner)} do`, {
      hint: `name one of them, for example the last: ${join(folder, last)}`,
    });
  return new NfcError("not-found", `${folder}: holds no safetensors checkpoint`, {
    hint: `expected ${SINGLE_FILE} or ${INDEX_FILE} in it`,
  });
}
