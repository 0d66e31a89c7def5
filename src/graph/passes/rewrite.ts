// Rewrites a graph node by node into a new one, for the passes that change precision (int8, blocks, half).
import { Graph, type GraphDtype, type Node, pruneGraph, type Value } from "../ir.ts";
import { cast } from "../ops.ts";
import { gather, transpose } from "../shape-ops.ts";

/** The graph under construction, and the counterparts of the first graph's values in it. */
export interface Rewrite {
  readonly graph: Graph;
  /** The new graph's counterpart of a value; a parameter or constant is copied when it is first asked for. */
  of(value: Value): Value;
}

/** Gives the new outputs of a node, or null when the node is copied as it is. */
export type NodeRule = (node: Node, rewrite: Rewrite) => readonly Value[] | null;

export interface RewriteOptions {
  /** dtypes of inputs and parameters; their own unless given. */
  dtypeOf?: ((leaf: Value) => GraphDtype) | undefined;
  /** The value that nodes read in place of an input. */
  input?: ((copy: Value) => Value) | undefined;
  /** The value that becomes an output of this name. */
  output?: ((copy: Value, name: string) => Value) | undefined;
}

/** A graph with the same inputs and outputs, by name, in which `rule` has replaced nodes. Dead nodes are left behind. */
export function rewriteGraph(original: Graph, rule: NodeRule, options: RewriteOptions = {}): Graph {
  const { dtypeOf = ({ dtype }) => dtype, input: read = (copy) => copy, output = (copy) => copy } = options;
  const graph = new Graph();
  const copies = new Map<Value, Value>();
  const live = pruneGraph(original);
  for (const input of live.inputs) copies.set(input, read(graph.input(input.name, dtypeOf(input), input.shape)));
  const of = (value: Value): Value => {
    const known = copies.get(value);
    if (known) return known;
    const copy = value.data
      ? graph.constant(value.data, value.shape as number[], value.dtype)
      : graph.parameter(value.name, value.shape, dtypeOf(value));
    copies.set(value, copy);
    return copy;
  };
  const rewrite = { graph, of };
  for (const node of live.nodes) {
    const outputs =
      rule(node, rewrite) ??
      graph.node({ ...node, inputs: node.inputs.map((value) => value && of(value)), outputs: [...node.outputs] });
    for (const [i, value] of node.outputs.entries()) copies.set(value, outputs[i] as Value);
  }
  for (const value of live.outputs) graph.output(output(of(value), value.name), value.name);
  return graph;
}

/** A matrix product whose right side is a weight: x·W (or x·Wᵀ) + c. */
export interface WeightProduct {
  x: Value;
  weight: Value;
  c: Value | null;
  /** Whether the weight is [N, K] instead of [K, N]. */
  transposed: boolean;
}

/** A Gemm node as a product with a float32 parameter; null for any other node. x and c are those of the new graph. */
export function weightProduct({ op, inputs, attributes }: Node, { of }: Rewrite): WeightProduct | null {
  const [x, weight, c = null] = inputs;
  if (op !== "Gemm" || attributes.alpha || !x || !weight || !isWeight(weight)) return null;
  const rows = attributes.transA ? transpose(of(x), [1, 0]) : of(x);
  return { x: rows, weight, c: c && of(c), transposed: attributes.transB !== undefined };
}

/** Rows of a weight, picked by index. */
export interface RowLookup {
  table: Value;
  rows: Value;
}

/** A Gather of whole rows of a float32 matrix, as the embeddings are; null for any other node. */
export function rowLookup({ op, inputs, attributes }: Node, { of }: Rewrite): RowLookup | null {
  const [table, rows] = inputs;
  const axis = attributes.axis && "int" in attributes.axis ? attributes.axis.int : 0;
  if (op !== "Gather" || axis !== 0 || !table || !rows || !isWeight(table)) return null;
  return { table, rows: of(rows) };
}

function isWeight({ kind, dtype, shape }: Value): boolean {
  return kind === "parameter" && dtype === "float32" && shape.length === 2;
}

/**
 * The lookup with its table stored in float16: half the bytes of an embedding that no product reads. The table, not its
 * rows, is cast: ONNX Runtime does so once, when it loads the file, and a device without 16-bit floats never sees them.
 */
export function halfLookup({ table, rows }: RowLookup, { graph }: Rewrite): Value {
  return gather(castOnce(graph.parameter(table.name, table.shape, "float16"), "float32"), rows);
}

export interface WeightRules {
  /** Whether a product's weight is stored anew. */
  chosen: (weight: Value) => boolean;
  /** The storage of a table that is looked up. */
  tables: (table: Value) => TableStorage;
  product: (product: WeightProduct, graph: Graph) => Value;
  /** Builds the lookup of a table that is stored as the products' weights are. */
  lookup: (lookup: RowLookup, graph: Graph) => Value;
}

/** A copy of the graph whose products with weights and lookups of tables are built by the rules. */
export function rewriteWeights(original: Graph, { chosen, tables, product, lookup }: WeightRules): Graph {
  return rewriteGraph(original, (node, rewrite) => {
    const found = weightProduct(node, rewrite);
    if (found && chosen(found.weight)) return [product(found, rewrite.graph)];
    const rows = rowLookup(node, rewrite);
    const storage = rows ? tables(rows.table) : "as it is";
    if (!rows || storage === "as it is") return null;
    return [storage === "float16" ? halfLookup(rows, rewrite) : lookup(rows, rewrite.graph)];
  });
}

/** A value in another dtype, cast once however often it is asked for. */
export function castOnce(value: Value, dtype: GraphDtype): Value {
  return value.graph.memo(`cast ${value.name} ${dtype}`, () => cast(value, dtype));
}

/** The storage of a table that is looked up: as the products' weights are, in float16, or as it is. */
export type TableStorage = "quantized" | "float16" | "as it is";
