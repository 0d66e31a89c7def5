// The cache file of token ids: uint16 or uint32 ids from its first byte on, and a trailer that marks a whole file.
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { NfcError } from "../../errors.ts";
import { type DurableFile, syncFolder, writeDurably } from "../../io/durable.ts";
import { keepAlive, letGo } from "../../io/heartbeat.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { claimName, cleanLeftovers, release } from "../../io/leftovers.ts";
import { PositionalFile } from "../../io/positional-file.ts";

/** Ends with the version of cache files: those of another version are written again. */
const MAGIC = "nfcids1";
const TRAILER_BYTES = 16;

/** Bytes of an id. */
export type IdWidth = 2 | 4;

/** Little-endian ids from a file's first byte on. */
export interface Ids {
  file: PositionalFile;
  count: number;
  width: IdWidth;
}

/** Null when there is no file, or a damaged one. @throws NfcError "io" with a hint at --cache */
export async function openIds(path: string, width: IdWidth): Promise<Ids | null> {
  if (!existsSync(path)) return null;
  const file = await replaceInCache(path, () => PositionalFile.open(path));
  const count = (file.size - TRAILER_BYTES) / width;
  if (Number.isInteger(count) && count > 0) {
    const found = Buffer.alloc(TRAILER_BYTES);
    await replaceInCache(path, () => file.readInto(found, count * width));
    if (found.equals(encodeTrailer(count, width))) return { file, count, width };
  }
  await file.close();
  return null;
}

/**
 * Streams to a temporary file, syncs it and renames it to `path`; other processes may do the same meanwhile.
 * @throws what `pieces` throws; NfcError "io" with a hint at --cache
 */
export async function writeIds(path: string, width: IdWidth, pieces: AsyncIterable<readonly number[]>): Promise<void> {
  await replaceInCache(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    await cleanLeftovers(path);
  });
  const temporary = claimName(path, "tmp");
  keepAlive(temporary);
  try {
    const fill = async (file: DurableFile) => {
      let count = 0;
      for await (const piece of pieces) {
        const ids = width === 2 ? Uint16Array.from(piece) : Uint32Array.from(piece);
        await file.write(new Uint8Array(ids.buffer));
        count += ids.length;
      }
      await file.write(encodeTrailer(count, width));
    };
    await writeDurably(temporary, fill, { shown: path, guard: replaceInCache });
    await replaceInCache(path, () => rename(temporary, path));
  } finally {
    letGo(temporary);
    await rm(temporary, { force: true });
    release(temporary);
  }
  await replaceInCache(path, () => syncFolder(dirname(path)));
}

/** Magic, bytes of an id (u8), count (u64 little-endian). */
function encodeTrailer(count: number, width: IdWidth): Uint8Array {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.write(MAGIC);
  bytes.writeUInt8(width, MAGIC.length);
  bytes.writeBigUInt64LE(BigInt(count), MAGIC.length + 1);
  return bytes;
}

/** Runs a call on the cache file; the hint of its error says how to choose another folder. */
export async function replaceInCache<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await withIoErrors(path, action);
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    throw new NfcError("io", error.message, { hint: "choose a folder for cache files with --cache", cause: error });
  }
}
