// The teacher's k most likely tokens, or k drawn ones, at every position of the corpus, on disk: computed once, read by window.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { NfcError } from "../../errors.ts";
import { decodeFloats, encodeFloats } from "../../formats/dtype.ts";
import { makeFloat32Tensor, type SessionOptions } from "../../graph/session.ts";
import { writeFully } from "../../io/durable.ts";
import { findDefaultCache } from "../data/token-cache.ts";
import { withCacheErrors } from "../data/token-file.ts";
import type { TokenRange } from "../data/windows.ts";
import { STEP } from "../step/step-graph.ts";
import type { TrainSettings } from "../train-settings.ts";
import { weighTokens } from "./draw-tokens.ts";
import { openSampledTeacher } from "./sampled.ts";
import type { TeacherPrecision, TeacherSource } from "./teacher.ts";
import { openTopKTeacher, type TopK, type TopKTeacher } from "./top-k.ts";

type CacheKind = TrainSettings["cacheKind"];
const OPEN = { "top-k": openTopKTeacher, sampled: openSampledTeacher } as const satisfies Record<CacheKind, unknown>;

/** Part of the cache files' names, so that those of another version are not found. */
const FORMAT = "nfc-teacher/1";
/** Window + 1 and CRC-32, uint32 each. */
const HEADER_BYTES = 8;

export interface CachedTeacherOptions extends SessionOptions {
  batch: number;
  length: number;
  k: number;
  /** Whether the k most likely tokens are stored, or k that are drawn; the most likely unless given. */
  kind?: CacheKind | undefined;
  precision: TeacherPrecision;
  /** The training tokens; window w begins at its start + w·length. */
  range: TokenRange;
  /** Folder for cache files; that of the token cache's, and in it teacher/, unless given. */
  cache?: string | undefined;
}

/**
 * Opens a teacher that runs only on windows that the file lacks, one at a time: what is stored of a window depends on
 * nothing but the window, so that a run's result does not depend on which run filled the file. The student sees the
 * rounded values on the first pass too.
 * @throws NfcError "usage" for more tokens than the vocabulary has, "io" with a hint at --cache
 */
export async function openCachedTeacher(checkpoint: Checkpoint, options: CachedTeacherOptions): Promise<TeacherSource> {
  const { batch, length, k, kind = "top-k", cache = findDefaultCache("teacher") } = options;
  const { vocab_size } = checkpoint.config;
  if (k > vocab_size)
    throw new NfcError("usage", `--cache-teacher ${k}: ${checkpoint.source} has ${vocab_size} tokens`, {
      hint: `take ${vocab_size} at most`,
    });
  const size = length * k;
  const file = await openTopKFile(join(cache, `${await makeKey(checkpoint, options)}.topk`), size, vocab_size);
  const ids = new BigInt64Array(batch * size);
  const logProbabilities = new Float32Array(batch * size);
  const weights = new Float32Array(kind === "sampled" ? batch * size : 0);
  let teacher: TopKTeacher | null = null;
  return {
    input: { kind, k },
    async feeds(inputs, windows) {
      for (const [b, window] of windows.entries()) {
        const [from, to] = [b * size, (b + 1) * size];
        const into = { ids: ids.subarray(from, to), logProbabilities: logProbabilities.subarray(from, to) };
        if (await file.read(window, into)) continue;
        teacher ??= await OPEN[kind](checkpoint, options);
        await file.write(window, await teacher.run(inputs.subarray(b * length, (b + 1) * length), window), into);
      }
      for (let at = 0; at < weights.length; at += k)
        weighTokens(logProbabilities.subarray(at, at + k), weights.subarray(at, at + k));
      const shape = [windows.length * length, k];
      return {
        [STEP.teacherIds]: { dtype: "int64", data: ids, shape },
        [STEP.teacherLogProbabilities]: { dtype: "float32", data: logProbabilities, shape },
        ...(kind === "sampled" && { [STEP.teacherWeights]: makeFloat32Tensor(weights, shape) }),
      };
    },
    async close() {
      await teacher?.close();
      await file.close();
    },
  };
}

/** Hashes everything that an entry depends on. */
async function makeKey(checkpoint: Checkpoint, options: CachedTeacherOptions): Promise<string> {
  const { range, length, k, kind = "top-k", precision, device = "cpu" } = options;
  const weights = (await describeSource(checkpoint)).files.map(({ sha256 }) => sha256);
  const data = [range.corpus.fingerprint, range.start, length];
  const { config, selection } = checkpoint;
  const parts = [
    FORMAT,
    weights,
    config,
    ...data,
    k,
    precision,
    device,
    ...(selection === undefined ? [] : [selection]),
    ...(kind === "top-k" ? [] : [kind]),
  ];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

export interface TopKFile {
  /** Reads a window into `into`; false, with `into` untouched, when the file lacks it. */
  read(window: number, into: TopK): Promise<boolean>;
  /** Stores the teacher's output for a window, and gives it rounded, as it will be read. */
  write(window: number, output: TopK, into: TopK): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a file of entries of one size, the w-th at w times that size: header, ids (uint16, or uint32 for a larger
 * vocabulary), float16 log-probabilities; little-endian. An entry that is missing, cut or half written fails its
 * checksum, so nothing needs to be synced, and several processes may fill one file: they write the same bytes.
 * @param values of an entry: T·k ids and as many log-probabilities
 */
export async function openTopKFile(path: string, values: number, vocabulary: number): Promise<TopKFile> {
  const handle = await withCacheErrors(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    return open(path, constants.O_RDWR | constants.O_CREAT);
  });
  const Ids = vocabulary <= 2 ** 16 ? Uint16Array : Uint32Array;
  const start = HEADER_BYTES + values * Ids.BYTES_PER_ELEMENT; // of the log-probabilities
  const entry = new Uint8Array(start + 2 * values);
  const header = new Uint32Array(entry.buffer, 0, 2);
  const storedIds = new Ids(entry.buffer, HEADER_BYTES, values);
  const computeChecksum = (window: number) => crc32(entry.subarray(HEADER_BYTES), window);
  const decode = ({ ids, logProbabilities }: TopK) => {
    const low = viewHalves(ids);
    for (const [i, id] of storedIds.entries()) low[2 * i] = id;
    decodeFloats(entry.subarray(start), "F16", logProbabilities);
  };
  return {
    async read(window, into) {
      const { bytesRead } = await withCacheErrors(path, () =>
        handle.read(entry, 0, entry.byteLength, window * entry.byteLength),
      );
      const [stored, checksum] = header;
      if (bytesRead < entry.byteLength || stored !== window + 1 || checksum !== computeChecksum(window)) return false;
      decode(into);
      return true;
    },
    async write(window, { ids, logProbabilities }, into) {
      storedIds.set(viewHalves(ids).filter((_, i) => i % 2 === 0));
      entry.set(encodeFloats(logProbabilities, "F16"), start);
      header.set([window + 1, computeChecksum(window)]);
      await withCacheErrors(path, () => writeFully(handle, entry, window * entry.byteLength));
      decode(into);
    },
    close: () => withCacheErrors(path, () => handle.close()),
  };
}

/** The ids as 32-bit numbers: the low halves of the int64 values are at the even places. */
function viewHalves(ids: BigInt64Array): Int32Array {
  return new Int32Array(ids.buffer, ids.byteOffset, 2 * ids.length);
}
