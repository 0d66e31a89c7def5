// The cache file of token ids: uint16 or uint32 ids from its first byte on, and a trailer that marks a whole file.

import { mkdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import type { TokenIds } from "../../checkpoint/encoding/encode-pool.ts";
import { NfcError } from "../../errors.ts";
import { type DurableFile, syncFolder, writeDurably } from "../../io/durable.ts";
import { fileExists } from "../../io/exists.ts";
import { keepAlive, letGo } from "../../io/heartbeat.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { claimName, cleanLeftovers, release } from "../../io/leftovers.ts";
import { openAll } from "../../io/open-all.ts";
import { PositionalFile } from "../../io/positional-file.ts";

/** Ends with the version of cache files: those of another version are written again. */
const MAGIC = "nfcids2";
const TRAILER_BYTES = 20;
const CHECKSUM_AT = 16;

/** Bytes of an id. */
export type IdWidth = 2 | 4;

/** Little-endian ids in a file. */
export interface Ids {
  file: PositionalFile;
  /** Bytes before the first id. */
  offset: number;
  count: number;
  width: IdWidth;
}

/** Null when there is no file, or a damaged one. @throws NfcError "io" with a hint at --cache */
export async function openIds(path: string, width: IdWidth): Promise<Ids | null> {
  if (!fileExists(path)) return null;
  return openAll(async (keep) => {
    const file = keep(await withCacheErrors(path, () => PositionalFile.open(path)));
    const count = (file.size - TRAILER_BYTES) / width;
    if (Number.isInteger(count) && count > 0) {
      const found = Buffer.alloc(TRAILER_BYTES);
      await withCacheErrors(path, () => file.readInto(found, count * width));
      // A file of this kind is read through, which costs less than the hash of its text: a changed bit would be trained on.
      if (found.equals(encodeTrailer(count, width, found.readUInt32LE(CHECKSUM_AT)))) {
        const checksum = await withCacheErrors(path, () => computeChecksum(file, count * width));
        if (found.readUInt32LE(CHECKSUM_AT) === checksum) return { file, offset: 0, count, width };
      }
    }
    await file.close();
    return null;
  });
}

/**
 * Streams to a temporary file, syncs it and renames it to `path`; other processes may do the same meanwhile.
 * @throws what `pieces` throws; NfcError "io" with a hint at --cache
 */
export async function writeIds(path: string, width: IdWidth, pieces: AsyncIterable<TokenIds>): Promise<void> {
  await withCacheErrors(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    await cleanLeftovers(path);
  });
  const temporary = claimName(path, "tmp");
  keepAlive(temporary);
  try {
    const fill = async (file: DurableFile) => {
      let count = 0;
      let checksum = 0;
      for await (const piece of pieces) {
        const ids = width === 2 ? new Uint16Array(piece) : new Uint32Array(piece);
        const bytes = new Uint8Array(ids.buffer);
        await file.write(bytes);
        checksum = crc32(bytes, checksum);
        count += ids.length;
      }
      await file.write(encodeTrailer(count, width, checksum));
    };
    await writeDurably(temporary, fill, { shown: path, guard: withCacheErrors });
    await withCacheErrors(path, () => rename(temporary, path));
  } finally {
    letGo(temporary);
    await rm(temporary, { force: true });
    release(temporary);
  }
  await withCacheErrors(path, () => syncFolder(dirname(path)));
}

/** CRC-32 of a file's first `length` bytes. */
async function computeChecksum(file: PositionalFile, length: number): Promise<number> {
  let checksum = 0;
  for await (const piece of file.pieces(0, length)) checksum = crc32(piece, checksum);
  return checksum;
}

/** Magic, bytes of an id (u8), count (u64), CRC-32 of the ids (u32); little-endian. */
function encodeTrailer(count: number, width: IdWidth, checksum: number): Uint8Array {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.write(MAGIC);
  bytes.writeUInt8(width, MAGIC.length);
  bytes.writeBigUInt64LE(BigInt(count), MAGIC.length + 1);
  bytes.writeUInt32LE(checksum, CHECKSUM_AT);
  return bytes;
}

/** Runs a call on the cache file; the hint of its error says how to choose another folder. */
export async function withCacheErrors<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await withIoErrors(path, action);
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    throw new NfcError("io", error.message, { hint: "choose a folder for cache files with --cache", cause: error });
  }
}
