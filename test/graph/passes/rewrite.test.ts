// Copies of graphs: what stays, what a rule replaces, and which nodes count as products with a weight or as row lookups.
import { describe, expect, it } from "vitest";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { add, gemm, mul, relu, scale } from "../../../src/graph/ops.ts";
import {
  castOnce,
  halfLookup,
  type NodeRule,
  rewriteGraph,
  rowLookup,
  weightProduct,
} from "../../../src/graph/passes/rewrite.ts";
import {
  makeFloat32Tensor,
  makeInt64Tensor,
  Session,
  type TensorArray,
  type Tensors,
} from "../../../src/graph/session.ts";
import { gather, split } from "../../../src/graph/shape-ops.ts";

const asItIs: NodeRule = () => null;

/** y = relu(x·W + c)·3 in two halves, with a node, a weight and a constant that no output needs. */
function sample(): Graph {
  const graph = new Graph();
  const x = graph.input("x", "float32", ["rows", 4]);
  graph.input("unused", "int64", [2]);
  const y = scale(relu(gemm(x, graph.parameter("w", [4, 6]), { c: graph.parameter("c", [6]) })), 3);
  const [left, right] = split(y, [3, 3], 1) as [Value, Value];
  scale(mul(y, graph.parameter("dead", [6])), 5);
  graph.output(right, "right");
  graph.output(left, "left");
  return graph;
}

const described = (graph: Graph) => {
  const { nodes, inputs, parameters, constants, outputs } = pruneGraph(graph);
  const values = (list: readonly Value[]) => list.map(({ name, dtype, shape }) => `${name} ${dtype} [${shape}]`);
  return {
    ops: nodes.map(({ op, attributes, outputs: { length } }) => ({ op, attributes, length })),
    inputs: values(inputs),
    parameters: values(parameters),
    constants: constants.map(({ dtype, shape, data }) => ({ dtype, shape, data })),
    outputs: values(outputs),
  };
};

async function run(graph: Graph, weights: Record<string, TensorArray>, feeds: Tensors) {
  const session = await Session.withWeights(graph, ({ name }) => weights[name] as TensorArray, { threads: 1 });
  const outputs = await session.run(feeds);
  await session.close();
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data, Number)]));
}

describe("rewriting a graph", () => {
  it("rewriteGraph copies what the outputs need, and all inputs, under the same names", () => {
    const original = sample();
    const before = described(original);
    const copy = rewriteGraph(original, asItIs);
    expect(described(copy)).toEqual(before);
    expect(described(original)).toEqual(before);
    const { nodes, outputs } = pruneGraph(copy);
    for (const value of [...outputs, ...nodes.flatMap(({ inputs }) => inputs)]) expect(value?.graph).toBe(copy);
    const kept: string[] = [];
    rewriteGraph(original, ({ op }) => {
      kept.push(op);
      return null;
    });
    expect(kept).toEqual(["Gemm", "Relu", "Mul", "Split"]);
  });

  it("a rule's values take the place of a node's, and what only that node read is left behind", async () => {
    const copy = rewriteGraph(sample(), (node, { of }) => {
      if (node.op !== "Gemm") return null;
      const [x, , c] = node.inputs as [Value, Value, Value];
      return [add(gather(of(x), of(x).graph.ints([0, 1, 2, 3, 0, 1]), 1), of(c))];
    });
    expect(described(copy)).toMatchObject({ parameters: ["c float32 [6]"], inputs: described(sample()).inputs });
    const x = makeFloat32Tensor(Float32Array.of(1, -2, 3, 4), [1, 4]);
    const outputs = await run(
      copy,
      { c: Float32Array.of(0, 0, 0, 0, 1, 1) },
      { x, unused: makeInt64Tensor([0, 0], [2]) },
    );
    expect(outputs).toEqual({ left: [3, 0, 9], right: [12, 6, 0] });
  });

  it("dtypes of inputs, weights and outputs change where the rules say so", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    graph.output(add(x, graph.parameter("w", [2])), "y");
    const copy = rewriteGraph(graph, asItIs, {
      dtypeOf: ({ name }) => (name === "x" || name === "w" ? "float64" : "float32"),
      output: (value, name) => (name === "y" ? castOnce(value, "float16") : value),
    });
    const { inputs, parameters, outputs } = described(copy);
    expect([inputs, parameters, outputs]).toEqual([["x float64 [2]"], ["w float64 [2]"], ["y float16 [2]"]]);
  });

  it("a shared weight and a shared constant are copied once", () => {
    const graph = new Graph();
    const w = graph.parameter("w", [3]);
    const x = graph.input("x", "float32", [3]);
    graph.output(add(mul(add(x, w), w), mul(mul(x, graph.scalar(2)), graph.scalar(2))), "y");
    const { parameters, constants } = described(rewriteGraph(graph, asItIs));
    expect([parameters.length, constants.length]).toEqual([1, 1]);
  });
});

