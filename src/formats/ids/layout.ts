// Finds where and how a file holds token ids: nanoGPT's .bin, shards of llm.c with their header, NumPy's .npy.
import { NfcError } from "../../errors.ts";
import { LLMC_IDS, looksLikeNumpy, readInt32 } from "../../io/file-format.ts";
import { escapeJson } from "../../io/printable.ts";

/** How one id is stored. */
export interface IdType {
  bytes: 1 | 2 | 4 | 8;
  signed: boolean;
  bigEndian: boolean;
}

/** A row of ids in a file. */
export interface IdLayout extends IdType {
  /** Bytes before the first id. */
  offset: number;
  /** How many ids the file says it has; null where all bytes to its end are ids. */
  count: number | null;
}

/** The shard header of llm.c and modded-nanogpt: 256 int32, of which the first are magic, version and count of ids. */
const LLMC_HEADER_BYTES = 1024;
const LLMC_VERSIONS: ReadonlyMap<number, { version: number; bytes: 2 | 4 }> = new Map([
  [LLMC_IDS.uint16, { version: 1, bytes: 2 }],
  [LLMC_IDS.uint32, { version: 7, bytes: 4 }],
]);
/** NumPy's headers have some hundred bytes. */
const MAX_NUMPY_HEADER = 65_536;
/** Ids that must agree before they are taken for wider than two bytes. */
const MIN_WIDE_IDS = 16;

/**
 * The layout of the ids in a file that begins with `head`. Files without a header hold uint16, or what their content and
 * the vocabulary show: ids of 4 or 8 bytes are all below the vocabulary only if their upper halves are (almost) all zero.
 * @param samples further stretches of the file, each from a multiple of 8 on
 * @throws NfcError "invalid-file" for a header that is wrong, "unsupported" for numbers that are no ids
 */
export function findIdLayout(
  path: string,
  head: Uint8Array,
  vocabulary: number,
  samples: readonly Uint8Array[] = [],
): IdLayout {
  const llmc = LLMC_VERSIONS.get(readInt32(head));
  if (llmc) return readLlmcHeader(path, head, llmc);
  if (looksLikeNumpy(head)) return readNumpyHeader(path, head);
  const bytes = detectWidth(path, [head, ...samples], vocabulary);
  return { offset: 0, count: null, bytes, signed: false, bigEndian: false };
}

function readLlmcHeader(path: string, head: Uint8Array, known: { version: number; bytes: 2 | 4 }): IdLayout {
  const [version, count] = [readInt32(head, 4), readInt32(head, 8)];
  if (head.byteLength < LLMC_HEADER_BYTES || count < 0)
    throw new NfcError("invalid-file", `${path}: the header of this llm.c data file is cut or damaged`, {
      hint: "fetch or write the file again",
    });
  if (version !== known.version)
    throw new NfcError("unsupported", `${path}: llm.c data of version ${version}, ${known.version} is read`, {
      hint: "write it with llm.c's or modded-nanogpt's own scripts",
    });
  return { offset: LLMC_HEADER_BYTES, count, bytes: known.bytes, signed: false, bigEndian: false };
}

function readNumpyHeader(path: string, head: Uint8Array): IdLayout {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const wide = (head[6] ?? 0) >= 2; // from version 2 on the header's length has four bytes
  const begin = wide ? 12 : 10;
  const length = head.byteLength < begin ? 0 : wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = Buffer.from(head.subarray(begin, begin + length)).toString("latin1");
  const [, descr] = /'descr':\s*'([<>|=]?[a-zA-Z]\d+)'/.exec(header) ?? [];
  const [, shape] = /'shape':\s*\(([\d,\s]*)\)/.exec(header) ?? [];
  const cut = length === 0 || length > MAX_NUMPY_HEADER || begin + length > head.byteLength;
  if (cut || descr === undefined || shape === undefined)
    throw new NfcError("invalid-file", `${path}: its NumPy header is damaged or holds no plain numbers`, {
      hint: "save the token ids as one array of uint16, with numpy.save",
    });
  const type = /^([<>|])([iu])([1248])$/.exec(descr);
  const axes = shape.split(",").flatMap((part) => (part.trim() === "" ? [] : [Number(part)]));
  if (!type || axes.length === 0 || (axes.length > 1 && /'fortran_order':\s*True/.test(header)))
    throw new NfcError(
      "unsupported",
      `${path}: is an array of ${escapeJson(descr)} (${axes.join(" x ")}), not a row of token ids`,
      {
        hint: "save the token ids as one array of uint16, with numpy.save",
      },
    );
  return {
    offset: begin + length,
    count: axes.reduce((product, axis) => product * axis, 1),
    bytes: Number(type[3]) as IdType["bytes"],
    signed: type[2] === "i",
    bigEndian: type[1] === ">",
  };
}

/** Bytes of an id in a file without a header. @throws NfcError "invalid-file" where a short file may be either */
function detectWidth(path: string, samples: readonly Uint8Array[], vocabulary: number): 2 | 4 | 8 {
  for (const bytes of [8, 4] as const) {
    const ids = samples.flatMap((sample) => readWide(sample, bytes));
    if (!ids.every((id) => id < vocabulary) || ids.every((id) => id === 0)) continue;
    if (ids.length >= MIN_WIDE_IDS || vocabulary > 2 ** 16) return bytes;
    if (ids.length > 1 && bytes === 4)
      throw new NfcError("invalid-file", `${path}: too short to tell uint16 ids from uint32 ids`, {
        hint: "give a longer file, or save it with numpy.save, which notes the type",
      });
  }
  return 2;
}

/** The whole numbers of `bytes` bytes in a stretch of a file, little-endian. */
function readWide(sample: Uint8Array, bytes: 4 | 8): number[] {
  const view = new DataView(sample.buffer, sample.byteOffset, sample.byteLength);
  return Array.from({ length: Math.floor(sample.byteLength / bytes) }, (_, i) => {
    const low = view.getUint32(i * bytes, true);
    return bytes === 4 ? low : low + 2 ** 32 * view.getUint32(i * bytes + 4, true);
  });
}
