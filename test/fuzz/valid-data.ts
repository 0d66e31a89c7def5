// Valid files of token ids, which the fuzzers spoil, and the state of a run.

/** Tokens of the model that reads the ids. */
export const VOCABULARY_SIZE = 384;

const IDS = Array.from({ length: 40 }, (_, i) => (7 * i) % VOCABULARY_SIZE);

/** An array as numpy.save writes it. */
function encodeNumpy(descr: string, shape: string, data: ArrayBufferView<ArrayBuffer>): Uint8Array {
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  const padded = `${header.padEnd(117)}\n`;
  const start = Buffer.from("\x93NUMPY\x01\x00\x76\x00", "latin1");
  return Buffer.concat([start, Buffer.from(padded), Buffer.from(data.buffer)]);
}

export const NUMPY: readonly Uint8Array[] = [
  encodeNumpy("<u2", "40,", Uint16Array.from(IDS)),
  encodeNumpy("<i4", "4, 10", Int32Array.from(IDS)),
  encodeNumpy("<i8", "40,", BigInt64Array.from(IDS, BigInt)),
  encodeNumpy(
    ">u2",
    "40,",
    Uint16Array.from(IDS, (id) => ((id & 255) << 8) | (id >> 8)),
  ),
  encodeNumpy(
    "|u1",
    "40,",
    Uint8Array.from(IDS, (id) => id & 255),
  ),
];

/** A shard of llm.c or modded-nanogpt: 256 int32, of which magic, version and count of ids are used. */
function encodeShard(magic: number, version: number, ids: ArrayBufferView<ArrayBuffer>): Uint8Array {
  const header = new Int32Array(256);
  header.set([magic, version, IDS.length]);
  return Buffer.concat([Buffer.from(header.buffer), Buffer.from(ids.buffer)]);
}

export const SHARDS: readonly Uint8Array[] = [
  encodeShard(20240520, 1, Uint16Array.from(IDS)),
  encodeShard(20240801, 7, Uint32Array.from(IDS)),
];

/** Ids of four and of eight bytes without a header. */
export const WIDE_IDS: readonly Uint8Array[] = [
  Buffer.from(Uint32Array.from(IDS).buffer),
  Buffer.from(BigInt64Array.from(IDS, BigInt).buffer),
];

/** The state of a run on text at its second step. */
export const STATE = {
  ...{ step: 2, tokens: 32, metricsBytes: 0, best: { step: 2, perplexity: 300.5 } },
  ...{ evaluated: 2, before: 400.5, teacher: 200.25 },
};
