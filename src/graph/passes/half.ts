// Products in float16: lowers a float32 graph, and keeps sums, norms, softmax and GELU in float32.
import type { Graph, GraphDtype, Node, Value } from "../ir.ts";
import { pruneGraph } from "../ir.ts";
import { castOnce, type Rewrite, rewriteGraph } from "./rewrite.ts";

/** Ops that are computed in float16, whatever the dtype of their operands. */
const PRODUCTS = new Set(["Gemm", "MatMul", "MatMulNBits"]);
/** Ops that move data: they keep the dtype of their float inputs. */
const MOVES = new Set([
  "Reshape",
  "Transpose",
  "Split",
  "Concat",
  "Slice",
  "Unsqueeze",
  "Gather",
  "GatherBlockQuantized",
]);

export interface HalfOptions {
  /** Whether an input becomes float16, as those of the cache do. */
  halfInput: (name: string) => boolean;
  /** Whether an output stays float32; the others have the dtype that they are computed in. */
  fullOutput: (name: string) => boolean;
}

/**
 * A copy of the graph in float16 where that is fast and safe. Sums and exponentials (residual stream, layer norm,
 * softmax, mask, GELU) stay in float32: GPT-2's hidden states pass 1000, where float16 counts in steps of 1, and their
 * squares pass its largest number. A weight is float16 where only products and moves read it.
 */
export function toHalfGraph(original: Graph, { halfInput, fullOutput }: HalfOptions): Graph {
  const half = toHalfParameters(original);
  const dtypeOf = (leaf: Value): GraphDtype =>
    half.has(leaf) || (leaf.kind === "input" && leaf.dtype === "float32" && halfInput(leaf.name))
      ? "float16"
      : leaf.dtype;
  return rewriteGraph(original, (node, rewrite) => lowerNode(node, rewrite, isProduct), {
    dtypeOf,
    output: (copy, name) => (fullOutput(name) ? castOnce(copy, "float32") : copy),
  });
}

/** Finds the float32 parameters that only products and moves read. */
function toHalfParameters(original: Graph): Set<Value> {
  const { nodes, parameters } = pruneGraph(original);
  const half = new Set(parameters.filter(({ dtype }) => dtype === "float32"));
  for (const node of nodes)
    if (!isProduct(node) && !MOVES.has(node.op)) for (const input of node.inputs) if (input) half.delete(input);
  return half;
}

/** A node in float16 where `isHalf` says so, a move in the dtype of what it moves, and any other node in float32. */
export function lowerNode(node: Node, rewrite: Rewrite, isHalf: (node: Node) => boolean): Value[] | null {
  const copies = node.inputs.map((value) => value && rewrite.of(value));
  // A cast from float16 is left out, because each reader casts as needed. Other casts stay.
  if (node.op === "Cast") return copies[0]?.dtype === "float16" ? [copies[0]] : null;
  return computeIn(isHalf(node) || movesHalf(node, copies) ? "float16" : "float32", node, rewrite);
}

/** A node whose float inputs and outputs are of one dtype. */
export function computeIn(dtype: GraphDtype, node: Node, { graph, of }: Rewrite): Value[] {
  const copies = node.inputs.map((value) => value && of(value));
  const inputs = copies.map((value) => (value && isFloat(value) ? castOnce(value, dtype) : value));
  const outputs = node.outputs.map(({ dtype: own, shape }) => ({ dtype: own === "float32" ? dtype : own, shape }));
  return graph.node({ ...node, inputs, outputs });
}

/** True for a product, and for the sum of a product and its bias. */
function isProduct({ op, inputs }: Node): boolean {
  if (op !== "Add") return PRODUCTS.has(op);
  const [product, bias] = inputs;
  return bias?.kind === "parameter" && PRODUCTS.has(product?.producer?.op ?? "");
}

/** True for a node that only moves data, all of it in float16. */
function movesHalf({ op }: Node, inputs: readonly (Value | null)[]): boolean {
  if (!MOVES.has(op)) return false;
  const floats = inputs.filter((value): value is Value => value !== null && isFloat(value));
  return floats.length > 0 && floats.every((value) => value.dtype === "float16");
}

function isFloat({ dtype }: Value): boolean {
  return dtype === "float32" || dtype === "float16";
}
