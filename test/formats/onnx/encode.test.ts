// The protobuf encoder: an independent implementation (onnx-proto) writes the same bytes and reads the same values.
import { createRequire } from "node:module";
import fc from "fast-check";
import type { onnx as Onnx } from "onnx-proto";
import { describe, expect, it } from "vitest";
import { encodeHead, encodeMessage } from "../../../src/formats/onnx/encode.ts";
import { findSchema } from "../../../src/formats/onnx/schema.ts";

const { onnx } = createRequire(import.meta.url)("onnx-proto") as { onnx: typeof Onnx };

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const optional = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(fields, { requiredKeys: [] });

interface Scalars {
  text: fc.Arbitrary<string>;
  bytes: fc.Arbitrary<Uint8Array>;
  int32: fc.Arbitrary<number>;
  int64: fc.Arbitrary<number>;
  float: fc.Arbitrary<number>;
}
const SCALARS: Scalars = {
  text: fc.string({ unit: "grapheme" }),
  bytes: fc.uint8Array({ maxLength: 4000, size: "max" }),
  int32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  int64: fc.maxSafeInteger(),
  float: fc.float(),
};

/** A model whose lists of integers and floats have at most `listed` of them. */
function arbitraryModel({ text, bytes, int32, int64, float }: Scalars, listed: number) {
  const integers = fc.array(int64, { maxLength: listed });
  const floats = fc.array(float, { maxLength: listed });
  const tensor = optional({
    dims: integers,
    dataType: int32,
    name: text,
    rawData: bytes,
    externalData: fc.array(optional({ key: text, value: text })),
    dataLocation: fc.constant(1),
  });
  const attribute = optional({
    name: text,
    f: float,
    i: int64,
    s: bytes,
    t: tensor,
    floats,
    ints: integers,
    tensors: fc.array(tensor),
    type: fc.constantFrom(1, 2, 3, 6, 7),
  });
  const node = optional({
    input: fc.array(text),
    output: fc.array(text),
    name: text,
    opType: text,
    attribute: fc.array(attribute, { maxLength: 3 }),
    domain: text,
  });
  const dim = fc.oneof(fc.record({ dimValue: int64 }), fc.record({ dimParam: text }), fc.constant({}));
  const valueInfo = optional({
    name: text,
    type: optional({ tensorType: optional({ elemType: int32, shape: optional({ dim: fc.array(dim) }) }) }),
  });
  const graph = optional({
    node: fc.array(node, { maxLength: 4 }),
    name: text,
    initializer: fc.array(tensor, { maxLength: 3 }),
    input: fc.array(valueInfo, { maxLength: 3 }),
    output: fc.array(valueInfo, { maxLength: 3 }),
  });
  return optional({
    irVersion: int64,
    producerName: text,
    producerVersion: text,
    docString: text,
    graph,
    opsetImport: fc.array(optional({ domain: text, version: int64 })),
    metadataProps: fc.array(optional({ key: text, value: text })),
  });
}

