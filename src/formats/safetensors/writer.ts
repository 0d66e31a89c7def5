// Writes safetensors files as a stream, in shards when asked, byte for byte as the reference implementation does.
import { join } from "node:path";
import { NfcError } from "../../errors.ts";
import { type DurableFile, writeDurably } from "../../io/durable.ts";
import { PIECE_BYTES } from "../../io/positional-file.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { timePhase } from "../../io/timings.ts";
import { countBytes, type Dtype } from "../dtype.ts";
import type { TensorInfo } from "./header.ts";
import { INDEX_FILE, type PlannedFile, planFiles } from "./shard-plan.ts";

/** Pieces up to this size are gathered before they are written: a system call for each bias costs more than its copy. */
const GATHER_BYTES = 1024 * 1024;

/** A tensor to write; `chunks` must deliver exactly the bytes that dtype and shape say. */
export interface TensorSource {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  chunks(): AsyncIterable<Uint8Array>;
}

export interface WriteOptions {
  /** Entries of `__metadata__` beside `format: "pt"`, which is always there. */
  metadata?: Record<string, string> | undefined;
  /** Largest number of tensor bytes in one file; a single larger tensor gets a file of its own. */
  maxShardSize?: number | undefined;
  /** Called after each write with bytes so far and in all (headers and index included). */
  onBytes?: ((written: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface WriteResult {
  /** The safetensors files in order, then the index when there is one. */
  files: { name: string; bytes: number }[];
  /** Bytes of all of them. */
  byteLength: number;
}

/**
 * Writes `model.safetensors`, or `model-00001-of-0000N.safetensors` … and `model.safetensors.index.json` when
 * `maxShardSize` is exceeded, into `folder`, and syncs each file. Tensors are asked for one at a time, in the order in
 * which they lie in the file. Not atomic by itself: `folder` should be a staging folder.
 * @throws NfcError `usage` (names, shapes), `mismatch` (a source delivers too much or too little), `io`, `aborted`
 */
export function writeSafetensors(
  folder: string,
  tensors: readonly TensorSource[],
  options: WriteOptions = {},
): Promise<WriteResult> {
  return timePhase("writing tensors", () => writeFiles(folder, tensors, options));
}

async function writeFiles(
  folder: string,
  tensors: readonly TensorSource[],
  options: WriteOptions,
): Promise<WriteResult> {
  const plan = planFiles(tensors, options.metadata ?? {}, options.maxShardSize);
  const sources = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const index = plan.index === undefined ? undefined : Buffer.from(plan.index, "utf8");
  const files = plan.files.map(({ name, bytes }) => ({ name, bytes }));
  if (index) files.push({ name: INDEX_FILE, bytes: index.byteLength });
  const byteLength = files.reduce((sum, file) => sum + file.bytes, 0);
  const progress = trackProgress(byteLength, options);
  for (const file of plan.files) {
    await writeOne(join(folder, file.name), progress, (output) => writeTensors(output, file, sources));
  }
  if (index) await writeOne(join(folder, INDEX_FILE), progress, (output) => output.write(index));
  return { files, byteLength };
}

/** Makes a source of bytes in memory. */
export function makeBytesSource(name: string, dtype: Dtype, shape: readonly number[], bytes: Uint8Array): TensorSource {
  return {
    name,
    dtype,
    shape,
    async *chunks() {
      for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
    },
  };
}

async function writeOne(path: string, progress: Progress, fill: (output: Output) => Promise<void>): Promise<void> {
  progress.check(path);
  const write = async (file: DurableFile) => {
    const output = makeOutput(path, file, progress);
    await fill(output);
    await output.flush();
    progress.check(path);
  };
  await writeDurably(path, write, { overwrite: true });
}

async function writeTensors(
  output: Output,
  file: PlannedFile,
  sources: ReadonlyMap<string, TensorSource>,
): Promise<void> {
  await output.write(file.header);
  for (const tensor of file.order) {
    await writeTensor(output, tensor, sources.get(tensor.name) as TensorSource); // the plan was made from the same list
  }
}

async function writeTensor(output: Output, tensor: TensorInfo, source: TensorSource): Promise<void> {
  const expected = countBytes(tensor.dtype, tensor.shape);
  const where = `${output.path}: tensor ${quoteUntrusted(tensor.name)}`;
  let delivered = 0;
  for await (const chunk of source.chunks()) {
    delivered += chunk.byteLength;
    if (delivered > expected)
      throw new NfcError("mismatch", `${where}: its source delivers more than ${expected} bytes`);
    await output.write(chunk);
  }
  if (delivered < expected) {
    throw new NfcError("mismatch", `${where}: its source delivers ${delivered} bytes, not ${expected}`);
  }
}

/** Counts the bytes of all files, and ends the write when the signal fires. */
interface Progress {
  check(path: string): void;
  add(bytes: number): void;
}

function trackProgress(total: number, { signal, onBytes }: WriteOptions): Progress {
  let written = 0;
  return {
    check(path) {
      if (!signal?.aborted) return;
      throw new NfcError("aborted", `${path}: writing was interrupted`, { cause: signal.reason });
    },
    add(bytes) {
      written += bytes;
      onBytes?.(written, total);
    },
  };
}

/** One file being written: small pieces are gathered, large ones go straight to the system. */
interface Output {
  path: string;
  write(bytes: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

function makeOutput(path: string, file: DurableFile, progress: Progress): Output {
  const gathered = new Uint8Array(GATHER_BYTES);
  let pending = 0;
  const pass = async (bytes: Uint8Array) => {
    await file.write(bytes);
    progress.add(bytes.byteLength);
  };
  const flush = async () => {
    const length = pending;
    pending = 0;
    if (length > 0) await pass(gathered.subarray(0, length));
  };
  const write = async (bytes: Uint8Array) => {
    progress.check(path);
    if (pending + bytes.byteLength > GATHER_BYTES) await flush();
    if (bytes.byteLength > GATHER_BYTES) return pass(bytes);
    gathered.set(bytes, pending);
    pending += bytes.byteLength;
  };
  return { path, write, flush };
}