/** What `recognize` says of the nodes of a graph, in order. */
function seen<T>(graph: Graph, recognize: (...args: Parameters<NodeRule>) => T): T[] {
  const found: T[] = [];
  rewriteGraph(graph, (...args) => {
    found.push(recognize(...args));
    return null;
  });
  return found;
}

describe("recognizing products by a weight", () => {
  const product = (build: (graph: Graph) => Value) => {
    const graph = new Graph();
    graph.output(build(graph), "y");
    const results = seen(graph, weightProduct);
    return results[results.length - 1];
  };
  const x = (graph: Graph) => graph.input("x", "float32", ["rows", 4]);

  it.each([
    ["x·W", false, {}],
    ["x·Wᵀ", true, { transB: true }],
  ] as const)("weightProduct sees %s", (_, transposed, options) => {
    const found = product((graph) => gemm(x(graph), graph.parameter("w", transposed ? [6, 4] : [4, 6]), options));
    expect(found).toMatchObject({ c: null, transposed, x: { name: "x" }, weight: { name: "w" } });
  });

  it("weightProduct sees the bias, and turns x where the product does", () => {
    const found = product((graph) => {
      const c = graph.parameter("c", [6]);
      return gemm(graph.input("x", "float32", [4, "rows"]), graph.parameter("w", [4, 6]), { transA: true, c });
    });
    expect(found).toMatchObject({ c: { name: "c" }, x: { shape: ["rows", 4], producer: { op: "Transpose" } } });
  });

  it.each<[string, (graph: Graph) => Value]>([
    ["another op", (graph) => relu(x(graph))],
    ["a scaled product", (graph) => gemm(x(graph), graph.parameter("w", [4, 6]), { alpha: 2 })],
    ["a product of two activations", (graph) => gemm(x(graph), graph.input("z", "float32", [4, 6]))],
    ["a weight on the left", (graph) => gemm(graph.parameter("w", [3, 4]), graph.input("z", "float32", [4, 6]))],
    [
      "a weight that is no float32",
      (graph) => gemm(graph.input("x", "float64", [2, 4]), graph.parameter("w", [4, 6], "float64")),
    ],
  ])("weightProduct is null for %s", (_, build) => expect(product(build)).toBeNull());
});

describe("recognizing row lookups", () => {
  const lookup = (build: (graph: Graph, rows: Value) => Value) => {
    const graph = new Graph();
    graph.output(build(graph, graph.input("rows", "int64", [2])), "y");
    return seen(graph, rowLookup)[0];
  };

  it("rowLookup sees rows of a matrix", () => {
    const found = lookup((graph, rows) => gather(graph.parameter("w", [5, 4]), rows));
    expect(found).toMatchObject({ table: { name: "w" }, rows: { name: "rows" } });
  });

  it.each<[string, (graph: Graph, rows: Value) => Value]>([
    ["columns", (graph, rows) => gather(graph.parameter("w", [5, 4]), rows, 1)],
    ["entries of a vector", (graph, rows) => gather(graph.parameter("w", [5]), rows)],
    ["rows of an activation", (graph, rows) => gather(graph.input("x", "float32", [5, 4]), rows)],
    ["rows of integers", (graph, rows) => gather(graph.parameter("w", [5, 4], "int64"), rows)],
  ])("rowLookup is null for %s", (_, build) => expect(lookup(build)).toBeNull());
});

it("halfLookup stores the table in float16 and gives float32", async () => {
  const graph = new Graph();
  const ids = graph.input("x", "float32", [2]); // not read
  graph.output(add(gather(graph.parameter("w", [3, 2]), graph.ints([2, 0])), ids), "y");
  const half = rewriteGraph(graph, (node, rewrite) => {
    const found = rowLookup(node, rewrite);
    return found && [halfLookup(found, rewrite)];
  });
  expect(described(half).parameters).toEqual(["w float16 [3,2]"]);
  const bits = Uint16Array.of(0x3c00, 0xc000, 0, 0, 0x0001, 0x7bff); // 1, −2, …, 2⁻²⁴, 65504
  const { y } = await run(half, { w: bits }, { x: makeFloat32Tensor(new Float32Array(2), [2]) });
  expect(y).toEqual([2 ** -24, 65504, 1, -2]);
});

it("castOnce casts a value once, and not at all into its own dtype", () => {
  const graph = new Graph();
  const x = graph.input("x", "float32", [2]);
  expect(castOnce(x, "float16")).toBe(castOnce(x, "float16"));
  expect(castOnce(x, "float64")).not.toBe(castOnce(x, "float16"));
  expect(castOnce(x, "float32")).toBe(x);
});
