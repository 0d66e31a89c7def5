// The form of a gradient rule, and the sum over broadcast axes that rules share.
import { formatShape, isSameShape, type Shape } from "../dims.ts";
import type { Attribute, Node, Value } from "../ir.ts";
import { matmul, reduceSum } from "../ops.ts";
import { reshape } from "../shape-ops.ts";

export interface RuleContext {
  node: Node;
  /** dL/d(output) of each output; null where the loss does not depend on it. At least one is not null. */
  grads: readonly (Value | null)[];
  /** Whether the gradient of input `i` is wanted. */
  needs(i: number): boolean;
  /** What a rule reads of a value of the forward pass: the value itself, or a copy that is computed where it is read. */
  read(value: Value): Value;
  /** Whether the first factor of a product is transposed by a node of its own. */
  turned: boolean;
}

/** Gives dL/d(input) for each input in order; null, or absent at the end, where it is zero or not wanted. */
export type Rule = (context: RuleContext) => readonly (Value | null)[];

/** Sums a gradient over the axes along which a value of `shape` was broadcast. */
export function unbroadcast(grad: Value, shape: Shape): Value {
  if (isSameShape(grad.shape, shape)) return grad;
  const [rows] = grad.shape;
  // A product with a row of ones sums the rows of a matrix faster than ONNX Runtime's reduction does.
  if (grad.shape.length === 2 && isSameShape(grad.shape.slice(1), shape) && typeof rows === "number")
    return reshape(matmul(ones(grad, rows), grad), shape);
  const lead = grad.shape.length - shape.length;
  const axes = grad.shape.flatMap((dim, i) => (i < lead || (shape[i - lead] === 1 && dim !== 1) ? [i] : []));
  const summed = reduceSum(grad, axes, true);
  if (!isSameShape(summed.shape.slice(lead), shape))
    throw new Error(`unbroadcast: ${formatShape(grad.shape)} does not sum to ${formatShape(shape)}`);
  return reshape(summed, shape);
}

/** A row of ones: [1, n] */
function ones({ graph, dtype }: Value, n: number): Value {
  const data = dtype === "float64" ? new Float64Array(n) : new Float32Array(n);
  return graph.constant(data.fill(1), [1, n], dtype);
}

/** The gradient of a node's only output, and its inputs. */
export function unpack({ node, grads, read }: RuleContext): { dy: Value; y: Value; inputs: readonly Value[] } {
  const inputs = (node.inputs as readonly Value[]).map((input) => input && read(input));
  return { dy: grads[0] as Value, y: read(node.outputs[0] as Value), inputs };
}

/** An integer attribute, or its default. */
export function readIntAttribute(node: Node, name: string, otherwise: number): number {
  const attribute = node.attributes[name] as Extract<Attribute, { int: number }> | undefined;
  return attribute?.int ?? otherwise;
}

/** A rule for an op of one input: dL/dx from dL/dy, x and y. */
export function unaryRule(derive: (dy: Value, x: Value, y: Value, node: Node) => Value): Rule {
  return (context) => {
    const { dy, y, inputs } = unpack(context);
    return [derive(dy, inputs[0] as Value, y, context.node)];
  };
}
