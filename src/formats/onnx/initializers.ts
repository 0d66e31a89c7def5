// Reads the description of an ONNX tensor: its shape must agree with its bytes, and its file's name stay in the folder.
import { quoteUntrusted } from "../../io/printable.ts";
import { LISTS, type TensorMessage } from "./messages.ts";
import type { ProtobufScanner } from "./protobuf-scanner.ts";
import { EXTERNAL } from "./schema.ts";
import type { OnnxExternal, OnnxInitializer } from "./structure.ts";

/** The number of dimensions that a message quotes. */
const MAX_SHOWN = 16;
/** Dimensions of a tensor; graphs of language models have six at most. */
const MAX_RANK = 32;
/** Elements in a byte of a type whose size is not known: the smallest types have one bit. */
const MAX_PER_BYTE = 8;
/** Bytes of the longest varint. */
const MAX_VARINT = 10;

/** Bits of an element by onnx.TensorProto.DataType; strings (8) have no size. */
const BITS: Readonly<Record<number, number>> = {
  ...{ 1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16 },
  ...{ 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2 },
};
const STRING = 8;

const countElements = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

/** Bytes of a tensor's values, packed; null for dtypes without a fixed size. */
export function countTensorBytes(dtype: number, dims: readonly number[]): number | null {
  const bits = BITS[dtype];
  return bits === undefined ? null : Math.ceil((countElements(dims) * bits) / 8);
}

export const isExternal = ({ dataLocation, externalData }: TensorMessage): boolean =>
  dataLocation === EXTERNAL || externalData !== undefined;

/** @throws NfcError "invalid-file" for an impossible shape, or data that is not that of the shape */
export function toInitializer(scanner: ProtobufScanner, tensor: TensorMessage): OnnxInitializer {
  const { name = "", dims = [], dataType: dtype = 0, rawData } = tensor;
  const size = countTensorBytes(dtype, dims);
  const possible = dims.length <= MAX_RANK && dims.every((dim) => dim >= 0);
  if (!possible || !Number.isSafeInteger(size ?? countElements(dims)))
    throw scanner.invalid(
      `tensor ${quoteUntrusted(name)} has the impossible shape [${dims.slice(0, MAX_SHOWN).join(", ")}]`,
    );
  refuseSecondPlace(scanner, tensor);
  const described = { name, dtype, dims };
  if (isExternal(tensor)) {
    const external = toExternal(scanner, tensor);
    const byteLength = external.length ?? size ?? 0;
    return checkBytes(scanner, { ...described, byteLength, offset: null, external });
  }
  if (rawData) {
    const { begin, end } = rawData;
    return checkBytes(scanner, { ...described, byteLength: end - begin, offset: begin, external: null });
  }
  return { ...described, byteLength: measureLists(scanner, tensor), offset: null, external: null };
}

/** Values lie in raw_data, in one list of numbers or strings, or in another file. */
function refuseSecondPlace(scanner: ProtobufScanner, tensor: TensorMessage): void {
  const raw = tensor.rawData && tensor.rawData.end > tensor.rawData.begin;
  const lists = LISTS.filter((list) => tensor[list]?.some(({ begin, end }) => end > begin));
  const places = lists.length + (raw ? 1 : 0) + (isExternal(tensor) ? 1 : 0);
  if (places > 1) throw scanner.invalid(`tensor ${quoteUntrusted(tensor.name ?? "")} has its data in two places`);
}

/** Stored bytes must be those of shape and dtype. */
function checkBytes(scanner: ProtobufScanner, tensor: OnnxInitializer): OnnxInitializer {
  const { name, dtype, dims, byteLength } = tensor;
  const expected = countTensorBytes(dtype, dims);
  if (expected === null ? countElements(dims) <= MAX_PER_BYTE * byteLength : byteLength === expected) return tensor;
  const needed = expected ?? `${Math.ceil(countElements(dims) / MAX_PER_BYTE)} at least`;
  throw scanner.invalid(
    `tensor ${quoteUntrusted(name)} has ${byteLength} bytes, its shape and dtype ask for ${needed}`,
  );
}

/** Bytes of the lists that hold a tensor's values: floats are 4 or 8 bytes each, other numbers are varints. */
function measureLists(scanner: ProtobufScanner, tensor: TensorMessage): number {
  const { name = "", dims = [], dataType: dtype = 0 } = tensor;
  const ranges = LISTS.flatMap((list) => tensor[list] ?? []);
  const bytes = ranges.reduce((sum, { begin, end }) => sum + end - begin, 0);
  const elements = countElements(dims);
  const bits = BITS[dtype] ?? 1;
  const floats = (tensor.floatData ?? tensor.doubleData) !== undefined;
  // Types of less than a byte share the numbers of int32_data; an empty string has no bytes, and a field of its own.
  const numbers = dtype === STRING ? ranges.length : Math.ceil((elements * Math.min(8, bits)) / 8);
  const [least, most] = floats
    ? [(elements * bits) / 8, (elements * bits) / 8]
    : dtype === STRING
      ? [0, bytes]
      : [numbers, numbers * MAX_VARINT];
  if (dtype === STRING ? numbers === elements : bytes >= least && bytes <= most) return bytes;
  const stored = dtype === STRING ? `${ranges.length} strings` : `${bytes} bytes`;
  throw scanner.invalid(`tensor ${quoteUntrusted(name)} has ${stored}, which are not the ${elements} of its shape`);
}

function toExternal(scanner: ProtobufScanner, { name = "", externalData = [] }: TensorMessage): OnnxExternal {
  const fault = (fact: string) => scanner.invalid(`tensor ${quoteUntrusted(name)}: external data ${fact}`);
  const entries = new Map(externalData.map(({ key = "", value = "" }) => [key, value]));
  if (entries.size < externalData.length) throw fault("with two entries of one name");
  const location = entries.get("location");
  if (!location) throw fault("without a location");
  const wrong = describeLocation(location);
  if (wrong !== null) throw fault(`${quoteUntrusted(location)} ${wrong}`);
  const number = (key: string): number | null => {
    const text = entries.get(key);
    if (text === undefined) return null;
    if (!/^\d{1,15}$/.test(text)) throw fault(`with ${key} ${quoteUntrusted(text)}, which is no number of bytes`);
    return Number(text);
  };
  return { location, offset: number("offset") ?? 0, length: number("length") };
}

/** What is wrong with the name of a file beside the model, on any system; null for nothing. */
function describeLocation(location: string): string | null {
  if (/^[\\/]|^[A-Za-z]:/.test(location) || location.split(/[\\/]/).includes("..")) return "leaves the model's folder";
  if (/^[A-Za-z][\w+.-]*:/.test(location)) return "is an address, not the name of a file";
  // A colon names a stream of a file on Windows, a backslash is a part of a name on other systems.
  return /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\\:*?"<>|]/u.test(location) ? "is no name of a file" : null;
}
