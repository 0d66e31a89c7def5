// Reads the declarations of an ONNX file (inputs, outputs, weights, ops) without its weights; files may be untrusted.
import { withFile } from "../../io/positional-file.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import {
  decode,
  LISTS,
  type ModelMessage,
  type NodeMessage,
  type TensorMessage,
  type ValueMessage,
} from "./messages.ts";
import { countPackedWeights } from "./packed.ts";
import { ProtobufScanner } from "./protobuf-scanner.ts";
import { EXTERNAL } from "./schema.ts";
import type { OnnxExternal, OnnxInitializer, OnnxStructure, OnnxValue } from "./structure.ts";

/** The number of dimensions that a message quotes. */
const MAX_SHOWN = 16;

/** Bits of an element by onnx.TensorProto.DataType; strings (8) have no size. */
const BITS: Readonly<Record<number, number>> = {
  ...{ 1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16 },
  ...{ 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2 },
};

/** Bytes of a tensor's values, packed; null for dtypes without a fixed size. */
export function countTensorBytes(dtype: number, dims: readonly number[]): number | null {
  const bits = BITS[dtype];
  return bits === undefined ? null : Math.ceil((dims.reduce((product, dim) => product * dim, 1) * bits) / 8);
}

/**
 * Reads the structure of an ONNX file. Weights are skipped: time and memory depend on the number of nodes and tensors,
 * which is limited.
 * @throws NfcError `invalid-file` for anything that is no well-formed ONNX model, `not-found`, `io`
 */
export function readOnnxStructure(path: string): Promise<OnnxStructure> {
  return withFile(path, async (file) => {
    const scanner = new ProtobufScanner(file);
    const model: ModelMessage = await decode(scanner, "ModelProto", scanner.whole, {});
    return toStructure(model, scanner, path);
  });
}

function toStructure(model: ModelMessage, scanner: ProtobufScanner, path: string): OnnxStructure {
  const { irVersion = 0, graph, producerName = "", producerVersion = "" } = model;
  if (!graph) throw scanner.invalid("is no ONNX model: it holds no graph");
  if (irVersion < 1) throw scanner.invalid("is no ONNX model: it has no IR version");
  const { node = [], initializer = [], input = [], output = [], sparseInitializer = [] } = graph;
  const attributes = node.flatMap(({ attribute = [] }) => attribute);
  const initializers = initializer.map((tensor) => toInitializer(scanner, tensor));
  const inputs = input.map((value) => toValue(scanner, value));
  const outputs = output.map((value) => toValue(scanner, value));
  for (const named of [initializers, inputs, outputs]) refuseDuplicates(scanner, named);
  const attributeTensors = attributes.flatMap(({ t, tensors = [] }) => (t ? [t, ...tensors] : tensors));
  return {
    ...{ path, fileBytes: scanner.whole.end, irVersion, producer: { name: producerName, version: producerVersion } },
    opsets: toOpsets(model),
    metadata: new Map((model.metadataProps ?? []).map(({ key = "", value = "" }) => [key, value])),
    ...{ inputs, outputs, initializers },
    packed: countPackedWeights(node, initializers),
    ops: countOps(node),
    subgraphs: [...new Set(node.filter(holdsGraph).map(({ opType = "" }) => opType))],
    functions: model.functions?.length ?? 0,
    sparse: sparseInitializer.length + attributes.filter((one) => one.sparseTensor || one.sparseTensors).length,
    externalAttributes: attributeTensors.filter(isExternal).length,
  };
}

/** "ai.onnx" is the long name of ONNX's own domain, "". */
const shortenDomain = (domain = ""): string => (domain === "ai.onnx" ? "" : domain);

function toOpsets({ opsetImport = [] }: ModelMessage): Map<string, number> {
  const opsets = new Map<string, number>();
  for (const { domain, version = 0 } of opsetImport) {
    const key = shortenDomain(domain);
    opsets.set(key, Math.max(version, opsets.get(key) ?? 0));
  }
  return opsets;
}

function countOps(nodes: readonly NodeMessage[]): OnnxStructure["ops"] {
  const ops = new Map<string, OnnxStructure["ops"][number]>();
  for (const { domain, opType: type = "" } of nodes) {
    const key = `${shortenDomain(domain)}:${type}`;
    const op = ops.get(key);
    if (op) op.count++;
    else ops.set(key, { domain: shortenDomain(domain), type, count: 1 });
  }
  return [...ops.values()];
}

const holdsGraph = ({ attribute = [] }: NodeMessage): boolean => attribute.some(({ g, graphs }) => g || graphs);

const isExternal = ({ dataLocation, externalData }: TensorMessage): boolean =>
  dataLocation === EXTERNAL || externalData !== undefined;

function refuseDuplicates(scanner: ProtobufScanner, values: readonly { name: string }[]): void {
  const names = new Set<string>();
  for (const { name } of values) {
    if (names.has(name)) throw scanner.invalid(`has the name ${quoteUntrusted(name)} twice`);
    names.add(name);
  }
}

function toValue(scanner: ProtobufScanner, { name = "", type }: ValueMessage): OnnxValue {
  const { elemType = 0, shape } = type?.tensorType ?? {};
  const dims =
    shape &&
    (shape.dim ?? []).map(({ dimValue = -1, dimParam }) => {
      if (dimValue >= 0 && dimParam)
        throw scanner.invalid(`${quoteUntrusted(name)} has a dimension both ${dimValue} and named`);
      return dimValue >= 0 ? dimValue : (dimParam ?? null); // some tools write -1 for a free dimension
    });
  return { name, dtype: elemType, dims: dims ?? null };
}

function toInitializer(scanner: ProtobufScanner, tensor: TensorMessage): OnnxInitializer {
  const { name = "", dims = [], dataType: dtype = 0, rawData } = tensor;
  const size = countTensorBytes(dtype, dims) ?? 0;
  if (!dims.every((dim) => dim >= 0) || !Number.isSafeInteger(size))
    throw scanner.invalid(
      `tensor ${quoteUntrusted(name)} has the impossible shape [${dims.slice(0, MAX_SHOWN).join(", ")}]`,
    );
  const described = { name, dtype, dims };
  if (isExternal(tensor)) {
    const external = toExternal(scanner, tensor);
    return { ...described, byteLength: external.length ?? size, offset: null, external };
  }
  if (rawData) {
    const { begin, end } = rawData;
    return { ...described, byteLength: end - begin, offset: begin, external: null };
  }
  const ranges = LISTS.flatMap((list) => tensor[list] ?? []);
  const byteLength = ranges.reduce((sum, { begin, end }) => sum + end - begin, 0);
  return { ...described, byteLength, offset: null, external: null };
}

function toExternal(scanner: ProtobufScanner, { name = "", externalData = [] }: TensorMessage): OnnxExternal {
  const fault = (fact: string) => scanner.invalid(`tensor ${quoteUntrusted(name)}: external data ${fact}`);
  const entries = new Map(externalData.map(({ key = "", value = "" }) => [key, value]));
  if (entries.size < externalData.length) throw fault("with two entries of one name");
  const location = entries.get("location");
  if (!location) throw fault("without a location");
  const number = (key: string): number | null => {
    const text = entries.get(key);
    if (text === undefined) return null;
    if (!/^\d{1,15}$/.test(text)) throw fault(`with ${key} ${quoteUntrusted(text)}, which is no number of bytes`);
    return Number(text);
  };
  return { location, offset: number("offset") ?? 0, length: number("length") };
}