describe("encoding ONNX messages", () => {
  it("onnx-proto reads encoded models as they were", () => {
    const plain = (message: Onnx.ModelProto) =>
      onnx.ModelProto.toObject(message, { defaults: true, longs: String, bytes: String });
    fc.assert(
      fc.property(arbitraryModel(SCALARS, 10), (value) => {
        const decoded = onnx.ModelProto.decode(encodeMessage("ModelProto", value));
        expect(plain(decoded)).toEqual(plain(onnx.ModelProto.fromObject(value)));
      }),
      { numRuns: 300 },
    );
  });

  it("the encoded bytes are those of onnx-proto, which packs lists and writes zeros and empty texts, where a model has none", () => {
    const scalars = Object.fromEntries(
      Object.entries<fc.Arbitrary<number | string | Uint8Array>>(SCALARS as never).map(([name, arbitrary]) => [
        name,
        arbitrary.filter((value) => (typeof value === "object" ? value.length > 0 : !!value || Number.isNaN(value))),
      ]),
    ) as unknown as Scalars;
    fc.assert(
      fc.property(arbitraryModel(scalars, 0), (value) => {
        const expected = onnx.ModelProto.encode(onnx.ModelProto.fromObject(value)).finish();
        expect(hex(encodeMessage("ModelProto", value))).toBe(hex(expected));
      }),
      { numRuns: 300 },
    );
  });

  it("the key is repeated for each number of a list", () => {
    expect(hex(encodeMessage("AttributeProto", { floats: [1, -2], ints: [3, 4] }))).toBe(
      "3d0000803f" + "3d000000c0" + "4003" + "4004",
    );
  });

  it("onnx-proto reads any int64, float and text the same", () => {
    const stored = (value: object) => onnx.AttributeProto.decode(encodeMessage("AttributeProto", value));
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), SCALARS.float, SCALARS.text, (i, f, name) => {
        const decoded = stored({ name, f, i, ints: [i, 0, -1] });
        expect([decoded.name, decoded.f]).toEqual([name, f]);
        expect([decoded.i, ...(decoded.ints ?? [])].map(String)).toEqual([i, i, 0, -1].map(String));
      }),
    );
  });

  it("integers of any length are written", () => {
    const encoded = (i: number | bigint) => hex(encodeMessage("AttributeProto", { ints: [i] }).subarray(1));
    expect([0, 127, 128, 300].map(encoded)).toEqual(["00", "7f", "8001", "ac02"]);
    expect(encoded(-1)).toBe("ffffffffffffffffff01");
    expect(encoded(2 ** 53)).toBe("8080808080808010");
    expect(encoded(2n ** 53n + 1n)).toBe("8180808080808010");
    expect(encoded(2n ** 63n - 1n)).toBe("ffffffffffffffff7f");
    expect(encoded(-(2n ** 63n))).toBe("80808080808080808001");
  });

  it("zeros, empty texts, bytes and lists are left out, because readers take them for granted", () => {
    expect(encodeMessage("NodeProto", { name: undefined, domain: "", input: [] })).toHaveLength(0);
    expect(encodeMessage("TensorProto", { dataType: 0, rawData: new Uint8Array() })).toHaveLength(0);
    expect(encodeMessage("AttributeProto", { f: 0, i: 0n })).toHaveLength(0);
  });

  it("zeros and empty texts in lists and in a choice are kept, and so is the sign of a float", () => {
    expect(hex(encodeMessage("NodeProto", { input: ["", "a"] }))).toBe("0a00" + "0a0161");
    expect(hex(encodeMessage("TensorProto", { dims: [0] }))).toBe("0800");
    expect(hex(encodeMessage("TensorShapeProto", { dim: [{ dimValue: 0 }, {}] }))).toBe("0a020800" + "0a00");
    expect(hex(encodeMessage("AttributeProto", { f: -0 }))).toBe("1500000080");
  });

  it.each<[string, object, RegExp]>([
    ["a text for a list", { dims: "x" }, /^TensorProto\.dims: a list is expected$/],
    ["a text for a number", { dims: ["x"] }, /^TensorProto\.dims: int is expected, not string$/],
    ["a fraction", { dataType: 1.5 }, /integer/],
    ["2^63", { dims: [2 ** 63] }, /^9223372036854776000 is no int64$/],
    ["a text for bytes", { rawData: "x" }, /^TensorProto\.rawData: bytes is expected, not string$/],
    ["null for a message", { externalData: [null] }, /^TensorProto\.externalData: message is expected, not object$/],
    ["an unknown field", { dims: [1], dim: 1 }, /^TensorProto has not all of the fields dims, dim$/],
  ])("encodeMessage refuses %s", (_, value, message) => {
    expect(() => encodeMessage("TensorProto", value)).toThrow(message);
  });

  it("a message that the schema lacks is refused", () => {
    expect(() => encodeMessage("FunctionProto", {})).toThrow("the ONNX schema has no message FunctionProto");
  });
});

describe("encoding the head of a payload", () => {
  it("encodeHead precedes a payload as encodeMessage does", () => {
    const rawData = new Uint8Array(300).fill(7);
    const framed = Buffer.concat([encodeHead("TensorProto", "rawData", rawData.byteLength), rawData]);
    expect(hex(framed)).toBe(hex(encodeMessage("TensorProto", { rawData })));
  });

  it("encodeHead refuses a field without a length", () => {
    expect(() => encodeHead("TensorProto", "dataType", 1)).toThrow(
      "TensorProto.dataType is no field of a stated length",
    );
  });
});

it("the schema lists the fields of each message in the order of their numbers", () => {
  for (const message of ["ModelProto", "GraphProto", "NodeProto", "AttributeProto", "TensorProto"]) {
    const ids = [...findSchema(message).keys()];
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
  }
});
