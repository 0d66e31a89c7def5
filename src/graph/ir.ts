// The op graph: values with dtype and symbolic shape, nodes, and the walk that finds what the outputs need.
import type { Shape } from "./dims.ts";

export type GraphDtype = "float32" | "float64" | "float16" | "int64" | "int32" | "int8" | "uint8" | "bool";
export type ConstantData = Float32Array | Float64Array | BigInt64Array | Int32Array | Int8Array | Uint8Array;

/** ONNX attributes, tagged by kind because 1 and 1.0 are different attributes. */
export type Attribute =
  | { int: number }
  | { float: number }
  | { string: string }
  | { ints: readonly number[] }
  | { floats: readonly number[] };

/**
 * A tensor in the graph. Values of kind `parameter` are the model's weights: the caller of the serialization decides
 * whether they become graph inputs (training) or initializers (evaluation, export).
 */
export interface Value {
  readonly graph: Graph;
  readonly kind: "input" | "parameter" | "constant" | "computed";
  name: string;
  readonly dtype: GraphDtype;
  readonly shape: Shape;
  readonly producer: Node | null;
  /** Elements of a `constant`, row-major. */
  readonly data: ConstantData | null;
}

export interface Node {
  /** Counted in the order in which the graph was built. */
  readonly place: number;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface NodeSpec {
  op: string;
  inputs: readonly (Value | null)[];
  /** One entry an output. */
  outputs: readonly { dtype: GraphDtype; shape: Shape }[];
  attributes?: Record<string, Attribute> | undefined;
  /** "" is ONNX itself; "com.microsoft" holds ONNX Runtime's own ops. */
  domain?: string | undefined;
}

export class Graph {
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  /** Products that stay in float32 where others are computed in fewer bits. */
  readonly exact = new Set<Value>();
  private readonly parameters = new Map<string, Value>();
  private readonly shared = new Map<string, Value>();
  private readonly names = new Set<string>();
  private counter = 0;
  private nodeCount = 0;

  /** A tensor fed at run time. */
  input(name: string, dtype: GraphDtype, shape: Shape): Value {
    const value = this.value({ kind: "input", name, dtype, shape });
    this.inputs.push(value);
    return value;
  }

  /** A weight. Asking twice for a name gives the same value, so that a tied weight is stored once. */
  parameter(name: string, shape: Shape, dtype: GraphDtype = "float32"): Value {
    const known = this.parameters.get(name);
    if (known) return known;
    const value = this.value({ kind: "parameter", name, dtype, shape });
    this.parameters.set(name, value);
    return value;
  }

  /** A literal tensor; equal literals are shared. */
  constant(data: ConstantData, shape: readonly number[], dtype: GraphDtype): Value {
    const size = shape.reduce((a, b) => a * b, 1);
    if (data.length !== size) throw new Error(`constant: ${data.length} elements for shape [${shape.join(", ")}]`);
    return this.memo(`constant ${dtype} [${shape}] ${data.join()}`, () =>
      this.value({ kind: "constant", name: this.fresh("const"), dtype, shape, data }),
    );
  }

  scalar(value: number, dtype: "float32" | "float64" = "float32"): Value {
    return this.constant(dtype === "float32" ? new Float32Array([value]) : new Float64Array([value]), [], dtype);
  }

  /** An int64 constant: a vector, or a scalar when `values` is a number. */
  ints(values: number | readonly number[]): Value {
    const list = typeof values === "number" ? [values] : values;
    return this.constant(BigInt64Array.from(list, BigInt), typeof values === "number" ? [] : [list.length], "int64");
  }

  /** The same in the dtype of other integers. */
  intsLike({ dtype }: Value, values: number | readonly number[]): Value {
    if (dtype !== "int32") return this.ints(values);
    const list = typeof values === "number" ? [values] : values;
    return this.constant(Int32Array.from(list), typeof values === "number" ? [] : [list.length], "int32");
  }

