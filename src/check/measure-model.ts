// Weighs the files of an entry by their headers: bytes, parameters by group and format, and signs of accidents.

import { stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { NfcError } from "../errors.ts";
import { readOnnxStructure } from "../formats/onnx/reader.ts";
import { locateData } from "../inference/exported/external-data.ts";
import { measureCompressed, sumCompressed } from "../io/brotli.ts";
import { withIoErrors } from "../io/io-error.ts";
import { escapeTerminal } from "../io/printable.ts";
import { type AttentionColumns, findAttentionColumns, findAttentionParts } from "../report/weigh/attention-columns.ts";
import {
  type Accident,
  findAccidents,
  type HeaderTensor,
  readHeaderTensors,
  readOnnxTensors,
  sumFormats,
} from "../report/weigh/header-tensors.ts";
import { sumGroups, sumWeights, type Weight } from "../report/weigh/weights.ts";
import { findModelFiles, toSlashes } from "./model-files.ts";

export interface WeighedModel extends Weight {
  /** Bytes after brotli; null where they were not asked for. */
  brotli: number | null;
  /** Bytes by file name below the configuration's folder. */
  files: Record<string, number>;
  groups: Record<string, Weight>;
  /** Bytes of matrices by format. */
  dtypes: Record<string, number>;
  /** Columns of c_attn in widths, see `findAttentionParts`. */
  attention: 2 | 3 | null;
  /** Null where they are not known. */
  columns: AttentionColumns | null;
  accidents: Accident[];
}

/**
 * @param root folder of the configuration; @param path file, folder or glob below it
 * @returns null where nothing matches
 * @throws NfcError "invalid-file" or "unsupported" for a file that cannot be read, "usage" for a path outside
 */
export async function weighModel(
  root: string,
  path: string,
  { brotli = false, signal }: { brotli?: boolean | undefined; signal?: AbortSignal | undefined } = {},
): Promise<WeighedModel | null> {
  const { models, unread, state, others } = await findModelFiles(root, path);
  const known = models.length + unread.length + state.length;
  if (known + others.length === 0) return null;
  if (known === 0)
    throw new NfcError("unsupported", `${path}: is no model: only .safetensors, .onnx and .gguf files are`, {
      hint: "name the model's file or folder",
    });
  const files = new FileSizes(root);
  const rest: (Weight & { group: string })[] = [];
  const all: HeaderTensor[] = [];
  const accidents: Accident[] = [];
  for (const name of models) {
    await files.add(name);
    const { tensors, data } = await readHeader(root, name);
    for (const file of data) await files.add(file);
    for (const tensor of tensors) all.push(tensor); // there may be more than a call can take as arguments
    accidents.push(...findAccidents(name, tensors));
  }
  for (const name of unread) rest.push({ group: "GGUF", bytes: await files.add(name), parameters: null });
  for (const name of state) {
    rest.push({ group: "optimiser state", bytes: await files.add(name), parameters: 0 });
    const text = `${escapeTerminal(name)} is training state: leave it out of the model`;
    accidents.push({ kind: "optimiser-state", text });
  }
  for (const name of others) {
    const bytes = await files.add(name);
    if (bytes > 0) rest.push({ group: "other files", bytes, parameters: 0 });
  }
  const columns = findAttentionColumns(all);
  return {
    files: sortKeys(files.sizes),
    groups: sortKeys(sumGroups([...all, ...rest])),
    dtypes: sortKeys(sumFormats(all)),
    bytes: files.bytes,
    brotli: brotli ? sumCompressed(files.own, await measureCompressed(files.own, signal)).brotli : null,
    parameters: sumWeights([...all, ...rest]).parameters,
    attention: findAttentionParts(columns),
    columns,
    accidents,
  };
}

/** The tensors of a model file, and its external data, by names below `root`. @throws NfcError where data is missing */
async function readHeader(root: string, name: string): Promise<{ tensors: HeaderTensor[]; data: string[] }> {
  const file = join(root, name);
  if (!name.endsWith(".onnx")) return { tensors: await readHeaderTensors(file), data: [] };
  const structure = await readOnnxStructure(file);
  const { data } = await locateData(structure, root, { anyName: true });
  return { tensors: readOnnxTensors(structure), data: data.map((one) => toSlashes(relative(root, one))) };
}

/** Sizes by name. A file under two names (a link, data that two models share) counts once. */
class FileSizes {
  readonly sizes: Record<string, number> = {};
  bytes = 0;
  /** Paths of the files that count. */
  readonly own: string[] = [];
  private readonly seen = new Set<string>();
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  /** @returns the bytes that this file adds */
  async add(name: string): Promise<number> {
    const file = join(this.root, name);
    const { size, dev, ino } = await withIoErrors(file, () => stat(file, { bigint: true }));
    this.sizes[name] = Number(size);
    const place = `${dev}:${ino}`;
    if (this.seen.has(place)) return 0;
    this.seen.add(place);
    this.bytes += Number(size);
    this.own.push(file);
    return Number(size);
  }
}

function sortKeys<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
