// The part of onnx.proto (IR 9) that nfc writes and reads: each message's fields, in the order of their numbers.

/** A field of a message. */
export interface SchemaField {
  id: number;
  name: string;
  repeated: boolean;
  kind: "message" | "string" | "bytes" | "int" | "float";
  /** The wire type of one value: 0 varint, 2 bytes with a length, 5 four bytes. */
  wire: number;
  /** The nested message, where `kind` is "message". */
  message: string;
  /** Whether 0 and "" are written as well: a member of a oneof tells by its presence which of them was chosen. */
  explicit: boolean;
}

type FieldType = Omit<SchemaField, "name">;

const SCALARS = {
  int32: { kind: "int", wire: 0 },
  int64: { kind: "int", wire: 0 },
  float: { kind: "float", wire: 5 },
  string: { kind: "string", wire: 2 },
  bytes: { kind: "bytes", wire: 2 },
} as const;

/** A field of a scalar type, or of a message by its name. */
function field(id: number, type: string, { repeated = false, explicit = false } = {}): FieldType {
  if (!Object.hasOwn(SCALARS, type)) return { id, repeated, explicit, message: type, kind: "message", wire: 2 };
  return { id, repeated, explicit, message: "", ...SCALARS[type as keyof typeof SCALARS] };
}

/** Repeated scalars are not packed: onnx.proto is a proto2 file. */
const list = (id: number, type: string) => field(id, type, { repeated: true });
/** A member of a oneof. */
const option = (id: number, type: string) => field(id, type, { explicit: true });

const MESSAGES = {
  ModelProto: {
    irVersion: field(1, "int64"),
    producerName: field(2, "string"),
    producerVersion: field(3, "string"),
    docString: field(6, "string"),
    graph: field(7, "GraphProto"),
    opsetImport: list(8, "OperatorSetIdProto"),
    metadataProps: list(14, "StringStringEntryProto"),
    functions: list(25, "bytes"),
  },
  OperatorSetIdProto: { domain: field(1, "string"), version: field(2, "int64") },
  StringStringEntryProto: { key: field(1, "string"), value: field(2, "string") },
  GraphProto: {
    node: list(1, "NodeProto"),
    name: field(2, "string"),
    initializer: list(5, "TensorProto"),
    input: list(11, "ValueInfoProto"),
    output: list(12, "ValueInfoProto"),
    sparseInitializer: list(15, "bytes"),
  },
  NodeProto: {
    input: list(1, "string"),
    output: list(2, "string"),
    name: field(3, "string"),
    opType: field(4, "string"),
    attribute: list(5, "AttributeProto"),
    domain: field(7, "string"),
  },
  AttributeProto: {
    name: field(1, "string"),
    f: field(2, "float"),
    i: field(3, "int64"),
    s: field(4, "bytes"),
    t: field(5, "TensorProto"),
    g: field(6, "bytes"),
    floats: list(7, "float"),
    ints: list(8, "int64"),
    tensors: list(10, "TensorProto"),
    graphs: list(11, "bytes"),
    type: field(20, "int32"),
    sparseTensor: field(22, "bytes"),
    sparseTensors: list(23, "bytes"),
  },
  TensorProto: {
    dims: list(1, "int64"),
    dataType: field(2, "int32"),
    floatData: list(4, "bytes"), // this and the other lists of numbers are packed; their content is never read
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
  ValueInfoProto: { name: field(1, "string"), type: field(2, "TypeProto") },
  TypeProto: { tensorType: field(1, "TypeProto.Tensor"), sequenceType: field(4, "TypeProto.Sequence") },
  "TypeProto.Sequence": { elemType: field(1, "TypeProto") },
  "TypeProto.Tensor": { elemType: field(1, "int32"), shape: field(2, "TensorShapeProto") },
  TensorShapeProto: { dim: list(1, "TensorShapeProto.Dimension") },
  "TensorShapeProto.Dimension": { dimValue: option(1, "int64"), dimParam: option(2, "string") },
} satisfies Record<string, Record<string, FieldType>>;

/** The fields of a message by number, in ascending order. */
export type MessageSchema = ReadonlyMap<number, SchemaField>;

const SCHEMAS = new Map<string, MessageSchema>(
  Object.entries(MESSAGES).map(([message, fields]: [string, Record<string, FieldType>]) => [
    message,
    new Map(Object.entries(fields).map(([name, type]) => [type.id, { name, ...type }])),
  ]),
);

/** @throws Error for a message that the table lacks */
export function findSchema(message: string): MessageSchema {
  const schema = SCHEMAS.get(message);
  if (!schema) throw new Error(`the ONNX schema has no message ${message}`);
  return schema;
}

/** onnx.AttributeProto.AttributeType */
export const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, floats: 6, ints: 7 } as const;
/** onnx.TensorProto.DataLocation.EXTERNAL */
export const EXTERNAL = 1;
