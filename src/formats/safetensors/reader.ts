// Reads safetensors files and sharded checkpoints by position, one tensor or piece at a time.
import { NfcError } from "../../errors.ts";
import { type Keep, openAll } from "../../io/open-all.ts";
import { PositionalFile } from "../../io/positional-file.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { countElements, type Dtype, decodeFloats, isFloatDtype, viewBytes } from "../dtype.ts";
import { PREFIX_BYTES, parseHeader, readHeaderLength, type SafetensorsHeader } from "./header.ts";
import { checkShards, readShardIndex } from "./shard-index.ts";

/** The limit of a Uint8Array in Node 20, far above the largest tensor of GPT-2 XL (322 MB). */
const MAX_ARRAY_BYTES = 2 ** 32;

/** The place of a tensor: `byteLength` bytes from `offset` on in `file`. */
export interface StoredTensor {
  name: string;
  dtype: Dtype;
  shape: number[];
  byteLength: number;
  file: string;
  offset: number;
}

/** Read access to the tensors of one file, or of all shards of an index. */
export interface TensorReader {
  /** The path given to `openSafetensors`. */
  readonly path: string;
  /** The safetensors files, without the index. */
  readonly files: readonly string[];
  /** Bytes of all these files together. */
  readonly byteLength: number;
  /** All tensors in offset order, file by file. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** `__metadata__` of all files; for a key in several files, the first counts. The object has no prototype. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Faults that do no harm, one line each. */
  readonly warnings: readonly string[];
  /**
   * Reads a tensor's bytes into a new array.
   * @throws NfcError `not-found` for an unknown name, `io` when the file cannot be read.
   */
  readBytes(name: string): Promise<Uint8Array>;
  /**
   * Reads a float tensor as float32, flat, in row-major order (F64, F16 and BF16 are converted). With `into`, the values go
   * there and the used part is returned.
   * @throws NfcError `not-found`, `unsupported` for a dtype that is no float, `io`; RangeError when `into` is too short.
   */
  readF32(name: string, into?: Float32Array): Promise<Float32Array>;
  /**
   * Reads a tensor's bytes in pieces of 8 MiB (the last may be shorter). All are views of ONE buffer, from its start: use each
   * piece before asking for the next.
   */
  chunks(name: string): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens a `.safetensors` file, or a `*.safetensors.index.json` with all its shards. Headers are checked, no tensor is
 * read. The files stay open until `close`.
 * @throws NfcError `not-found`, `invalid-file`, `io`
 */
export async function openSafetensors(path: string): Promise<TensorReader> {
  const index = path.endsWith(".index.json") ? await readShardIndex(path) : null;
  return openAll(async (keep) => {
    const shards: OpenShard[] = [];
    if (index) for (const file of index.files) shards.push(await openShard(file.path, keep, `named by ${path}`));
    else shards.push(await openShard(path, keep));
    const headers = shards.map(({ header }) => header);
    return makeReader(path, shards, index ? checkShards(index, headers) : []);
  });
}

/** One open file with its header. `dataOffset` is where the data section begins. */
interface OpenShard {
  file: PositionalFile;
  header: SafetensorsHeader;
  dataOffset: number;
}

async function openShard(path: string, keep: Keep, origin?: string): Promise<OpenShard> {
  const file = keep(await openNamed(path, origin));
  const prefix = await file.read(0, Math.min(PREFIX_BYTES, file.size));
  const length = readHeaderLength(prefix, file.size, path);
  const json = await file.read(PREFIX_BYTES, length);
  const dataOffset = PREFIX_BYTES + length;
  return { file, header: parseHeader(json, file.size - dataOffset, path), dataOffset };
}

async function openNamed(path: string, origin: string | undefined): Promise<PositionalFile> {
  try {
    return await PositionalFile.open(path);
  } catch (error) {
    if (!(error instanceof NfcError) || error.code !== "not-found") throw error;
    const hint = origin ? "a shard is missing: download the whole checkpoint" : "check the path";
    const message = origin ? `${path}: no such file, but it is ${origin}` : error.message;
    throw new NfcError("not-found", message, { hint, cause: error });
  }
}

function makeReader(path: string, shards: readonly OpenShard[], warnings: readonly string[]): TensorReader {
  const files = new Map(shards.map(({ file }) => [file.path, file]));
  const tensors = new Map(shards.flatMap(listStoredTensors).map((tensor) => [tensor.name, tensor]));
  let closed = false;
  const find = (name: string): { tensor: StoredTensor; file: PositionalFile } => {
    if (closed) throw new Error(`${path}: the reader is closed`);
    const tensor = tensors.get(name);
    const file = tensor && files.get(tensor.file);
    if (!tensor || !file) throw new NfcError("not-found", `${path}: no tensor ${quoteUntrusted(name)}`);
    return { tensor, file };
  };
  return {
    path,
    files: [...files.keys()],
    byteLength: shards.reduce((sum, { file }) => sum + file.size, 0),
    tensors,
    metadata: Object.assign(Object.create(null), ...shards.map(({ header }) => header.metadata).reverse()),
    warnings,
    async readBytes(name) {
      const { tensor, file } = find(name);
      return file.read(tensor.offset, checkArrayBytes(tensor, tensor.byteLength));
    },
    async readF32(name, into) {
      const { tensor, file } = find(name);
      return readFloats(tensor, file, into);
    },
    chunks(name) {
      const { tensor, file } = find(name);
      return file.pieces(tensor.offset, tensor.byteLength);
    },
    async close() {
      if (closed) return;
      closed = true;
      await Promise.all([...files.values()].map((file) => file.close()));
    },
  };
}

async function readFloats(tensor: StoredTensor, file: PositionalFile, into?: Float32Array): Promise<Float32Array> {
  const { dtype } = tensor;
  if (!isFloatDtype(dtype)) {
    const where = `${tensor.file}: tensor ${quoteUntrusted(tensor.name)}`;
    throw new NfcError("unsupported", `${where}: ${dtype} is no float format`);
  }
  const count = countElements(tensor.shape);
  if (into && into.length < count) throw new RangeError(`${count} values do not fit in ${into.length}`);
  const out = into ? into.subarray(0, count) : new Float32Array(checkArrayBytes(tensor, count * 4) / 4);
  if (dtype === "F32") {
    await file.readInto(viewBytes(out), tensor.offset);
    return out;
  }
  let done = 0;
  for await (const piece of file.pieces(tensor.offset, tensor.byteLength)) {
    done += decodeFloats(piece, dtype, out.subarray(done)).length;
  }
  return out;
}

function listStoredTensors({ file, header, dataOffset }: OpenShard): StoredTensor[] {
  return [...header.tensors.values()].map(({ name, dtype, shape, begin, end }) => {
    return { name, dtype, shape, byteLength: end - begin, file: file.path, offset: dataOffset + begin };
  });
}

function checkArrayBytes(tensor: StoredTensor, bytes: number): number {
  if (bytes <= MAX_ARRAY_BYTES) return bytes;
  const message = `${tensor.file}: tensor ${quoteUntrusted(tensor.name)}: ${bytes} bytes do not fit in one array`;
  throw new NfcError("unsupported", message, { hint: "read it in pieces" });
}
