// Decodes the messages of an ONNX file by the schema into plain objects, which name the places of payloads.
import type { ByteRange, ProtobufScanner, WireField } from "./protobuf-scanner.ts";
import { findSchema, type SchemaField } from "./schema.ts";

// The messages as `decode` returns them: an absent field is undefined, and a field of bytes is its place in the file.
export interface ModelMessage {
  irVersion?: number;
  producerName?: string;
  producerVersion?: string;
  graph?: GraphMessage;
  opsetImport?: { domain?: string; version?: number }[];
  metadataProps?: EntryMessage[];
  functions?: ByteRange[];
}
interface EntryMessage {
  key?: string;
  value?: string;
}
interface GraphMessage {
  node?: NodeMessage[];
  initializer?: TensorMessage[];
  input?: ValueMessage[];
  output?: ValueMessage[];
  sparseInitializer?: ByteRange[];
}
export interface NodeMessage {
  opType?: string;
  domain?: string;
  input?: string[];
  output?: string[];
  attribute?: AttributeMessage[];
}
interface AttributeMessage {
  name?: string;
  i?: number;
  t?: TensorMessage;
  tensors?: TensorMessage[];
  g?: ByteRange;
  graphs?: ByteRange[];
  sparseTensor?: ByteRange;
  sparseTensors?: ByteRange[];
}
export interface TensorMessage extends Partial<Record<(typeof LISTS)[number], ByteRange[]>> {
  dims?: number[];
  dataType?: number;
  name?: string;
  rawData?: ByteRange;
  externalData?: EntryMessage[];
  dataLocation?: number;
}
export interface ValueMessage {
  name?: string;
  type?: { tensorType?: { elemType?: number; shape?: { dim?: { dimValue?: number; dimParam?: string }[] } } };
}

/** The fields that hold the values of a tensor without raw_data. */
export const LISTS = ["floatData", "int32Data", "stringData", "int64Data", "doubleData", "uint64Data"] as const;

/**
 * Decodes a message into `target`, field by field as protobuf has it: lists grow, messages merge, scalars are replaced.
 * Fields that the schema lacks are skipped, and fields of bytes are not read. The schema limits the depth of the
 * recursion: a tensor in an attribute is the deepest message.
 */
export async function decode<T extends object>(
  scanner: ProtobufScanner,
  message: string,
  range: ByteRange,
  target: T,
): Promise<T> {
  const schema = findSchema(message);
  const fields = target as Record<string, unknown>;
  const payload = (field: WireField, { kind, message: nested }: SchemaField, into: object = {}) => {
    if (kind === "string") return scanner.readText(field);
    return kind === "bytes" ? { begin: field.begin, end: field.end } : decode(scanner, nested, field, into);
  };
  const store = async (field: WireField, known: SchemaField) => {
    const { name, kind, repeated, wire } = known;
    if (field.wire !== wire && !(kind === "int" && repeated && field.wire === 2))
      throw scanner.invalid(`${name} of ${message} at byte ${field.begin} is of the wrong kind`);
    const earlier = fields[name] as object | undefined;
    const values =
      kind === "int" ? await scanner.readInts(field) : [await payload(field, known, repeated ? {} : earlier)];
    if (!repeated) fields[name] = values[0];
    else if (earlier) (earlier as unknown[]).push(...values);
    else fields[name] = values;
  };
  await scanner.scan(range, (field) => {
    const known = schema.get(field.id);
    return known && known.kind !== "float" ? store(field, known) : undefined;
  });
  return target;
}
