// Counts the weights that the packed initializers of an ONNX file stand for, by the nodes that read them.
import type { NodeMessage } from "./messages.ts";
import type { OnnxInitializer } from "./structure.ts";

/** Operator → the input that holds codes of K · N weights or, without those attributes, of its own elements. */
const CODES: Readonly<Record<string, { codes: number | null; scales: readonly number[] }>> = {
  MatMulNBits: { codes: 1, scales: [2, 3, 4] },
  MatMulBnb4: { codes: 1, scales: [2] },
  GatherBlockQuantized: { codes: 0, scales: [2, 3] },
  DequantizeLinear: { codes: null, scales: [1, 2] },
};

/** The densest code that ONNX Runtime packs has 2 bits; a node that claims more weights in a byte is ignored. */
const MAX_WEIGHTS_PER_BYTE = 4;

/** A node whose output has the same numbers as its input, in another shape or type. */
const isView = ({ opType }: NodeMessage): boolean => opType === "Reshape" || opType === "Cast" || opType === "Identity";
const MAX_VIEWS = 4;

/**
 * Maps names of initializers to their number of weights, which is 0 for scales and zero points. An initializer that is
 * not in the map has as many weights as elements.
 * Sources: ONNX Runtime's contrib operators MatMulNBits, MatMulBnb4 and GatherBlockQuantized; ONNX's DequantizeLinear.
 */
export function countPackedWeights(
  nodes: readonly NodeMessage[],
  initializers: readonly OnnxInitializer[],
): Map<string, number> {
  const stored = new Map(initializers.map((one) => [one.name, one]));
  const views = new Map(nodes.filter(isView).map(({ input, output }) => [output?.[0], input?.[0]]));
  const behind = (name: string | undefined): OnnxInitializer | undefined => {
    let [found, steps] = [name, 0];
    while (found !== undefined && views.has(found) && steps++ < MAX_VIEWS) found = views.get(found);
    return stored.get(found ?? "");
  };
  const weights = new Map<string, number>();
  for (const node of nodes) {
    const { opType = "", input = [] } = node;
    const places = Object.hasOwn(CODES, opType) ? CODES[opType] : undefined;
    if (!places) continue;
    for (const scale of places.scales.map((place) => behind(input[place]))) if (scale) weights.set(scale.name, 0);
    const codes = places.codes === null ? undefined : behind(input[places.codes]);
    const count = codes && countWeights(node, codes);
    // The smaller count is right for a matrix that is both looked up and multiplied with: the lookup counts its padding.
    if (codes && count !== undefined) weights.set(codes.name, Math.min(count, weights.get(codes.name) ?? count));
  }
  return weights;
}

/** Undefined when the attributes of the node are impossible for this number of bytes. */
function countWeights(node: NodeMessage, codes: OnnxInitializer): number | undefined {
  const attribute = (name: string) => node.attribute?.find((one) => one.name === name)?.i;
  const [K, N] = [attribute("K"), attribute("N")];
  const elements = codes.dims.reduce((product, dim) => product * dim, 1);
  // GatherBlockQuantized packs codes of `bits` bits into bytes; types of 4 bits (UINT4, INT4) have one element a weight.
  const count =
    K !== undefined && N !== undefined ? K * N : elements * (codes.dtype === UINT8 ? 8 / readBits(node) : 1);
  const possible = Number.isSafeInteger(count) && count >= 0 && count <= codes.byteLength * MAX_WEIGHTS_PER_BYTE;
  return possible ? count : undefined;
}

/** onnx.TensorProto.DataType.UINT8 */
const UINT8 = 2;

const readBits = ({ attribute = [] }: NodeMessage): number => attribute.find(({ name }) => name === "bits")?.i || 4;
