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
        functions: list(25, "bytes"),
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
        sparseInitializer: list(15, "bytes"),
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
        t: field(5, "TensorProto"),
        g: field(6, "bytes"),
        floats: unpacked(7, "float"),
        ints: unpacked(8, "int64"),
        tensors: list(10, "TensorProto"),
        graphs: list(11, "bytes"),
        type: field(20, "int32"),
        sparseTensor: field(22, "bytes"),
        sparseTensors: list(23, "bytes"),
      },
    },
    TensorProto: {
      fields: {
        dims: unpacked(1, "int64"),
        dataType: field(2, "int32"),
        floatData: list(4, "bytes"), // this and the other lists of numbers are packed; nobody looks into them
        int32Data: list(5, "bytes"),
        stringData: list(6, "bytes"),
        int64Data: list(7, "bytes"),
        name: field(8, "string"),
        rawData: field(9, "bytes"),
        doubleData: list(10, "bytes"),
        uint64Data: list(11, "bytes"),
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

/** What a reader must know of a field. */
export interface SchemaField {
  name: string;
  repeated: boolean;
  kind: "message" | "string" | "bytes" | "int" | "float";
  /** The wire type of one value: 0 varint, 2 bytes with a length, 5 four bytes. */
  wire: number;
  /** The nested message, where `kind` is "message". */
  message: string;
}

const SCALARS: Readonly<Record<string, Pick<SchemaField, "kind" | "wire">>> = {
  int32: { kind: "int", wire: 0 },
  int64: { kind: "int", wire: 0 },
  float: { kind: "float", wire: 5 },
  string: { kind: "string", wire: 2 },
  bytes: { kind: "bytes", wire: 2 },
};
const described = new Map<string, ReadonlyMap<number, SchemaField>>();

/** The fields of a message by number; nested messages by their full names, such as "TypeProto.Tensor". */
export function findSchema(message: string): ReadonlyMap<number, SchemaField> {
  const known = described.get(message);
  if (known) return known;
  const fields = root.lookupType(message).fieldsArray.map((one): [number, SchemaField] => {
    const { id, name, repeated, type, resolvedType } = one.resolve();
    const scalar = SCALARS[type] ?? { kind: "message", wire: 2 };
    return [id, { name, repeated, ...scalar, message: resolvedType?.fullName.slice(1) ?? "" }];
  });
  const schema = new Map(fields);
  described.set(message, schema);
  return schema;
}

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
