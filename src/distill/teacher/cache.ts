// The teacher's k most likely tokens at every position of the corpus, on disk: computed once, read by window.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { NfcError } from "../../errors.ts";
import { decodeFloats, encodeFloats } from "../../formats/dtype.ts";
import type { SessionOptions, Tensor } from "../../graph/session.ts";
import { writeFully } from "../../io/durable.ts";
import { findDefaultCache } from "../data/token-cache.ts";
import { replaceInCache } from "../data/token-file.ts";
import type { TokenRange } from "../data/windows.ts";
import { STEP, type TeacherInput } from "../step/step-graph.ts";
import type { TeacherPrecision, TeacherSource } from "./teacher.ts";
import { type TopK, TopKTeacher } from "./top-k.ts";

/** Part of the cache files' names, so that those of another version are not found. */
const FORMAT = "nfc-teacher/1";
/** Window + 1 and CRC-32, uint32 each. */
const HEADER_BYTES = 8;

export interface CachedTeacherOptions extends SessionOptions {
  batch: number;
  length: number;
  k: number;
  precision: TeacherPrecision;
  /** The training tokens; window w begins at its start + w·length. */
  range: TokenRange;
  /** Folder for cache files; that of the token cache's, and in it teacher/, unless given. */
  cache?: string | undefined;
}

/**
 * A teacher that runs only on windows that the file lacks, one at a time: what is stored of a window depends on nothing
 * but the window, so that a run's result does not depend on which run filled the file. The student sees the rounded
 * values on the first pass too.
 */
export class CachedTeacher implements TeacherSource {
  readonly input: TeacherInput;
  private readonly checkpoint: Checkpoint;
  private readonly options: CachedTeacherOptions;
  private readonly file: TopKFile;
  private readonly ids: BigInt64Array; // [B·T, k]
  private readonly logProbabilities: Float32Array; // [B·T, k]
  private teacher: TopKTeacher | null = null;

  private constructor(checkpoint: Checkpoint, options: CachedTeacherOptions, file: TopKFile) {
    const { batch, length, k } = options;
    this.checkpoint = checkpoint;
    this.options = options;
    this.file = file;
    this.ids = new BigInt64Array(batch * length * k);
    this.logProbabilities = new Float32Array(batch * length * k);
    this.input = { kind: "top-k", k };
  }

  /** @throws NfcError "usage" for more tokens than the vocabulary has, "io" with a hint at --cache */
  static async open(checkpoint: Checkpoint, options: CachedTeacherOptions): Promise<CachedTeacher> {
    const { k, length, cache = findDefaultCache("teacher") } = options;
    const { vocab_size } = checkpoint.config;
    if (k > vocab_size)
      throw new NfcError("usage", `--cache-teacher ${k}: ${checkpoint.source} has ${vocab_size} tokens`, {
        hint: `take ${vocab_size} at most`,
      });
    const path = join(cache, `${await makeKey(checkpoint, options)}.topk`);
    return new CachedTeacher(checkpoint, options, await TopKFile.open(path, length * k, vocab_size));
  }

  async feeds(inputs: Int32Array, windows: Int32Array): Promise<Record<string, Tensor>> {
    const { length, k } = this.options;
    const size = length * k;
    for (const [b, window] of windows.entries()) {
      const into = {
        ids: this.ids.subarray(b * size, (b + 1) * size),
        logProbabilities: this.logProbabilities.subarray(b * size, (b + 1) * size),
      };
      if (await this.file.read(window, into)) continue;
      this.teacher ??= await TopKTeacher.open(this.checkpoint, this.options);
      await this.file.write(window, await this.teacher.run(inputs.subarray(b * length, (b + 1) * length)), into);
    }
    const shape = [windows.length * length, k];
    return {
      [STEP.teacherIds]: { dtype: "int64", data: this.ids, shape },
      [STEP.teacherLogProbabilities]: { dtype: "float32", data: this.logProbabilities, shape },
    };
  }

  async close(): Promise<void> {
    await this.teacher?.close();
    await this.file.close();
  }
}

