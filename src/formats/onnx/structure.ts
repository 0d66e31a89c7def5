// The declarations of an ONNX file: inputs, outputs, initializers and ops, without the values of the weights.
import { basename } from "node:path";

/** A graph input or output. */
export interface OnnxValue {
  name: string;
  /** onnx.TensorProto.DataType; 0 for a sequence, map or optional, and where the file does not say. */
  dtype: number;
  /** Numbers, names of free dimensions, null for unnamed ones; null where the file states no shape. */
  dims: (number | string | null)[] | null;
}

/** Bytes of a tensor in another file, as the entries of external_data say. */
export interface OnnxExternal {
  location: string;
  offset: number;
  /** null: to be computed from shape and dtype. */
  length: number | null;
}

export interface OnnxInitializer {
  name: string;
  /** onnx.TensorProto.DataType */
  dtype: number;
  dims: number[];
  /** Bytes of the values as they are stored: in the model file, or where `external` says. */
  byteLength: number;
  /** The byte of the file at which raw_data begins; null for external data and for lists of numbers. */
  offset: number | null;
  external: OnnxExternal | null;
}

/** Where an initializer's bytes lie, by the name beside the model file; null for lists of numbers. */
export function locateInitializer(
  path: string,
  { external, offset }: Pick<OnnxInitializer, "external" | "offset">,
): { location: string; offset: number } | null {
  if (external) return { location: external.location, offset: external.offset };
  return offset === null ? null : { location: basename(path), offset };
}

export interface OnnxStructure {
  path: string;
  fileBytes: number;
  irVersion: number;
  producer: { name: string; version: string };
  /** Domain → version; ONNX's own domain is "". */
  opsets: Map<string, number>;
  metadata: Map<string, string>;
  inputs: OnnxValue[];
  outputs: OnnxValue[];
  initializers: OnnxInitializer[];
  /** Weights of the initializers that pack several into an element, or that are scales (0): see `countPackedWeights`. */
  packed: Map<string, number>;
  /** Whether a device has to have 16-bit floats to run it: see `usesHalfFloats`. */
  halfFloats: boolean;
  /** How often each op occurs in the main graph. */
  ops: { domain: string; type: string; count: number }[];
  /** Op types with a graph of their own (If, Loop, Scan); what those graphs hold is not read. */
  subgraphs: string[];
  /** Functions of the model's own. */
  functions: number;
  /** Sparse tensors anywhere. */
  sparse: number;
  /** Tensors in attributes whose bytes lie in another file. */
  externalAttributes: number;
}
