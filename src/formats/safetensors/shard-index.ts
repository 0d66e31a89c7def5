// Parses the shard index (*.safetensors.index.json), keeps its paths inside its folder, and checks it against the shards.
import { dirname, join, posix } from "node:path";
import { NfcError } from "../../errors.ts";
import { withFile } from "../../io/positional-file.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { decodeUtf8, JsonCursor } from "../json-strict.ts";
import type { SafetensorsHeader } from "./header.ts";

/** An index has about 80 bytes a tensor; the largest models have about 100,000. */
const MAX_INDEX_BYTES = 25_000_000;
const MAX_TENSORS = 250_000;
/** Digits of `total_size` to keep: a number of bytes has at most 16. */
const MAX_SHOWN_DIGITS = 24;
const REGENERATE = "the index does not belong to these shards: download or write the checkpoint again";

/** A checked index; `files` in the order of their first mention. */
export interface ShardIndex {
  path: string;
  files: { name: string; path: string }[];
  /** Tensor name to file name. */
  weightMap: ReadonlyMap<string, string>;
  /** `metadata.total_size` as written, when there is one. */
  totalSize: string | undefined;
}

/**
 * Reads an index. Shards may lie in its folder or below, and may be symbolic links (the Hugging Face cache has them);
 * absolute names and names with `..` are refused.
 * @throws NfcError `not-found`, `invalid-file`, `io`
 */
export function readShardIndex(path: string): Promise<ShardIndex> {
  return withFile(path, async (file) => {
    if (file.size > MAX_INDEX_BYTES) {
      throw new NfcError("invalid-file", `${path}: ${file.size} bytes are too many for a shard index`);
    }
    return parseShardIndex(await file.read(0, file.size), path);
  });
}

/** Parses the bytes of an index for {@link readShardIndex}, without file access. */
export function parseShardIndex(bytes: Uint8Array, path: string): ShardIndex {
  const what = `${path}: the shard index`;
  const cursor = new JsonCursor(decodeUtf8(bytes, what), what);
  if (cursor.kind() !== "object") throw invalid(`${what} is not a JSON object`);
  let weightMap: Map<string, string> | undefined;
  let totalSize: string | undefined;
  cursor.object((key) => {
    if (key === "weight_map" && weightMap) throw invalid(`${path}: weight_map stands twice`);
    if (key === "weight_map") weightMap = parseWeightMap(cursor, path);
    else if (key === "metadata" && cursor.kind() === "object") totalSize = parseTotalSize(cursor);
    else cursor.skip();
  });
  cursor.end();
  if (!weightMap) throw invalid(`${path}: weight_map is missing`);
  if (weightMap.size === 0) throw invalid(`${path}: weight_map names no tensors`);
  const files = [...new Set(weightMap.values())].map((name) => ({ name, path: join(dirname(path), name) }));
  return { path, files, weightMap, totalSize };
}

/**
 * Requires that the shards hold exactly the tensors of the index, each once.
 * @param headers those of `index.files`, in that order
 * Returns warnings: a wrong `total_size` is common in the wild and harmless.
 * @throws NfcError `invalid-file`
 */
export function checkShards(index: ShardIndex, headers: readonly SafetensorsHeader[]): string[] {
  const homes = new Map<string, string>();
  let bytes = 0;
  index.files.forEach((file, i) => {
    for (const tensor of headers[i]?.tensors.values() ?? []) {
      const where = `${file.path}: tensor ${quoteUntrusted(tensor.name)}`;
      const other = homes.get(tensor.name);
      if (other !== undefined) throw invalid(`${where}: it is also in ${quoteUntrusted(other)}`);
      const expected = index.weightMap.get(tensor.name);
      if (expected === undefined) throw invalid(`${where}: the index ${index.path} does not name it`);
      homes.set(tensor.name, file.name);
      bytes += tensor.end - tensor.begin;
    }
  });
  for (const [name, file] of index.weightMap) {
    const home = homes.get(name);
    const where = `${index.path}: tensor ${quoteUntrusted(name)}`;
    if (home === undefined) throw invalid(`${where}: it is missing from ${quoteUntrusted(file)}`);
    if (home !== file) throw invalid(`${where}: it is in ${quoteUntrusted(home)}, not in ${quoteUntrusted(file)}`);
  }
  if (index.totalSize === undefined || Number(index.totalSize) === bytes) return [];
  return [`${index.path}: metadata.total_size is ${index.totalSize}, but the tensors have ${bytes} bytes`];
}

function invalid(message: string): NfcError {
  return new NfcError("invalid-file", message, { hint: REGENERATE });
}

function parseWeightMap(cursor: JsonCursor, path: string): Map<string, string> {
  if (cursor.kind() !== "object") throw invalid(`${path}: weight_map is not an object`);
  const weightMap = new Map<string, string>();
  cursor.object((name) => {
    const where = `${path}: tensor ${quoteUntrusted(name)}`;
    if (weightMap.size >= MAX_TENSORS) throw invalid(`${path}: weight_map names more than ${MAX_TENSORS} tensors`);
    if (weightMap.has(name)) throw invalid(`${where}: weight_map names it twice`);
    if (cursor.kind() !== "string") throw invalid(`${where}: its file name is no string`);
    weightMap.set(name, checkContained(cursor.string(), where));
  });
  return weightMap;
}

/** Both kinds of separator are checked on every system, because an index may come from another system. */
function checkContained(name: string, where: string): string {
  if (name === "" || name.includes("\0")) throw invalid(`${where}: ${quoteUntrusted(name)} is no file name`);
  const absolute = /^[\\/]/.test(name) || /^[A-Za-z]:/.test(name);
  if (absolute) throw invalid(`${where}: the shard ${quoteUntrusted(name)} is an absolute path`);
  if (name.split(/[\\/]/).includes(".."))
    throw invalid(`${where}: the shard ${quoteUntrusted(name)} leaves the index's folder`);
  return posix.normalize(name);
}

function parseTotalSize(cursor: JsonCursor): string | undefined {
  let totalSize: string | undefined;
  cursor.object((key) => {
    if (key === "total_size" && cursor.kind() === "number") totalSize = cursor.number().slice(0, MAX_SHOWN_DIGITS);
    else cursor.skip();
  });
  return totalSize;
}
