// Every rule of the safetensors header: what must be refused, each with its message, and what must be accepted.
import { describe, expect, it } from "vitest";
import type { ErrorCode } from "../../../src/errors.ts";
import {
  encodeHeader,
  parseHeader,
  readHeaderLength,
  type TensorShape,
} from "../../../src/formats/safetensors/header.ts";
import { fileBytes } from "../../io/support.ts";
import { failureOf } from "../../support/failure.ts";

const FILE = "m.safetensors";

function parse(header: string | Uint8Array, dataLength = 0) {
  return parseHeader(Buffer.from(header as string), dataLength, FILE);
}

function entry(dtype: string, shape: string, offsets: string): string {
  return `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
}

/** A float32 vector over the given bytes. */
function f32(begin: number, end: number): string {
  return entry("F32", `[${(end - begin) / 4}]`, `[${begin},${end}]`);
}

interface Refusal {
  name: string;
  header: string | Uint8Array;
  data?: number;
  message: string;
}

const REFUSED: Refusal[] = [
  { name: "no bytes at all", header: "", message: "the header is empty" },
  { name: "malformed UTF-8", header: Uint8Array.of(0x7b, 0xff, 0x7d), message: "the header is not valid UTF-8" },
  { name: "a byte order mark", header: "\ufeff{}", message: "the header starts with a byte order mark" },
  {
    name: "text that is not JSON",
    header: "hello",
    message: 'the header is not valid JSON: expected "{" at character 0',
  },
  { name: "an array", header: "[]", message: "the header is an array, not an object" },
  {
    name: "a trailing NUL",
    header: "{}\0",
    message: "the header is not valid JSON: something follows the closing bracket at character 2",
  },
  {
    name: "trailing garbage",
    header: "{} {}",
    message: "the header is not valid JSON: something follows the closing bracket at character 3",
  },
  {
    name: "a duplicate dtype",
    header: `{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`,
    message: 'tensor "a": dtype stands twice',
  },
  {
    name: "a duplicate shape",
    header: `{"a":{"shape":[0],"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`,
    message: 'tensor "a": shape stands twice',
  },
  {
    name: "duplicate data_offsets",
    header: `{"a":{"dtype":"U8","data_offsets":[0,0],"shape":[0],"data_offsets":[0,0]}}`,
    message: 'tensor "a": data_offsets stands twice',
  },
  {
    name: "a duplicate __metadata__",
    header: `{"__metadata__":{},"__metadata__":{}}`,
    message: "__metadata__ stands twice in the header",
  },
  {
    name: "a second __metadata__ after null",
    header: `{"__metadata__":null,"__metadata__":{}}`,
    message: "__metadata__ stands twice in the header",
  },
  {
    name: "a duplicate tensor name",
    header: `{"a":${f32(0, 4)},"a":${f32(0, 4)}}`,
    data: 4,
    message: 'tensor "a": the name stands twice in the header',
  },
  {
    name: "a duplicate tensor name in another spelling",
    header: `{"a":${f32(0, 4)},"\\u0061":${f32(4, 8)}}`,
    data: 8,
    message: 'tensor "a": the name stands twice in the header',
  },
  {
    name: "a missing dtype",
    header: `{"a":{"shape":[0],"data_offsets":[0,0]}}`,
    message: 'tensor "a": dtype is missing',
  },
  {
    name: "a missing shape",
    header: `{"a":{"dtype":"U8","data_offsets":[0,0]}}`,
    message: 'tensor "a": shape is missing',
  },
  {
    name: "missing data_offsets",
    header: `{"a":{"dtype":"U8","shape":[0]}}`,
    message: 'tensor "a": data_offsets is missing',
  },
  { name: "an entry that is null", header: `{"a":null}`, message: 'tensor "a": its entry is not an object' },
  {
    name: "an entry that is an array",
    header: `{"a":["U8",[0],[0,0]]}`,
    message: 'tensor "a": its entry is not an object',
  },
  {
    name: "an unknown dtype",
    header: `{"a":${entry("F128", "[0]", "[0,0]")}}`,
    message: 'tensor "a": unknown dtype "F128"',
  },
  {
    name: "a lower-case dtype",
    header: `{"a":${entry("f32", "[0]", "[0,0]")}}`,
    message: 'tensor "a": unknown dtype "f32"',
  },
  {
    name: "a dtype that is no string",
    header: `{"a":{"dtype":7,"shape":[0],"data_offsets":[0,0]}}`,
    message: 'tensor "a": dtype is no string',
  },
  {
    name: "one offset",
    header: `{"a":${entry("U8", "[0]", "[0]")}}`,
    message: 'tensor "a": data_offsets has 1 entries, not 2',
  },
  {
    name: "three offsets",
    header: `{"a":${entry("U8", "[0]", "[0,0,0]")}}`,
    message: 'tensor "a": data_offsets has 3 entries, not 2',
  },
  {
    name: "offsets that are no array",
    header: `{"a":${entry("U8", "[0]", "0")}}`,
    message: 'tensor "a": data_offsets is not an array',
  },
  {
    name: "a shape that is no array",
    header: `{"a":${entry("U8", "8", "[0,8]")}}`,
    message: 'tensor "a": shape is not an array',
  },
  {
    name: "a negative dimension",
    header: `{"a":${entry("U8", "[-1]", "[0,1]")}}`,
    message: 'tensor "a": shape[0] is negative: -1',
  },
  {
    name: "a dimension of minus zero",
    header: `{"a":${entry("U8", "[-0]", "[0,0]")}}`,
    message: 'tensor "a": shape[0] is negative: -0',
  },
  {
    name: "a dimension 2.0",
    header: `{"a":${entry("U8", "[2.0]", "[0,2]")}}`,
    message: 'tensor "a": shape[0] is not an integer: 2.0',
  },
  {
    name: "a dimension 2e0",
    header: `{"a":${entry("U8", "[1,2e0]", "[0,2]")}}`,
    message: 'tensor "a": shape[1] is not an integer: 2e0',
  },
  {
    name: "a dimension in quotes",
    header: `{"a":${entry("U8", '["2"]', "[0,2]")}}`,
    message: 'tensor "a": shape[0] is not a number',
  },
  {
    name: "a dimension of 2^64",
    header: `{"a":${entry("U8", "[18446744073709551616]", "[0,0]")}}`,
    message: 'tensor "a": shape[0] is too large: 18446744073709551616',
  },
  {
    name: "a dimension that a double would round",
    header: `{"a":${entry("U8", "[9007199254740993]", "[0,9007199254740993]")}}`,
    message: 'tensor "a": shape[0] is too large: 9007199254740993',
  },
  {
    name: "an offset beyond 2^53",
    header: `{"a":${entry("U8", "[1]", "[9007199254740992,9007199254740993]")}}`,
    message: 'tensor "a": data_offsets[0] is too large: 9007199254740992',
  },
  {
    name: "a negative offset",
    header: `{"a":${entry("U8", "[1]", "[-1,0]")}}`,
    message: 'tensor "a": data_offsets[0] is negative: -1',
  },
  {
    name: "a product of dimensions over u64",
    header: `{"a":${entry("U8", "[4294967296,4294967296]", "[0,0]")}}`,
    message: 'tensor "a": the size of U8 [4294967296, 4294967296] overflows',
  },
  {
    name: "a number of bits over u64",
    header: `{"a":${entry("F64", "[4294967296,1073741824]", "[0,0]")}}`,
    message: 'tensor "a": the size of F64 [4294967296, 1073741824] overflows',
  },
  {
    name: "an end before the begin",
    header: `{"a":${entry("U8", "[4]", "[4,0]")}}`,
    data: 4,
    message: 'tensor "a": data_offsets end (0) before they begin (4)',
  },
  {
    name: "a first tensor that does not begin at 0",
    header: `{"a":${f32(4, 8)}}`,
    data: 8,
    message: 'tensor "a": the first tensor begins at byte 4 of the data, not at 0',
  },
  {
    name: "a hole",
    header: `{"b":${f32(8, 12)},"a":${f32(0, 4)}}`,
    data: 12,
    message: 'tensor "b": a hole of 4 bytes after tensor "a"',
  },
  {
    name: "an overlap",
    header: `{"a":${f32(0, 8)},"b":${f32(4, 12)}}`,
    data: 12,
    message: 'tensor "b": it overlaps tensor "a"',
  },
  {
    name: "two names on the same bytes",
    header: `{"a":${f32(0, 8)},"b":${f32(0, 8)}}`,
    data: 8,
    message: 'tensor "b": it has the same bytes as tensor "a"',
  },
  {
    name: "a size that differs from shape times dtype",
    header: `{"a":${entry("F32", "[3]", "[0,8]")}}`,
    data: 8,
    message: 'tensor "a": F32 [3] needs 12 bytes, data_offsets span 8',
  },
  {
    name: "data that is too short",
    header: `{"a":${f32(0, 8)}}`,
    data: 6,
    message: 'tensor "a": the data ends early, 8 bytes are needed, 6 are there',
  },
  { name: "data that is too long", header: `{"a":${f32(0, 8)}}`, data: 10, message: "2 bytes follow the last tensor" },
  { name: "data without tensors", header: "{}", data: 3, message: "3 bytes follow the last tensor" },
  {
    name: "a sub-byte tensor that is no whole byte",
    header: `{"a":${entry("F4", "[3]", "[0,2]")}}`,
    data: 2,
    message: 'tensor "a": F4 [3] is no whole number of bytes',
  },
  {
    name: "a metadata value that is no string",
    header: `{"__metadata__":{"step":3}}`,
    message: '__metadata__: the value of "step" is no string',
  },
  { name: "metadata that is no object", header: `{"__metadata__":"pt"}`, message: "__metadata__ is not an object" },
  {
    name: "a lone surrogate in a name",
    header: `{"\\ud800":${f32(0, 0)}}`,
    message: "the header is not valid JSON: a lone surrogate in a string at character 8",
  },
  {
    name: "a value too deeply nested in an extra field",
    header: `{"a":{"extra":${"[".repeat(1000)}`,
    message: "the header is not valid JSON: nested deeper than 128 levels at character 141",
  },
  {
    name: "a tensor with a name that would break the line",
    header: `{"a\\nb":{}}`,
    message: 'tensor "a\\nb": dtype is missing',
  },
];

const lengthOf = (bytes: Uint8Array, size = bytes.byteLength) => readHeaderLength(bytes.subarray(0, 8), size, FILE);
const lengthBytes = (length: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return bytes;
};
const encodeTensors = (...tensors: TensorShape[]) => encodeHeader(tensors, {});
const BYTE: TensorShape = { name: "a", dtype: "U8", shape: [1] };

/** Every refusal of this module: what is refused, by which call, with which code, in which sentence. */
const REFUSALS: [string, () => unknown, ErrorCode, string][] = [
  ...REFUSED.map(({ name, header, data, message }): [string, () => unknown, ErrorCode, string] => [
    `a header is refused for ${name}`,
    () => parse(header, data),
    "invalid-file",
    `${FILE}: ${message}`,
  ]),
  [
    "a file without bytes is refused",
    () => lengthOf(new Uint8Array(0)),
    "invalid-file",
    `${FILE}: 0 bytes are too few for a safetensors file`,
  ],
  [
    "a file of fewer than 8 bytes is refused",
    () => lengthOf(new Uint8Array(7)),
    "invalid-file",
    `${FILE}: 7 bytes are too few for a safetensors file`,
  ],
  [
    "a header length of 0 is refused",
    () => lengthOf(new Uint8Array(8)),
    "invalid-file",
    `${FILE}: the header is empty`,
  ],
  [
    "a header length over the limit is refused, even if the file were that large",
    () => lengthOf(lengthBytes(25_000_001n), 200_000_000),
    "invalid-file",
    `${FILE}: the header claims 25000001 bytes (limit 25000000)`,
  ],
  [
    "a header length of 2^64 - 1 is refused",
    () => lengthOf(lengthBytes(2n ** 64n - 1n), 1000),
    "invalid-file",
    `${FILE}: the header claims 18446744073709551615 bytes (limit 25000000)`,
  ],
  [
    "a header length that reaches beyond the file is refused",
    () => lengthOf(fileBytes("{}").subarray(0, 9)),
    "invalid-file",
    `${FILE}: the header claims 2 bytes, but the file has only 9`,
  ],
  [
    "the encoding of two tensors of one name is refused",
    () => encodeTensors(BYTE, BYTE),
    "usage",
    'tensor "a" cannot be written: two tensors have this name',
  ],
  [
    "the encoding of a tensor named __metadata__ is refused",
    () => encodeTensors({ ...BYTE, name: "__metadata__" }),
    "usage",
    'tensor "__metadata__" cannot be written: the name is reserved',
  ],
  [
    "the encoding of a name with a lone surrogate is refused",
    () => encodeTensors({ ...BYTE, name: "a\ud800" }),
    "usage",
    '"a\\ud800" cannot be written: it has a lone surrogate',
  ],
  [
    "the encoding of a fractional dimension is refused",
    () => encodeTensors({ ...BYTE, shape: [1.5] }),
    "usage",
    'tensor "a" cannot be written: U8 [1.5] is no valid size',
  ],
  [
    "the encoding of a sub-byte tensor that is no whole byte is refused",
    () => encodeTensors({ ...BYTE, dtype: "F4", shape: [3] }),
    "usage",
    'tensor "a" cannot be written: F4 [3] is no valid size',
  ],
  [
    "the encoding of a header over the limit of the format is refused",
    () => encodeHeader([], { note: "x".repeat(25_000_000) }),
    "unsupported",
    "a safetensors header of 25000032 bytes is over the limit of 25000000",
  ],
];

describe("refusals of a safetensors header", () => {
  it.each(REFUSALS)("%s", async (_, action, code, sentence) => {
    const error = await failureOf(action);
    expect(error.code).toBe(code);
    expect(error.message).toBe(sentence);
  });
});

describe("headers made to fill the memory", () => {
  const many = (count: number, member: (n: number) => string) =>
    Array.from({ length: count }, (_, n) => member(n)).join();

  it.each([
    [
      "more tensors than any model has",
      () => `{${many(20_001, (n) => `"${n}":${f32(0, 0)}`)}}`,
      "has more than 20000 tensors",
    ],
    [
      "more metadata than any model has",
      () => `{"__metadata__":{${many(20_001, (n) => `"${n}":""`)}}}`,
      "__metadata__ has more than 20000 entries",
    ],
    [
      "a name of megabytes",
      () => `{"${"n".repeat(5e6)}":${f32(0, 0)}}`,
      "has a name of 5000000 characters (limit 4096)",
    ],
    [
      "a name of a million escapes",
      () => `{"${"\\n".repeat(1e6)}":${f32(0, 0)}}`,
      "has a name of 1000000 characters (limit 4096)",
    ],
    [
      "a million dimensions",
      () => `{"a":${entry("F32", `[${many(1e6, () => "1")}]`, "[0,4]")}}`,
      "shape has more than 64",
    ],
  ])("a header with %s is refused", async (_, make, fact) => {
    const header = make();
    const start = performance.now();
    expect((await failureOf(() => parse(header))).message).toContain(fact);
    expect(performance.now() - start).toBeLessThan(3000);
  });

  it("a metadata value of a million escapes is read in little memory", () => {
    const text = JSON.stringify('"\n\u0001\\'.repeat(1e6));
    const before = process.memoryUsage().heapUsed;
    const { metadata } = parse(`{"__metadata__":{"a":${text}}}`);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100e6);
    expect(metadata.a).toBe(JSON.parse(text));
  });
});

describe("accepted headers", () => {
  it("a header length at the limit is accepted", () => {
    expect(readHeaderLength(lengthBytes(25_000_000n), 25_000_008, FILE)).toBe(25_000_000);
  });

  it("a header without tensors is accepted", () => {
    expect(parse("{}").tensors.size).toBe(0);
  });

  it("metadata that is null is accepted", () => {
    expect(Object.keys(parse('{"__metadata__":null}').metadata)).toEqual([]);
  });

  it("white space of all four kinds around a header is accepted", () => {
    expect(parse(` \t\r\n{"a":${f32(0, 4)}}\n\r\t `, 4).tensors.size).toBe(1);
  });

  it("names in any order are accepted and given in offset order", () => {
    const { tensors } = parse(`{"c":${f32(8, 12)},"a":${f32(4, 8)},"b":${f32(0, 4)}}`, 12);
    expect([...tensors.keys()]).toEqual(["b", "a", "c"]);
  });

  it("metadata after the tensors is accepted", () => {
    expect(parse(`{"a":${f32(0, 4)},"__metadata__":{"format":"pt"}}`, 4).metadata.format).toBe("pt");
  });

  it("tensors at offsets that are no multiple of their element are accepted", () => {
    const header = `{"a":${entry("U8", "[1]", "[0,1]")},"b":${f32(1, 5)}}`;
    expect(parse(header, 5).tensors.get("b")).toEqual({ name: "b", dtype: "F32", shape: [1], begin: 1, end: 5 });
  });

  it("a scalar is accepted", () => {
    expect(parse(`{"a":${entry("F32", "[]", "[0,4]")}}`, 4).tensors.get("a")?.shape).toEqual([]);
  });

  it("empty tensors are accepted at the begin, in the middle and at the end", () => {
    const header = `{"z":${f32(8, 8)},"a":${f32(0, 4)},"n":${f32(4, 4)},"b":${f32(4, 8)},"y":${f32(0, 0)},"x":${f32(8, 8)}}`;
    expect([...parse(header, 8).tensors.keys()]).toEqual(["y", "a", "n", "b", "z", "x"]);
  });

  it("an empty tensor with a huge dimension is accepted", () => {
    const header = `{"a":${entry("F32", "[0,1099511627776,1099511627776]", "[0,0]")}}`;
    expect(parse(header).tensors.get("a")?.shape).toEqual([0, 2 ** 40, 2 ** 40]);
  });

  it("extra fields of any kind are accepted, even twice", () => {
    const extra = '"x":[1,{"y":null,"z":[true,-1.5e3]}],"x":"w"';
    const header = `{"a":{${extra},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`;
    expect(parse(header, 1).tensors.size).toBe(1);
  });

  it("an empty name is accepted", () => {
    expect(parse(`{"":${f32(0, 4)}}`, 4).tensors.has("")).toBe(true);
  });

  it("escaped names and fields are accepted", () => {
    const header = `{"\\ud83d\\ude00\\n":{"\\u0064type":"F\\u00332","shape":[1],"data_offsets":[0,4]}}`;
    expect([...parse(header, 4).tensors.keys()]).toEqual(["😀\n"]);
  });

  it("a duplicate metadata key is accepted, and the last value counts", () => {
    expect(parse('{"__metadata__":{"k":"1","k":"2"}}').metadata.k).toBe("2");
  });

  it("names that mean something to JavaScript objects are accepted", () => {
    const header = `{"__metadata__":{"__proto__":"p"},"__proto__":${f32(0, 4)},"constructor":${f32(4, 8)}}`;
    const { tensors, metadata } = parse(header, 8);
    expect([...tensors.keys()]).toEqual(["__proto__", "constructor"]);
    expect(Object.entries(metadata)).toEqual([["__proto__", "p"]]);
    expect(metadata.toString).toBeUndefined();
  });

  it("sub-byte tensors that fill whole bytes are accepted", () => {
    const header = `{"a":${entry("F4", "[3,2]", "[0,3]")},"b":${entry("F6_E3M2", "[4]", "[3,6]")}}`;
    expect(parse(header, 6).tensors.size).toBe(2);
  });
});

/** Expected bytes: what the Python library 0.8.0 writes for the same tensors. */
describe("the encoder against the Python library", () => {
  const headerText = (bytes: Uint8Array) => Buffer.from(bytes.subarray(8)).toString("utf8");

  it("one tensor is encoded as by the Python library, padded to a multiple of 8", () => {
    const { bytes } = encodeHeader([{ name: "test", dtype: "F32", shape: [2, 2] }], {});
    expect(Buffer.from(bytes).toString("latin1")).toBe(
      '@\0\0\0\0\0\0\0{"test":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}    ',
    );
  });

  it("no tensors are encoded as by the Python library", () => {
    expect(Buffer.from(encodeHeader([], {}).bytes).toString("latin1")).toBe("\b\0\0\0\0\0\0\0{}      ");
  });

  it("metadata, mixed dtypes, an empty tensor, a scalar and a name that needs escapes are encoded as by the Python library", () => {
    const tensors = [
      { name: "b", dtype: "I64", shape: [3] },
      { name: "a", dtype: "F16", shape: [2] },
      { name: "c", dtype: "U8", shape: [3] },
      { name: 'é\n"\\\u0001\x7f/', dtype: "F32", shape: [] },
      { name: "z", dtype: "F32", shape: [0, 3] },
    ] as const;
    const { bytes, order } = encodeHeader(tensors, { format: "pt" });
    expect(headerText(bytes)).toBe(
      '{"__metadata__":{"format":"pt"},"b":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},' +
        '"z":{"dtype":"F32","shape":[0,3],"data_offsets":[24,24]},' +
        '"é\\n\\"\\\\\\u0001\x7f/":{"dtype":"F32","shape":[],"data_offsets":[24,28]},' +
        '"a":{"dtype":"F16","shape":[2],"data_offsets":[28,32]},"c":{"dtype":"U8","shape":[3],"data_offsets":[32,35]}}       ',
    );
    expect(order.map(({ name }) => name)).toEqual(["b", "z", 'é\n"\\\u0001\x7f/', "a", "c"]);
  });

  it("all dtypes are ordered as by the Python library", () => {
    const expected =
      "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 BOOL";
    const dtypes = expected.split(" ").sort() as ["BOOL"];
    const { order } = encodeHeader(
      dtypes.map((dtype, i) => ({ name: `t${i}`, dtype, shape: [2] })),
      {},
    );
    expect(order.map(({ dtype }) => dtype).join(" ")).toBe(expected);
  });

  it("names whose order differs between code points and UTF-16 are ordered as by the Python library", () => {
    const names = ["\u{1f600}", "\uff5e", "z", "", "é", "e\u0301"];
    const { order } = encodeHeader(
      names.map((name) => ({ name, dtype: "U8", shape: [1] })),
      {},
    );
    expect(order.map(({ name }) => name)).toEqual(["", "e\u0301", "z", "é", "\uff5e", "\u{1f600}"]);
  });
});

describe("the encoder of headers", () => {
  it("the encoder sorts metadata keys, so that equal input gives equal bytes", () => {
    expect(encodeHeader([], { b: "2", a: "1" }).bytes).toEqual(encodeHeader([], { a: "1", b: "2" }).bytes);
  });
});
