// Opens files of token ids: in place where they are plain uint16 or uint32, and as a checked stream whatever their type.
import { NfcError } from "../../errors.ts";
import { openData, type ReadOptions } from "../../io/data-file.ts";
import { HEAD_BYTES } from "../../io/file-format.ts";
import { openAll } from "../../io/open-all.ts";
import { PositionalFile, withFile } from "../../io/positional-file.ts";
import { findIdLayout, type IdLayout, type IdType } from "./layout.ts";

/** A file of ids, opened to be read by position. */
export interface IdFile {
  file: PositionalFile;
  /** Bytes before the first id. */
  offset: number;
  count: number;
  /** Bytes of an id. */
  width: 2 | 4;
}

/**
 * Opens a file whose ids can be read where they lie: uint16, or (u)int32, little-endian and not packed. Null for others.
 * @throws NfcError as `findIdLayout`; "invalid-file" for a size that does not fit
 */
export async function openIdFile(path: string, vocabulary: number): Promise<IdFile | null> {
  const { layout, packed } = await inspectIds(path, vocabulary);
  const { bytes, signed, bigEndian, offset } = layout;
  if (packed || bigEndian || !(bytes === 4 || (bytes === 2 && !signed))) return null;
  return openAll(async (keep) => {
    const file = keep(await PositionalFile.open(path));
    return { file, offset, count: countIds(path, file.size, layout), width: bytes };
  });
}

/**
 * The ids of a file, piece by piece.
 * @throws NfcError as `openIdFile`; "mismatch" for an id that is not in the vocabulary
 */
export async function* streamIds(
  path: string,
  vocabulary: number,
  options: ReadOptions = {},
): AsyncGenerator<number[]> {
  const { layout } = await inspectIds(path, vocabulary);
  const { offset, bytes } = layout;
  const data = await openData(path, options);
  const read = makeIdReader(layout);
  let position = 0; // in the unpacked file
  let count = 0;
  let rest = Buffer.alloc(0);
  for await (const chunk of data.chunks) {
    const body = chunk.subarray(Math.max(0, Math.min(chunk.byteLength, offset - position)));
    position += chunk.byteLength;
    const joined = rest.byteLength === 0 ? Buffer.from(body) : Buffer.concat([rest, body]);
    const whole = joined.byteLength - (joined.byteLength % bytes);
    const ids = Array.from({ length: whole / bytes }, (_, i) => read(joined, i * bytes));
    checkIds(path, ids, count, vocabulary);
    count += ids.length;
    rest = joined.subarray(whole);
    if (ids.length > 0) yield ids;
  }
  countIds(path, position, layout);
}

/** @throws NfcError "mismatch" naming the first id that is not in the vocabulary; `at` is the position of the first id */
export function checkIds(path: string, ids: ArrayLike<number>, at: number, vocabulary: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as number;
    if (id >= 0 && id < vocabulary) continue;
    throw new NfcError("mismatch", `${path}: token ${id} at position ${at + i}, the model has ${vocabulary} tokens`, {
      hint: "use the model's own tokenizer",
    });
  }
}

async function inspectIds(path: string, vocabulary: number): Promise<{ layout: IdLayout; packed: boolean }> {
  const data = await openData(path);
  await data.chunks.return(undefined);
  const samples = data.packed || data.isWhole ? [] : await readSamples(path);
  return { layout: findIdLayout(path, data.head, vocabulary, samples), packed: data.packed };
}

/** The middle and the end of a file. */
function readSamples(path: string): Promise<Uint8Array[]> {
  return withFile(path, (file) => {
    const places = [Math.floor(file.size / 16) * 8, Math.floor(Math.max(0, file.size - HEAD_BYTES) / 8) * 8];
    return Promise.all(places.map((place) => file.read(place, Math.min(HEAD_BYTES, file.size - place))));
  });
}

/** The number of ids of a file of `size` bytes. @throws NfcError "invalid-file" where its header says another */
function countIds(path: string, size: number, { offset, bytes, count }: IdLayout): number {
  const found = (size - offset) / bytes;
  if (count !== null && count !== found)
    throw new NfcError(
      "invalid-file",
      `${path}: the header says ${count} token ids, the file has room for ${Math.floor(found)}`,
      {
        hint: "fetch or write the file again",
      },
    );
  if (Number.isInteger(found)) return found;
  throw new NfcError("invalid-file", `${path}: ${size} bytes are no whole number of uint${8 * bytes} token ids`, {
    hint: "write it again; .bin files are nanoGPT's: token ids as uint16, nothing else",
  });
}

/** A function that reads the id at an offset. */
function makeIdReader({ bytes, signed, bigEndian }: IdType): (buffer: Buffer, at: number) => number {
  if (bytes === 8)
    return (buffer, at) =>
      bigEndian
        ? 2 ** 32 * buffer.readInt32BE(at) + buffer.readUInt32BE(at + 4)
        : 2 ** 32 * buffer.readInt32LE(at + 4) + buffer.readUInt32LE(at);
  if (bigEndian) return (buffer, at) => (signed ? buffer.readIntBE(at, bytes) : buffer.readUIntBE(at, bytes));
  return (buffer, at) => (signed ? buffer.readIntLE(at, bytes) : buffer.readUIntLE(at, bytes));
}
