// Serializes a graph as ONNX (opset 20, IR 9): weights as inputs, as external data, or streamed inline.
import { NfcError } from "../errors.ts";
import { encodeHead, encodeMessage } from "../formats/onnx/encode.ts";
import { ATTRIBUTE_TYPE, EXTERNAL } from "../formats/onnx/schema.ts";
import type { Shape } from "./dims.ts";
import {
  type Attribute,
  type ConstantData,
  type Graph,
  type GraphDtype,
  type LiveGraph,
  type Node,
  pruneGraph,
  type Value,
} from "./ir.ts";
import { ONNX_DATA_TYPE } from "./ops.ts";

const OPSET = 20;
const IR_VERSION = 9;
/** protobuf's limit for one message; ONNX Runtime refuses larger files. */
export const MAX_INLINE_BYTES = 2 ** 31 - 1;

/** The place of a weight's bytes in another file beside the model, or in memory given to ONNX Runtime under that name. */
export interface ExternalLocation {
  location: string;
  offset: number;
  byteLength: number;
}

/** Bytes of a weight that are written into the model. */
export interface InlineData {
  byteLength: number;
  chunks(): AsyncIterable<Uint8Array>;
}

/** The place of each parameter's bytes; "inputs" makes the parameters graph inputs. */
export type ParameterPlacement = "inputs" | ((parameter: Value) => ExternalLocation | InlineData);

export interface EncodeOptions {
  parameters: ParameterPlacement;
  producer?: { name: string; version: string } | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  /** Whether an empty sequence, `NO_TENSOR`, comes before the other outputs. */
  noTensor?: boolean | undefined;
}

/** An output that is no tensor: onnxruntime-node gives back no output of a run that is asked for it (session.ts). */
export const NO_TENSOR = "no_tensor";
const SEQUENCE_NODE = {
  opType: "SequenceEmpty",
  name: "SequenceEmpty",
  output: [NO_TENSOR],
  attribute: [{ name: "dtype", i: ONNX_DATA_TYPE.float32, type: ATTRIBUTE_TYPE.int }],
};
const SEQUENCE_OUTPUT = {
  name: NO_TENSOR,
  type: { sequenceType: { elemType: { tensorType: { elemType: ONNX_DATA_TYPE.float32 } } } },
};

/**
 * Serializes the model as a stream of byte chunks, so that memory does not grow with its weights. Only nodes and weights that an
 * output needs are written.
 * @throws NfcError "unsupported" when inline weights exceed protobuf's 2 GiB
 */
export async function* streamOnnx(graph: Graph, options: EncodeOptions): AsyncGenerator<Uint8Array> {
  const { envelope, parts, inline } = layOutParameters(graph, options);
  const framed = inline.map((tensor) => ({
    ...tensor,
    frame: frameInitializer(tensor.header, tensor.data.byteLength),
  }));
  const graphLength =
    parts.byteLength + framed.reduce((sum, { frame, data }) => sum + frame.byteLength + data.byteLength, 0);
  if (envelope.byteLength + graphLength > MAX_INLINE_BYTES)
    throw new NfcError("unsupported", `the ONNX file would have ${graphLength} bytes; one file holds 2 GiB at most`, {
      hint: "export with --external-data",
    });
  yield envelope;
  yield encodeHead("ModelProto", "graph", graphLength);
  yield parts;
  for (const { frame, data } of framed) {
    yield frame;
    yield* data.chunks();
  }
}

/** The length of what `streamOnnx` gives, without reading a weight, and however long it would be. */
export function countOnnxBytes(graph: Graph, options: EncodeOptions): number {
  const { envelope, parts, inline } = layOutParameters(graph, options);
  const weights = inline.reduce(
    (sum, { header, data: { byteLength } }) => sum + frameInitializer(header, byteLength).byteLength + byteLength,
    0,
  );
  const length = parts.byteLength + weights;
  return envelope.byteLength + encodeHead("ModelProto", "graph", length).byteLength + length;
}

/** Serializes the model into one buffer, for graphs whose weights are inputs or external. */
export function encodeOnnx(graph: Graph, options: EncodeOptions): Uint8Array {
  const { envelope, parts, inline } = layOutParameters(graph, options);
  if (inline.length > 0) throw new Error("encodeOnnx: inline weights are written by streamOnnx");
  return Buffer.concat([envelope, encodeHead("ModelProto", "graph", parts.byteLength), parts]);
}

interface InlineTensor {
  header: Uint8Array;
  data: InlineData;
}

