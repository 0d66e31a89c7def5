// Matrix products in int8: the pass that rewrites a graph's Gemm nodes, and the quantisation of their weights.
import { Graph, liveGraph, type Node, type Value } from "./ir.ts";
import { add, cast, mul, single } from "./ops.ts";
import type { TensorArray } from "./session.ts";
import { transpose } from "./shape-ops.ts";

/** Largest magnitude of a weight: −128 is left out, so that the range is symmetric. */
const LARGEST = 127;

/** A matrix [K, N] with one scale a column: w ≈ values · scales. */
export interface Int8Matrix {
  values: Int8Array; // [K, N]
  scales: Float32Array; // [N]
}

/**
 * Symmetric, one scale an output channel: scale = max|w| / 127, rounded to nearest.
 * @param shape of `weights`: [K, N], or [N, K] with `transposed`
 */
export function quantise(weights: Float32Array, shape: readonly number[], transposed = false): Int8Matrix {
  const [rows, columns] = shape as [number, number];
  const [inner, outer] = transposed ? [columns, rows] : [rows, columns];
  const [alongInner, alongOuter] = transposed ? [1, columns] : [columns, 1];
  const scales = new Float32Array(outer);
  const values = new Int8Array(inner * outer);
  for (let k = 0; k < inner; k++)
    for (let n = 0; n < outer; n++)
      scales[n] = Math.max(scales[n] as number, Math.abs(weights[k * alongInner + n * alongOuter] as number) / LARGEST);
  for (let k = 0; k < inner; k++)
    for (let n = 0; n < outer; n++) {
      const scale = scales[n] as number;
      if (scale > 0) values[k * outer + n] = Math.round((weights[k * alongInner + n * alongOuter] as number) / scale);
    }
  return { values, scales };
}

/**
 * x·W + c for x [M, K] float32: x becomes uint8 with one scale and zero point over all of it, chosen at run time. Ops of
 * ONNX alone; ONNX Runtime fuses them into one kernel, which is as fast as its own DynamicQuantizeMatMul.
 */
export function int8Product(x: Value, values: Value, scales: Value, c: Value | null = null): Value {
  const [[rows, inner], [inner2, columns]] = [x.shape, values.shape];
  if (rows === undefined || columns === undefined || inner !== inner2 || values.dtype !== "int8")
    throw new Error(`int8Product: [${x.shape}] and ${values.dtype} [${values.shape}] do not multiply`);
  const [bytes, scale, zero] = x.graph.node({
    op: "DynamicQuantizeLinear",
    inputs: [x],
    outputs: [
      { dtype: "uint8", shape: x.shape },
      { dtype: "float32", shape: [] },
      { dtype: "uint8", shape: [] },
    ],
  }) as [Value, Value, Value];
  const sums = single({ op: "MatMulInteger", inputs: [bytes, values, zero], dtype: "int32", shape: [rows, columns] });
  const product = mul(cast(sums, "float32"), mul(scale, scales)); // [M, N]
  return c ? add(product, c) : product;
}

/** What a parameter of the rewritten graph is made from. */
export interface Int8Source {
  /** The parameter of the first graph, with its shape and whether the product transposed it. */
  weight: Value;
  transposed: boolean;
  part: keyof Int8Matrix;
}

export interface Int8Graph {
  graph: Graph;
  /** Parameters that the pass added, by name; all others are those of the first graph. */
  sources: ReadonlyMap<string, Int8Source>;
}

/**
 * A copy of the graph in which x·W, with W a parameter that `chosen` takes, runs in int8. Each such W becomes
 * `NAME/int8` [K, N] (`NAME/int8-transposed` where the product transposed it) and its scales [N]; where something else
 * reads W too, as the token embedding, it stays beside them. Inputs and outputs keep their names.
 */
export function int8Graph(original: Graph, chosen: (weight: Value) => boolean): Int8Graph {
  const graph = new Graph();
  const sources = new Map<string, Int8Source>();
  const copies = new Map<Value, Value>();
  const live = liveGraph(original);
  for (const { name, dtype, shape } of live.inputs) graph.input(name, dtype, shape);
  for (const [i, input] of live.inputs.entries()) copies.set(input, graph.inputs[i] as Value);
  const copyOf = (value: Value | null): Value | null => {
    if (!value) return null;
    const known = copies.get(value);
    if (known) return known;
    const copy = value.data
      ? graph.constant(value.data, value.shape as number[], value.dtype)
      : graph.parameter(value.name, value.shape, value.dtype);
    copies.set(value, copy);
    return copy;
  };
  for (const node of live.nodes) {
    const inputs = node.inputs.map(copyOf);
    const product = isProduct(node, chosen) ? rewritten(graph, node, inputs, sources) : null;
    const outputs = product ? [product] : graph.node({ ...node, inputs, outputs: [...node.outputs] });
    for (const [i, output] of node.outputs.entries()) copies.set(output, outputs[i] as Value);
  }
  for (const output of live.outputs) graph.output(copies.get(output) as Value, output.name);
  return { graph, sources };
}

function isProduct({ op, inputs, attributes }: Node, chosen: (weight: Value) => boolean): boolean {
  const [, weight] = inputs;
  return (
    op === "Gemm" && !attributes.alpha && weight?.kind === "parameter" && weight.dtype === "float32" && chosen(weight)
  );
}

/** The int8 form of a Gemm whose inputs are already those of the new graph. */
function rewritten(graph: Graph, node: Node, inputs: (Value | null)[], sources: Map<string, Int8Source>): Value {
  const [a, , c = null] = inputs;
  const weight = node.inputs[1] as Value;
  const [transposed, turned] = [node.attributes.transB !== undefined, node.attributes.transA !== undefined];
  const x = turned ? transpose(a as Value, [1, 0]) : (a as Value);
  const name = `${weight.name}/int8${transposed ? "-transposed" : ""}`;
  const shape = transposed ? [...weight.shape].reverse() : weight.shape; // [K, N]
  sources.set(name, { weight, transposed, part: "values" });
  sources.set(`${name}/scales`, { weight, transposed, part: "scales" });
  const values = graph.parameter(name, shape, "int8");
  return int8Product(x, values, graph.parameter(`${name}/scales`, shape.slice(1)), c);
}

/** The parameters that the pass added, quantised once each. */
export async function int8Weights(
  { sources }: Int8Graph,
  read: (name: string) => Promise<Float32Array>,
): Promise<Map<string, TensorArray>> {
  const weights = new Map<string, TensorArray>();
  const matrices = new Map<string, Int8Matrix>();
  for (const [name, { weight, transposed, part }] of sources) {
    const key = `${weight.name} ${transposed}`;
    const matrix = matrices.get(key) ?? quantise(await read(weight.name), weight.shape as number[], transposed);
    matrices.set(key, matrix);
    weights.set(name, matrix[part]);
  }
  return weights;
}
