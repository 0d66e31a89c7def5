// Finds whether an ONNX file computes with 16-bit floats, which not every GPU has.
import type { NodeMessage } from "./messages.ts";
import type { OnnxStructure } from "./structure.ts";

/** onnx.TensorProto.DataType */
const FLOAT16 = 10;

/**
 * True where an input or output is float16, a node casts to float16, or a node reads a float16 initializer. A Cast of an
 * initializer does not count: ONNX Runtime computes it when it loads the file, before it asks a device for anything.
 */
export function usesHalfFloats(
  nodes: readonly NodeMessage[],
  { inputs, outputs, initializers }: Pick<OnnxStructure, "inputs" | "outputs" | "initializers">,
): boolean {
  if ([...inputs, ...outputs].some(({ dtype }) => dtype === FLOAT16)) return true;
  const half = new Set(initializers.filter(({ dtype }) => dtype === FLOAT16).map(({ name }) => name));
  return nodes.some(({ opType, input = [], attribute = [] }) =>
    opType === "Cast"
      ? attribute.some(({ name, i }) => name === "to" && i === FLOAT16)
      : input.some((name) => half.has(name)),
  );
}