  /** Adds a node and gives its outputs. Shape inference is the caller's (`ops.ts`). */
  node(spec: NodeSpec): Value[] {
    const outputs: Value[] = [];
    const node: Node = {
      place: this.nodeCount++,
      op: spec.op,
      domain: spec.domain ?? "",
      inputs: spec.inputs,
      outputs,
      attributes: spec.attributes ?? {},
    };
    for (const input of spec.inputs)
      if (input && input.graph !== this) throw new Error(`${spec.op}: input ${input.name} belongs to another graph`);
    for (const { dtype, shape } of spec.outputs)
      outputs.push(this.value({ kind: "computed", name: this.fresh(spec.op), dtype, shape, producer: node }));
    return outputs;
  }

  /** Adds optional outputs to a node, which gradients need and the forward pass alone does not. */
  extend(node: Node, outputs: readonly { dtype: GraphDtype; shape: Shape }[]): Value[] {
    const added = outputs.map(({ dtype, shape }) =>
      this.value({ kind: "computed", name: this.fresh(node.op), dtype, shape, producer: node }),
    );
    (node.outputs as Value[]).push(...added);
    return added;
  }

  /** Names a computed value and makes it a graph output. */
  output(value: Value, name: string): Value {
    if (value.kind !== "computed" || this.outputs.includes(value))
      throw new Error(`output ${name}: ${value.name} is no computed value, or an output already`);
    this.names.delete(value.name);
    this.claim(name);
    value.name = name;
    this.outputs.push(value);
    return value;
  }

  /** The result of `build`, which runs once for each key. */
  memo(key: string, build: () => Value): Value {
    const known = this.shared.get(key);
    if (known) return known;
    const value = build();
    this.shared.set(key, value);
    return value;
  }

  private value(fields: Pick<Value, "kind" | "name" | "dtype" | "shape"> & Partial<Value>): Value {
    this.claim(fields.name);
    return { graph: this, producer: null, data: null, ...fields };
  }

  private claim(name: string): void {
    if (this.names.has(name)) throw new Error(`graph: the name ${name} is taken`);
    this.names.add(name);
  }

  private fresh(prefix: string): string {
    return `${prefix}_${this.counter++}`;
  }
}

/** The part of a graph that its outputs need, in execution order, without dead nodes and unused weights and constants. */
export interface LiveGraph {
  nodes: Node[];
  inputs: Value[];
  parameters: Value[];
  constants: Value[];
  outputs: Value[];
}

/** Walks back from the outputs. Inputs are kept even when unused, because a caller feeds them by name. */
export function pruneGraph(graph: Pick<Graph, "inputs" | "outputs">): LiveGraph {
  const nodes: Node[] = [];
  const leaves = new Set<Value>();
  const done = new Set<Node>();
  // An explicit stack: a deep model must not overflow the call stack.
  const stack: { node: Node; expanded: boolean }[] = [];
  const push = (value: Value | null) => {
    if (!value) return;
    if (!value.producer) leaves.add(value);
    else if (!done.has(value.producer)) stack.push({ node: value.producer, expanded: false });
  };
  for (const output of graph.outputs) {
    push(output);
    while (stack.length > 0) {
      const top = stack.pop() as { node: Node; expanded: boolean };
      if (done.has(top.node)) continue;
      if (top.expanded) {
        done.add(top.node);
        nodes.push(top.node);
        continue;
      }
      stack.push({ node: top.node, expanded: true });
      // Reversed, so that the first input is visited (and numbered) first.
      for (const input of [...top.node.inputs].reverse()) push(input);
    }
  }
  const kind = (wanted: Value["kind"]) => [...leaves].filter((value) => value.kind === wanted);
  return {
    nodes,
    inputs: graph.inputs,
    parameters: kind("parameter"),
    constants: kind("constant"),
    outputs: graph.outputs,
  };
}
