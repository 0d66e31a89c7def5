// Float16: which ops and weights become half, that sums beyond float16 survive, and that little is lost.
import { describe, expect, it } from "vitest";
import { decodeFloats, encodeFloats } from "../../../src/formats/dtype.ts";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { add, gelu, gemm, layerNorm, matmul, softmax } from "../../../src/graph/ops.ts";
import { toHalfGraph } from "../../../src/graph/passes/half.ts";
import { toBlockGraph } from "../../../src/graph/passes/quantized-blocks.ts";
import { makeFloat32Tensor, Session, type TensorArray } from "../../../src/graph/session.ts";
import { concat, gather, reshape, transpose } from "../../../src/graph/shape-ops.ts";
import { buildDecoderGraph } from "../../../src/model/decoder-graph.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { uniform } from "../../numeric/matrices.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

const lowered = (graph: Graph, full = "y") =>
  toHalfGraph(graph, { halfInput: (name) => name.startsWith("past"), fullOutput: (name) => name === full });

/** The dtypes that each op's first output has. */
function dtypesByOp(graph: Graph): Record<string, string[]> {
  const found: Record<string, Set<string>> = {};
  for (const { op, outputs } of pruneGraph(graph).nodes) {
    found[op] ??= new Set();
    found[op].add((outputs[0] as Value).dtype);
  }
  return Object.fromEntries(Object.entries(found).map(([op, dtypes]) => [op, [...dtypes].sort()]));
}

const parameterDtypes = (graph: Graph) =>
  Object.fromEntries(pruneGraph(graph).parameters.map(({ name, dtype }) => [name, dtype]));

describe.each(VARIANTS)("the float16 decoder of %s", (variant) => {
  const original = buildDecoderGraph(tinyModelConfig({ variant }), { kind: "mean" });
  const half = lowered(original, "logits");

  it("products are computed in float16, and sums and exponentials in float32", () => {
    const dtypes = dtypesByOp(half);
    expect(dtypes.Gemm).toEqual(["float16"]);
    expect(dtypes.MatMul).toEqual(["float16"]);
    for (const op of ["LayerNormalization", "Softmax", "Gelu"]) expect(dtypes[op]).toEqual(["float32"]);
    // Residuals, masks, embeddings and scores; sums of integers are positions.
    expect(dtypes.Add).not.toContain("float16");
    expect(dtypes.Mul).not.toContain("float16");
  });

  it("each op gets inputs of the dtype that it is computed in", () => {
    for (const { op, inputs } of pruneGraph(half).nodes.filter((node) => node.op !== "Cast" && node.op !== "Where")) {
      const floats = inputs.flatMap((input) => (input && /^float/.test(input.dtype) ? [input.dtype] : []));
      expect(new Set(floats).size, `${op}: ${floats}`).toBeLessThanOrEqual(1);
    }
  });

  it("matrices and their biases are stored in float16, norms and noise in float32", () => {
    for (const [name, dtype] of Object.entries(parameterDtypes(half)))
      expect(dtype, name).toBe(/(ln_\w+\.|noise_)/.test(name) ? "float32" : "float16");
  });

  it("inputs and outputs are those of the float32 graph, with the cache in float16", () => {
    const ports = (graph: Graph) => [...graph.inputs, ...graph.outputs].map(({ name, shape }) => ({ name, shape }));
    expect(ports(half)).toEqual(ports(original));
    for (const { name, dtype } of [...half.inputs, ...half.outputs])
      expect(dtype, name).toBe(/^(past|present)/.test(name) ? "float16" : name === "logits" ? "float32" : "int64");
  });

  it("no value is cast twice", () => {
    const casts = pruneGraph(half).nodes.filter(({ op }) => op === "Cast");
    const keys = casts.map(({ inputs, outputs }) => `${inputs[0]?.name} ${outputs[0]?.dtype}`);
    expect(new Set(keys).size).toBe(keys.length);
    for (const { inputs, outputs } of casts) expect(inputs[0]?.dtype).not.toBe(outputs[0]?.dtype);
  });
});

async function run(graph: Graph, weights: Record<string, Float32Array>, x: Float32Array, shape: readonly number[]) {
  const weightOf = ({ name, dtype }: Value): TensorArray => {
    const values = weights[name] as Float32Array;
    if (dtype !== "float16") return values;
    const { buffer, byteOffset } = encodeFloats(values, "F16");
    return new Uint16Array(buffer, byteOffset, values.length);
  };
  const session = await Session.withWeights(graph, weightOf, { threads: 1 });
  const { y } = await session.run({ x: makeFloat32Tensor(x, shape) });
  await session.close();
  return y?.data as Float32Array;
}

const BOTH = ["float16", "float32"];
const random = uniform(5);
const draw = (count: number) => Float32Array.from({ length: count }, random);

