// Reads the declarations of an ONNX file (inputs, outputs, weights, ops) without its weights; files may be untrusted.
import { withFile } from "../../io/positional-file.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import { usesHalfFloats } from "./half-floats.ts";
import { isExternal, toInitializer } from "./initializers.ts";
import { decode, type ModelMessage, type NodeMessage, type ValueMessage } from "./messages.ts";
import { refuseOtherWidth } from "./output-width.ts";
import { countPackedWeights } from "./packed.ts";
import { ProtobufScanner } from "./protobuf-scanner.ts";
import type { OnnxStructure, OnnxValue } from "./structure.ts";

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
  for (const named of [initializer, input, output]) refuseDuplicates(scanner, named);
  const initializers = initializer.map((tensor) => toInitializer(scanner, tensor));
  const inputs = input.map((value) => toValue(scanner, value));
  const outputs = output.map((value) => toValue(scanner, value));
  refuseOtherWidth(scanner, { nodes: node, initializers, outputs });
  const attributeTensors = attributes.flatMap(({ t, tensors = [] }) => (t ? [t, ...tensors] : tensors));
  for (const tensor of attributeTensors) if (!isExternal(tensor)) toInitializer(scanner, tensor);
  return {
    ...{ path, fileBytes: scanner.whole.end, irVersion, producer: { name: producerName, version: producerVersion } },
    opsets: toOpsets(model),
    metadata: new Map((model.metadataProps ?? []).map(({ key = "", value = "" }) => [key, value])),
    ...{ inputs, outputs, initializers },
    packed: countPackedWeights(node, initializers),
    halfFloats: usesHalfFloats(node, { inputs, outputs, initializers }),
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

function refuseDuplicates(scanner: ProtobufScanner, values: readonly { name?: string }[]): void {
  const names = new Set<string>();
  for (const { name = "" } of values) {
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
