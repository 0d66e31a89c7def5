// The part of onnx.proto (IR 9) that we write and read, as protobufjs descriptors.
import protobuf from "protobufjs/light.js";

const field = (id: number, type: string) => ({ id, type });
const list = (id: number, type: string) => ({ id, type, rule: "repeated" as const });
/** Scalars that onnx.proto, a proto2 file, does not pack. */
const unpacked = (id: number, type: string) => ({ ...list(id, type), options: { packed: false } });

const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      fields: {
        irVersion: field(1, "int64"),
        producerName: field(2, "string"),
        producerVersion: field(3, "string"),
        docString: field(6, "string"),
        graph: field(7, "GraphProto"),
        opsetImport: list(8, "OperatorSetIdProto"),
        metadataProps: list(14, "StringStringEntryProto"),
      },
    },
    OperatorSetIdProto: { fields: { domain: field(1, "string"), version: field(2, "int64") } },
    StringStringEntryProto: { fields: { key: field(1, "string"), value: field(2, "string") } },
    GraphProto: {
      fields: {
        node: list(1, "NodeProto"),
        name: field(2, "string"),
        initializer: list(5, "TensorProto"),
        input: list(11, "ValueInfoProto"),
        output: list(12, "ValueInfoProto"),
      },
    },
    NodeProto: {
      fields: {
        input: list(1, "string"),
        output: list(2, "string"),
        name: field(3, "string"),
        opType: field(4, "string"),
        attribute: list(5, "AttributeProto"),
        domain: field(7, "string"),
      },
    },
    AttributeProto: {
      fields: {
        name: field(1, "string"),
        f: field(2, "float"),
        i: field(3, "int64"),
        s: field(4, "bytes"),
        floats: unpacked(7, "float"),
        ints: unpacked(8, "int64"),
        type: field(20, "int32"),
      },
    },
    TensorProto: {
      fields: {
        dims: unpacked(1, "int64"),
        dataType: field(2, "int32"),
        name: field(8, "string"),
        rawData: field(9, "bytes"),
        externalData: list(13, "StringStringEntryProto"),
        dataLocation: field(14, "int32"),
      },
    },
    ValueInfoProto: { fields: { name: field(1, "string"), type: field(2, "TypeProto") } },
    TypeProto: {
      fields: { tensorType: field(1, "Tensor") },
      nested: { Tensor: { fields: { elemType: field(1, "int32"), shape: field(2, "TensorShapeProto") } } },
    },
    TensorShapeProto: {
      fields: { dim: list(1, "Dimension") },
      nested: {
        Dimension: {
          oneofs: { value: { oneof: ["dimValue", "dimParam"] } },
          fields: { dimValue: field(1, "int64"), dimParam: field(2, "string") },
        },
      },
    },
  },
});

/** onnx.AttributeProto.AttributeType */
export const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, floats: 6, ints: 7 } as const;
/** onnx.TensorProto.DataLocation.EXTERNAL */
export const EXTERNAL = 1;
/** Field keys (number << 3 | wire type 2) of the two messages that we frame by hand to stream them. */
export const MODEL_GRAPH_KEY = (7 << 3) | 2;
export const GRAPH_INITIALIZER_KEY = (5 << 3) | 2;
export const TENSOR_RAW_DATA_KEY = (9 << 3) | 2;

/** Serialises a plain object as the named message. @throws Error when the object does not fit the message */
export function encodeMessage(message: "ModelProto" | "GraphProto" | "TensorProto", value: object): Uint8Array {
  const type = root.lookupType(message);
  const fault = type.verify(value);
  if (fault) throw new Error(`${message}: ${fault}`);
  return type.encode(type.fromObject(value)).finish();
}