/** Everything that an entry depends on. */
async function makeKey(checkpoint: Checkpoint, options: CachedTeacherOptions): Promise<string> {
  const { range, length, k, precision, device = "cpu" } = options;
  const weights = (await describeSource(checkpoint)).files.map(({ sha256 }) => sha256);
  const parts = [
    FORMAT,
    weights,
    checkpoint.config,
    range.corpus.fingerprint,
    range.start,
    length,
    k,
    precision,
    device,
  ];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/**
 * Entries of one size, the w-th at w times that size: header, ids (uint16, or uint32 for a larger vocabulary), float16
 * log-probabilities; little-endian. An entry that is missing, cut or half written fails its checksum, so nothing needs to
 * be synced, and several processes may fill one file: they write the same bytes.
 */
export class TopKFile {
  private readonly path: string;
  private readonly handle: FileHandle;
  private readonly values: number;
  private readonly idBytes: 2 | 4;
  private readonly entry: Uint8Array;

  private constructor(path: string, handle: FileHandle, values: number, vocabulary: number) {
    this.path = path;
    this.handle = handle;
    this.values = values;
    this.idBytes = vocabulary <= 2 ** 16 ? 2 : 4;
    this.entry = new Uint8Array(HEADER_BYTES + values * (this.idBytes + 2));
  }

  /** @param values of an entry: T·k ids and as many log-probabilities */
  static open(path: string, values: number, vocabulary: number): Promise<TopKFile> {
    return replaceInCache(path, async () => {
      await mkdir(dirname(path), { recursive: true });
      const handle = await open(path, constants.O_RDWR | constants.O_CREAT);
      return new TopKFile(path, handle, values, vocabulary);
    });
  }

  /** Reads a window into `into`; false, with `into` untouched, when the file lacks it. */
  async read(window: number, into: TopK): Promise<boolean> {
    const { entry } = this;
    const { bytesRead } = await replaceInCache(this.path, () =>
      this.handle.read(entry, 0, entry.byteLength, window * entry.byteLength),
    );
    const [stored, checksum] = new Uint32Array(entry.buffer, 0, 2);
    if (bytesRead < entry.byteLength || stored !== window + 1 || checksum !== this.checksum(window)) return false;
    this.decode(into);
    return true;
  }

  /** Stores the teacher's output for a window, and gives it rounded, as it will be read. */
  async write(window: number, { ids, logProbabilities }: TopK, into: TopK): Promise<void> {
    const { entry } = this;
    this.storedIds().set(viewLowHalves(ids));
    entry.set(encodeFloats(logProbabilities, "F16"), HEADER_BYTES + this.values * this.idBytes);
    new Uint32Array(entry.buffer, 0, 2).set([window + 1, this.checksum(window)]);
    await replaceInCache(this.path, () => writeFully(this.handle, entry, window * entry.byteLength));
    this.decode(into);
  }

  close(): Promise<void> {
    return replaceInCache(this.path, () => this.handle.close());
  }

  private decode({ ids, logProbabilities }: TopK): void {
    const low = encodeHalves(ids);
    for (const [i, id] of this.storedIds().entries()) low[2 * i] = id;
    decodeFloats(this.entry.subarray(HEADER_BYTES + this.values * this.idBytes), "F16", logProbabilities);
  }

  private storedIds(): Uint16Array | Uint32Array {
    const { buffer } = this.entry;
    return this.idBytes === 2
      ? new Uint16Array(buffer, HEADER_BYTES, this.values)
      : new Uint32Array(buffer, HEADER_BYTES, this.values);
  }

  private checksum(window: number): number {
    return crc32(this.entry.subarray(HEADER_BYTES), window);
  }
}

/** The ids as 32-bit numbers: the low halves of the int64 values, which are at the even places. */
function encodeHalves(ids: BigInt64Array): Int32Array {
  return new Int32Array(ids.buffer, ids.byteOffset, 2 * ids.length);
}

function viewLowHalves(ids: BigInt64Array): Int32Array {
  const both = encodeHalves(ids);
  return Int32Array.from({ length: ids.length }, (_, i) => both[2 * i] as number);
}