function layOutParameters(graph: Graph, options: EncodeOptions) {
  const live = pruneGraph(graph);
  const initializers: object[] = live.constants.map(toConstantProto);
  const inputs = [...live.inputs];
  const inline: InlineTensor[] = [];
  for (const parameter of live.parameters) {
    if (options.parameters === "inputs") {
      inputs.push(parameter);
      continue;
    }
    const place = options.parameters(parameter);
    if ("location" in place) initializers.push(toExternalProto(parameter, place));
    else inline.push({ header: encodeMessage("TensorProto", toTensorProto(parameter)), data: place });
  }
  const parts = encodeMessage("GraphProto", {
    name: "nfc",
    node: [
      ...(options.noTensor ? [SEQUENCE_NODE] : []),
      ...toNodeProtos(options.parameters === "inputs" ? orderForMemory(live.nodes) : live.nodes),
    ],
    input: inputs.map(toValueInfo),
    output: [...(options.noTensor ? [SEQUENCE_OUTPUT] : []), ...live.outputs.map(toValueInfo)],
    initializer: initializers,
  });
  return { envelope: makeModelEnvelope(live, options), parts, inline };
}

function makeModelEnvelope(live: LiveGraph, { producer, metadata = {} }: EncodeOptions): Uint8Array {
  const domains = new Set(live.nodes.map((node) => node.domain).filter((domain) => domain !== ""));
  return encodeMessage("ModelProto", {
    irVersion: IR_VERSION,
    producerName: producer?.name ?? "nfc",
    producerVersion: producer?.version ?? "",
    opsetImport: [{ domain: "", version: OPSET }, ...[...domains].sort().map((domain) => ({ domain, version: 1 }))],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
}

/**
 * Orders nodes so that ONNX Runtime runs them as the graph was built. It begins with the last node that no other one reads,
 * runs what that needs, and goes on to the node before it. A weight's gradient is such a node: at the end of all, where the
 * walk over the outputs has it, it would keep its two factors for the whole run.
 */
function orderForMemory(nodes: readonly Node[]): Node[] {
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const built = nodes.toSorted((a, b) => a.place - b.place);
  const isRead = (node: Node) => node.outputs.some((output) => read.has(output));
  return [...built.filter(isRead), ...built.filter((node) => !isRead(node)).reverse()];
}

function toNodeProtos(nodes: readonly Node[]): object[] {
  return nodes.map((node, i) => ({
    opType: node.op,
    domain: node.domain,
    name: `${node.op}_${i}`,
    input: node.inputs.map((value) => value?.name ?? ""),
    output: node.outputs.map((value) => value.name),
    attribute: toAttributeProtos(node),
  }));
}

function toAttributeProtos(node: Node): object[] {
  return Object.entries(node.attributes).map(([name, attribute]) => ({ name, ...toAttributeValue(attribute) }));
}

function toAttributeValue(attribute: Attribute): object {
  if ("int" in attribute) return { i: attribute.int, type: ATTRIBUTE_TYPE.int };
  if ("float" in attribute) return { f: attribute.float, type: ATTRIBUTE_TYPE.float };
  if ("string" in attribute) return { s: Buffer.from(attribute.string), type: ATTRIBUTE_TYPE.string };
  if ("ints" in attribute) return { ints: [...attribute.ints], type: ATTRIBUTE_TYPE.ints };
  return { floats: [...attribute.floats], type: ATTRIBUTE_TYPE.floats };
}

function toValueInfo(value: Value): object {
  const dim = value.shape.map((d) => (typeof d === "number" ? { dimValue: d } : { dimParam: d }));
  return { name: value.name, type: { tensorType: { elemType: ONNX_DATA_TYPE[value.dtype], shape: { dim } } } };
}

function toTensorProto(value: { name: string; dtype: GraphDtype; shape: Shape }): object {
  for (const dim of value.shape)
    if (typeof dim !== "number") throw new Error(`${value.name}: a stored tensor needs a static shape, has ${dim}`);
  return { dims: [...value.shape], dataType: ONNX_DATA_TYPE[value.dtype], name: value.name };
}

function toConstantProto(value: Value): object {
  const data = value.data as ConstantData;
  return { ...toTensorProto(value), rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

function toExternalProto(value: Value, place: ExternalLocation): object {
  const entries = { location: place.location, offset: String(place.offset), length: String(place.byteLength) };
  const externalData = Object.entries(entries).map(([key, entry]) => ({ key, value: entry }));
  return { ...toTensorProto(value), externalData, dataLocation: EXTERNAL };
}

/** Encodes GraphProto.initializer up to and including the length of its raw_data. */
function frameInitializer(header: Uint8Array, byteLength: number): Uint8Array {
  const rawHead = encodeHead("TensorProto", "rawData", byteLength);
  const head = encodeHead("GraphProto", "initializer", header.byteLength + rawHead.byteLength + byteLength);
  return Buffer.concat([head, header, rawHead]);
}
