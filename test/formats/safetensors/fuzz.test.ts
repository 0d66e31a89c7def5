// Hostile input: whatever the bytes, reading a header ends in a checked header or an NfcError, nothing else.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NfcError } from "../../../src/errors.ts";
import { countBytes, DTYPE_BITS, type Dtype } from "../../../src/formats/dtype.ts";
import {
  encodeHeader,
  parseHeader,
  readHeaderLength,
  type SafetensorsHeader,
} from "../../../src/formats/safetensors/header.ts";
import { parseShardIndex } from "../../../src/formats/safetensors/shard-index.ts";
import { fileBytes } from "../../io/support.ts";

/** What a reader does with a whole file; undefined when it is refused as it should be. */
function readOrRefuse(file: Uint8Array): SafetensorsHeader | undefined {
  return refusing(() => {
    const length = readHeaderLength(file.subarray(0, 8), file.byteLength, "f");
    return parseHeader(file.subarray(8, 8 + length), file.byteLength - 8 - length, "f");
  });
}

function refusing<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    expect(error.code).toBe("invalid-file");
    expect(error.message).not.toMatch(/[\r\n]/);
    return undefined;
  }
}

/** What every accepted header must satisfy: the tensors cover the data section exactly once. */
function expectSound(header: SafetensorsHeader, dataLength: number): void {
  let at = 0;
  for (const tensor of header.tensors.values()) {
    expect(tensor.begin).toBe(at);
    expect(tensor.end - tensor.begin).toBe(countBytes(tensor.dtype, tensor.shape));
    at = tensor.end;
  }
  expect(at).toBe(dataLength);
}

const dtype = fc.constantFrom(...(Object.keys(DTYPE_BITS) as Dtype[]));
const name = fc.string({ unit: "binary", maxLength: 8 }).filter((text) => text !== "__metadata__");
// A factor of 8 makes sub-byte formats whole.
const shape = fc.array(fc.nat(5), { maxLength: 3 }).map((dimensions) => [8, ...dimensions]);
const tensors = fc.uniqueArray(fc.record({ name, dtype, shape }), { selector: (tensor) => tensor.name, maxLength: 6 });
const metadata = fc.dictionary(name, fc.string({ unit: "binary" }), { maxKeys: 3 });

const validFile = fc.tuple(tensors, metadata).map(([list, entries]) => {
  const { bytes, order } = encodeHeader(list, entries);
  return Buffer.concat([bytes, new Uint8Array(order.at(-1)?.end ?? 0)]);
});

describe("arbitrary bytes as safetensors", () => {
  it("arbitrary bytes as a file are refused with an NfcError or make a sound header", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (file) => {
        const header = readOrRefuse(file);
        if (header) expectSound(header, file.byteLength - 8 - Number(Buffer.from(file).readBigUInt64LE()));
      }),
      { numRuns: 2000 },
    );
  });

  it("arbitrary bytes as a header are refused with an NfcError or make a sound header", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(64), (json, dataLength) => {
        const header = refusing(() => parseHeader(json, dataLength, "f"));
        if (header) expectSound(header, dataLength);
      }),
      { numRuns: 2000 },
    );
  });

  it("arbitrary bytes as a shard index are refused with an NfcError or give names inside the folder", () => {
    const text = fc.constantFrom(
      ...'{}[]",:./\\ ab0'.split(""),
      "weight_map",
      "metadata",
      "total_size",
      '"weight_map":{',
      "..",
    );
    fc.assert(
      fc.property(fc.array(text, { maxLength: 30 }), (pieces) => {
        const index = refusing(() => parseShardIndex(Buffer.from(pieces.join("")), "i.json"));
        for (const file of index?.files ?? []) expect(file.path).not.toMatch(/^[\\/]|(^|[\\/])\.\.([\\/]|$)/);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a valid safetensors file with changes", () => {
  const mutation = fc.record({ at: fc.nat(), kind: fc.constantFrom("set", "insert", "remove"), byte: fc.nat(255) });

  function mutate(file: Buffer, mutations: { at: number; kind: string; byte: number }[]): Buffer {
    const bytes = [...file];
    for (const { at, kind, byte } of mutations) {
      const place = at % (bytes.length + 1);
      if (kind === "set") bytes[place] = byte;
      else if (kind === "insert") bytes.splice(place, 0, byte);
      else bytes.splice(place, 1);
    }
    return Buffer.from(bytes);
  }

  it("a valid file with any few bytes changed is refused with an NfcError or still sound", () => {
    fc.assert(
      fc.property(validFile, fc.array(mutation, { minLength: 1, maxLength: 4 }), (file, mutations) => {
        const mutated = mutate(file, mutations);
        const header = readOrRefuse(mutated);
        if (header) expectSound(header, mutated.byteLength - 8 - Number(mutated.readBigUInt64LE()));
      }),
      { numRuns: 2000 },
    );
  });

  it("a valid file cut anywhere is refused", () => {
    fc.assert(
      fc.property(validFile, fc.nat(), (file, at) => {
        expect(readOrRefuse(file.subarray(0, at % file.byteLength))).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  });

  it("a valid file with its header's members replaced by other JSON is refused with an NfcError or still sound", () => {
    const odd = fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 1.5, 2 ** 53, 2 ** 63, 1e300, "F32", [0, 4], [4, 0]));
    const oddTensor = fc.record(
      { dtype: fc.oneof(dtype, odd), shape: fc.oneof(shape, odd), data_offsets: odd },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.oneof(name, fc.constant("__metadata__")), fc.oneof(oddTensor, odd), { maxKeys: 4 });
    fc.assert(
      fc.property(header, fc.nat(16), (members, dataLength) => {
        const parsed = readOrRefuse(fileBytes(JSON.stringify(members), dataLength));
        if (parsed) expectSound(parsed, dataLength);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("the cost of claims in a header", () => {
  it("a tensor of 4 PB in a file of 100 bytes is refused by arithmetic, at no cost", () => {
    const header = '{"a":{"dtype":"F32","shape":[1125899906842624],"data_offsets":[0,4503599627370496]}}';
    const before = process.memoryUsage().arrayBuffers;
    expect(readOrRefuse(fileBytes(header, 8))).toBeUndefined();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });

  it("a megabyte of digits, of dimensions and of names costs no more than its text: it is read at once", () => {
    const digits = `{"a":{"dtype":"U8","shape":[${"9".repeat(1_000_000)}],"data_offsets":[0,1]}}`;
    const dimensions = `{"a":{"dtype":"U8","shape":[${"1,".repeat(500_000)}1],"data_offsets":[0,2]}}`;
    const longName = `{"${"n".repeat(1_000_000)}":{}}`;
    for (const header of [digits, dimensions, longName]) {
      let message = "";
      try {
        parseHeader(Buffer.from(header), 1, "f");
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).toMatch(/^f: (tensor|the header) /);
      expect(message.length).toBeLessThan(300);
    }
  });
});

describe("the safetensors header", () => {
  it("encoding and parsing a header are inverse to each other", () => {
    fc.assert(
      fc.property(tensors, metadata, (list, entries) => {
        const { bytes, order } = encodeHeader(list, entries);
        expect(bytes.byteLength % 8).toBe(0);
        const dataLength = order.at(-1)?.end ?? 0;
        const parsed = parseHeader(bytes.subarray(8), dataLength, "f");
        expect([...parsed.tensors.values()].sort(byName)).toEqual([...order].sort(byName));
        expect(Object.entries(parsed.metadata).sort()).toEqual(Object.entries(entries).sort());
        expectSound(parsed, dataLength);
      }),
      { numRuns: 500 },
    );
  });
});

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}