describe("lowering a graph to float16", () => {
  const x = (graph: Graph) => graph.input("x", "float32", [2, 4]);

  it("a weight that products and moves read is stored in half, and one that a sum reads is kept", () => {
    const graph = new Graph();
    const w = graph.parameter("w", [4, 4]);
    const v = graph.parameter("v", [4, 4]);
    graph.output(gemm(gemm(add(x(graph), gather(v, graph.ints([3, 0]))), w), v), "y");
    expect(parameterDtypes(lowered(graph))).toEqual({ w: "float16", v: "float16" });
    graph.output(add(w, w), "sum");
    expect(parameterDtypes(lowered(graph))).toEqual({ w: "float32", v: "float16" });
  });

  it("data moves in the dtype that it has: half, where all of it is", () => {
    const graph = new Graph();
    const input = x(graph);
    const product = gemm(input, graph.parameter("w", [4, 4]));
    const moved = transpose(reshape(product, [4, 2]), [1, 0]); // [2, 4]
    graph.output(concat([moved, moved], 0), "half");
    graph.output(concat([moved, input], 0), "mixed");
    const half = lowered(graph);
    expect(half.outputs.map(({ name, dtype }) => `${name} ${dtype}`)).toEqual(["half float16", "mixed float32"]);
    expect(dtypesByOp(half)).toMatchObject({ Reshape: ["float16"], Transpose: ["float16"], Concat: BOTH });
  });

  it("the bias of a product in blocks is added in float16, and nothing else is", () => {
    const graph = new Graph();
    const inner = gemm(graph.input("x", "float32", [2, 32]), graph.parameter("w", [32, 32]), {
      c: graph.parameter("c", [32]),
    });
    graph.output(add(inner, inner), "y");
    const half = lowered(
      toBlockGraph(graph, { bits: 4, block: 16, symmetric: true, tables: () => "as it is", accuracy: 0 }).graph,
    );
    expect(dtypesByOp(half)).toEqual({ MatMulNBits: ["float16"], Add: BOTH, Cast: BOTH });
    // Scales are stored in the dtype that the op now wants: nothing casts them.
    const product = pruneGraph(half).nodes.find(({ op }) => op === "MatMulNBits");
    expect(product?.inputs[2]).toMatchObject({ kind: "parameter", name: "w/scales", dtype: "float16" });
    expect(parameterDtypes(half)).toMatchObject({ c: "float16" });
  });

  it("the numbers are the same, but for the rounding of operands and products", async () => {
    const graph = new Graph();
    const stream = x(graph);
    const normed = layerNorm(stream, graph.parameter("g", [4]), null, 1e-5);
    const inner = gelu(gemm(normed, graph.parameter("w", [4, 6]), { c: graph.parameter("c", [6]) }), "tanh");
    const mixed = softmax(matmul(inner, transpose(inner, [1, 0]))); // [2, 2]
    graph.output(add(matmul(mixed, gemm(inner, graph.parameter("v", [6, 4]))), stream), "y");
    const weights = { g: draw(4), w: draw(24), c: draw(6), v: draw(24) };
    const input = draw(8);
    const [full, half] = [await run(graph, weights, input, [2, 4]), await run(lowered(graph), weights, input, [2, 4])];
    for (const [i, y] of full.entries()) expect(Math.abs(y - (half[i] as number))).toBeLessThan(8 * 2 ** -11);
    expect(half).not.toEqual(full);
  });

  it("a residual stream beyond float16's range is kept", async () => {
    const graph = new Graph();
    const stream = x(graph);
    const normed = layerNorm(stream, graph.parameter("g", [4]), null, 1e-5);
    graph.output(add(stream, gemm(normed, graph.parameter("w", [4, 4]))), "y");
    const identity = Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0));
    const weights = { g: new Float32Array(4).fill(1), w: identity };
    const input = Float32Array.of(1e6, 0, -1e6, 0, 3e5, 3e5 + 2, 3e5 - 2, 3e5);
    const y = await run(lowered(graph), weights, input, [2, 4]);
    const full = await run(graph, weights, input, [2, 4]);
    for (const [i, value] of full.entries()) expect(Math.abs(value - (y[i] as number))).toBeLessThan(2e-3);
  });

  it("weights are rounded to float16, and no further", async () => {
    const graph = new Graph();
    graph.output(gemm(graph.input("x", "float32", [1, 2]), graph.parameter("w", [2, 2])), "y");
    const w = Float32Array.of(1 + 2 ** -10, 1 + 2 ** -11, 65504, 2 ** -24);
    const y = await run(lowered(graph), { w }, Float32Array.of(1, 0), [1, 2]);
    expect([...y]).toEqual([...decodeFloats(encodeFloats(w, "F16"), "F16").subarray(0, 2)]);
  });
});
