// Holds the declared width of a model's logits against the matrix that they are made with.
import type { NodeMessage } from "./messages.ts";
import type { ProtobufScanner } from "./protobuf-scanner.ts";
import type { OnnxInitializer, OnnxValue } from "./structure.ts";

const OUTPUT = "logits";
/** Nodes between the matrix product and the output. */
const MAX_STEPS = 16;

/** Ops that give their first input's last dimension on; a Reshape of logits splits the rows. */
const KEEPS_WIDTH: readonly string[] = ["Cast", "Identity", "Reshape", "Tanh", "Relu", "Clip", "Dropout"];
/** Ops of two inputs, one of which may be a number or a vector that is broadcast. */
const POINTWISE: readonly string[] = ["Add", "Sub", "Mul", "Div"];
/** Ops that multiply their first input with a matrix [.., K, N] at the place given. */
const PRODUCTS: Readonly<Record<string, number>> = { MatMul: 1, MatMulInteger: 1, DynamicQuantizeMatMul: 1, Gemm: 1 };
/** Ops whose output has the dims of the first input. */
const VIEWS: readonly string[] = ["Cast", "Identity", "DequantizeLinear"];

interface Model {
  nodes: readonly NodeMessage[];
  initializers: readonly OnnxInitializer[];
  outputs: readonly OnnxValue[];
}

/** @throws NfcError "invalid-file" where the weights make logits of another width than the file declares */
export function refuseOtherWidth(scanner: ProtobufScanner, { nodes, initializers, outputs }: Model): void {
  const declared = outputs.find(({ name }) => name === OUTPUT)?.dims?.at(-1);
  if (typeof declared !== "number") return;
  const width = new WidthFinder(nodes, initializers).findWidth(OUTPUT, MAX_STEPS);
  if (width === null || width === declared) return;
  throw scanner.invalid(`${OUTPUT} is declared ${declared} wide, but its weights make it ${width} wide`);
}

class WidthFinder {
  private readonly makers = new Map<string, NodeMessage>();
  private readonly stored: ReadonlyMap<string, OnnxInitializer>;

  constructor(nodes: readonly NodeMessage[], initializers: readonly OnnxInitializer[]) {
    for (const node of nodes) for (const output of node.output ?? []) this.makers.set(output, node);
    this.stored = new Map(initializers.map((one) => [one.name, one]));
  }

  /** The last dimension of a value, as far back as it shows; else null. */
  findWidth(name: string | undefined, steps: number): number | null {
    const weight = this.stored.get(name ?? "");
    if (weight) return weight.dims.at(-1) ?? 1;
    const node = this.makers.get(name ?? "");
    if (!node || steps === 0) return null;
    const { opType = "", input = [] } = node;
    if (KEEPS_WIDTH.includes(opType)) return this.findWidth(input[0], steps - 1);
    if (POINTWISE.includes(opType)) {
      const [a, b] = [this.findWidth(input[0], steps - 1), this.findWidth(input[1], steps - 1)];
      if (a === null || b === null || (a !== b && a !== 1 && b !== 1)) return null;
      return Math.max(a, b);
    }
    return this.findProductWidth(node, steps - 1);
  }

  private findProductWidth(node: NodeMessage, steps: number): number | null {
    const { opType = "", input = [] } = node;
    if (opType === "MatMulNBits" || opType === "MatMulBnb4") return readAttribute(node, "N") ?? null;
    const place = Object.hasOwn(PRODUCTS, opType) ? PRODUCTS[opType] : undefined;
    const dims = place === undefined ? null : this.findDims(input[place], steps);
    if (!dims || dims.length < 2) return null;
    return dims.at(opType === "Gemm" && readAttribute(node, "transB") ? -2 : -1) ?? null;
  }

  /** The dims of a stored matrix, also behind a Transpose that turns its last two axes. */
  private findDims(name: string | undefined, steps: number): readonly number[] | null {
    const weight = this.stored.get(name ?? "");
    if (weight) return weight.dims;
    const node = this.makers.get(name ?? "");
    if (!node || steps === 0) return null;
    const dims = this.findDims(node.input?.[0], steps - 1);
    if (VIEWS.includes(node.opType ?? "")) return dims;
    return node.opType === "Transpose" && dims?.length === 2 ? [...dims].reverse() : null;
  }
}

const readAttribute = ({ attribute = [] }: NodeMessage, name: string): number | undefined =>
  attribute.find((one) => one.name === name)?.i;
