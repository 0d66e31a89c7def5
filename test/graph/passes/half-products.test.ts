// Products of training in float16: which they are, how long sums are cut, and how far the results are from float32.
import { describe, expect, it } from "vitest";
import { buildResidentGraph } from "../../../src/distill/device/resident-graph.ts";
import { backward } from "../../../src/graph/autodiff/backward.ts";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { add, cast, equal, gemm, layerNorm, markExact, matmul, reduceSum, softmax } from "../../../src/graph/ops.ts";
import { toHalfProducts } from "../../../src/graph/passes/half-products.ts";
import { makeFloat32Tensor, Session, type Tensors } from "../../../src/graph/session.ts";
import { reshape, transpose } from "../../../src/graph/shape-ops.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { uniform } from "../../numeric/matrices.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

/** The dtypes and shapes of the results of all products. */
const products = (graph: Graph) =>
  pruneGraph(graph).nodes.flatMap(({ op, outputs }) =>
    op === "Gemm" || op === "MatMul" ? [`${op} ${outputs[0]?.dtype} [${outputs[0]?.shape}]`] : [],
  );

async function run(graph: Graph, feeds: Tensors, precision: "fp32" | "fp16") {
  const session = await Session.withInputs(graph, { products: precision, threads: 1 });
  const output = await session.run(feeds);
  await session.close();
  return output.y?.data as Float32Array;
}

const draw = (seed: number, count: number) => Float32Array.from({ length: count }, uniform(seed));

const matrix = (seed: number, rows: number, columns: number, shift = 0) =>
  makeFloat32Tensor(
    draw(seed, rows * columns).map((x) => x + shift),
    [rows, columns],
  );

/** ‖fp16 − fp32‖/‖fp32‖ */
async function measureError(graph: Graph, feeds: Tensors): Promise<number> {
  const [half, full] = [await run(graph, feeds, "fp16"), await run(graph, feeds, "fp32")];
  const norm = (of: (i: number) => number) => Math.sqrt(full.reduce((sum, _, i) => sum + of(i) ** 2, 0));
  return norm((i) => (half[i] as number) - (full[i] as number)) / norm((i) => full[i] as number);
}

describe.each(VARIANTS)("the training step of %s", (variant) => {
  const config = tinyModelConfig({ variant });
  const trained = new Set(["wte.weight", "h.0.mlp.c_fc.weight", "h.1.attn.c_proj.weight"]);
  const options = { config, batch: 2, length: 8, trained, noise: "fed", teacher: null, prior: 0 } as const;
  const original = buildResidentGraph(options);
  const half = toHalfProducts(original);

  it("has products in float16, and float32 in all else but moves", () => {
    const float16 = new Set([
      "Gemm",
      "MatMul",
      "Reshape",
      "Transpose",
      "Split",
      "Slice",
      "Concat",
      "Cast",
      "Unsqueeze",
      "Gather",
    ]);
    const { nodes } = pruneGraph(half);
    expect(nodes.filter(({ op, outputs }) => op === "MatMul" && outputs[0]?.dtype === "float16")).not.toEqual([]);
    for (const { op, inputs, outputs } of nodes) {
      if (!float16.has(op)) expect([...inputs, ...outputs].map((value) => value?.dtype)).not.toContain("float16");
      if (op === "Cast") continue;
      const floats = new Set(inputs.flatMap((value) => (/^float/.test(value?.dtype ?? "") ? [value?.dtype] : [])));
      expect(floats.size, `${op} of ${[...floats]}`).toBeLessThanOrEqual(1);
    }
    // The logits, and the sums over the rows of equal tokens. Those with a vector are sums over all rows, or columns.
    const full = products(half).filter((product) => product.includes("float32") && !/[[,]1[,\]]/.test(product));
    expect(full).toEqual(["Gemm float32 [16,12]", "MatMul float32 [16,8]"]);
  });

  it("has the inputs, parameters and outputs of the original", () => {
    const ports = (graph: Graph) => {
      const { inputs, parameters, outputs } = pruneGraph(graph);
      return [...inputs, ...parameters, ...outputs].map(({ name, dtype, shape }) => `${name} ${dtype} [${shape}]`);
    };
    expect(ports(half).sort()).toEqual(ports(original).sort());
  });

  it("casts each value once", () => {
    const casts = pruneGraph(half).nodes.filter(({ op }) => op === "Cast");
    const keys = casts.map(({ inputs, outputs }) => `${inputs[0]?.name} ${outputs[0]?.dtype}`);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toContain("h.0.mlp.c_fc.weight float16");
  });
});

it("the results are rounded as float16 is, and no more", async () => {
  const graph = new Graph();
  const [x, w, b] = [
    graph.input("x", "float32", [8, 64]),
    graph.input("w", "float32", [64, 4]),
    graph.input("b", "float32", [4]),
  ];
  graph.output(gemm(x, w, { c: b }), "y");
  const feeds = {
    x: matrix(1, 8, 64),
    w: matrix(2, 64, 4),
    b: makeFloat32Tensor(draw(3, 4), [4]),
  };
  const error = await measureError(graph, feeds);
  expect(error).toBeGreaterThan(1e-4); // the casts are there
  expect(error).toBeLessThan(1e-3); // half a unit of 2⁻¹¹ for each operand and the result
});

describe("a sum of many terms", () => {
  const build = (transA: boolean, transB: boolean, K: number, c = false) => {
    const graph = new Graph();
    const [M, N] = [3, 5];
    const a = graph.input("a", "float32", transA ? [K, M] : [M, K]);
    const b = graph.input("b", "float32", transB ? [N, K] : [K, N]);
    graph.output(gemm(a, b, { transA, transB, c: c ? graph.input("c", "float32", [M, N]) : null }), "y");
    const feeds = {
      a: transA ? matrix(1, K, M, 0.5) : matrix(1, M, K, 0.5),
      b: transB ? matrix(2, N, K, 0.5) : matrix(2, K, N, 0.5),
      ...(c && { c: matrix(3, M, N) }),
    };
    return { graph, feeds };
  };

  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])("is cut into pieces that are added up in float32: transposed %s, %s", async (transA, transB) => {
    const { graph, feeds } = build(transA, transB, 3000, true);
    expect(products(toHalfProducts(graph))).toEqual(["MatMul float16 [3,3,5]"]);
    expect(await measureError(graph, feeds)).toBeLessThan(1e-3);
  });

  it.each([
    ["up to 1024 terms is one", 1024, ["Gemm float16 [3,5]"]],
    ["that cannot be cut evenly stays in float32", 4099, ["Gemm float32 [3,5]"]],
    ["of very many terms stays in float32", 65_536, ["Gemm float32 [3,5]"]],
  ])("%s", (_, terms, expected) => {
    expect(products(toHalfProducts(build(false, false, terms).graph))).toEqual(expected);
  });

  it("whose pieces would take too much memory stays in float32", () => {
    const graph = new Graph();
    const [a, b] = [graph.input("a", "float32", [4096, 2048]), graph.input("b", "float32", [2048, 4100])];
    graph.output(gemm(a, b), "y");
    expect(products(toHalfProducts(graph))).toEqual(["Gemm float32 [4096,4100]"]);
  });
});

it("a transposed value is cast before it is transposed, once for both ways", () => {
  const graph = new Graph();
  const x = graph.input("x", "float32", [2, 4, 4]);
  const rows = softmax(x);
  const both = add(matmul(rows, x), matmul(transpose(rows, [0, 2, 1]), x));
  graph.output(both, "y");
  const casts = pruneGraph(toHalfProducts(graph)).nodes.filter(({ op }) => op === "Cast");
  expect(casts.map(({ inputs }) => inputs[0]?.producer?.op ?? inputs[0]?.name)).toEqual([
    "Softmax",
    "x",
    "MatMul",
    "MatMul",
  ]);
});

it("products that are marked, and those with vectors or with zeros and ones, stay in float32", () => {
  const graph = new Graph();
  const x = graph.input("x", "float32", [4, 4]);
  const ones = graph.constant(new Float32Array(4).fill(1), [1, 4], "float32");
  graph.output(matmul(ones, x), "columns");
  graph.output(matmul(x, reshape(ones, [4, 1])), "rows");
  graph.output(matmul(reshape(ones, [4, 1]), ones), "outer");
  const ids = graph.input("ids", "int32", [4]);
  const mask = cast(equal(reshape(ids, [4, 1]), ids), "float32");
  graph.output(markExact(gemm(x, x)), "exact");
  graph.output(matmul(mask, x), "sums");
  graph.output(matmul(x, x), "product");
  expect(products(toHalfProducts(graph))).toEqual([
    "MatMul float32 [1,4]",
    "MatMul float32 [4,1]",
    "MatMul float32 [4,4]",
    "Gemm float32 [4,4]",
    "MatMul float32 [4,4]",
    "MatMul float16 [4,4]",
  ]);
});

it("sums of gradients over several products are added up in float32", () => {
  const graph = new Graph();
  const [x, w] = [graph.input("x", "float32", [4, 4]), graph.input("w", "float32", [4, 4])];
  const first = gemm(x, w, { transA: true });
  graph.output(gemm(w, x, { c: first }), "y");
  const half = toHalfProducts(graph);
  const sums = pruneGraph(half).nodes.filter(({ op }) => op === "Add");
  expect(sums.map(({ inputs }) => inputs.map((value) => value?.dtype))).toEqual([["float32", "float32"]]);
});

it("values move in float16 between two products, without a cast", () => {
  const graph = new Graph();
  const [x, w] = [graph.input("x", "float32", [4, 8]), graph.input("w", "float32", [8, 8])];
  const heads = transpose(reshape(gemm(x, w), [4, 2, 4]), [1, 0, 2]); // [2, 4, 4]
  graph.output(softmax(matmul(heads, transpose(heads, [0, 2, 1]))), "y");
  const casts = pruneGraph(toHalfProducts(graph)).nodes.filter(({ op }) => op === "Cast");
  expect(
    casts.map(({ inputs, outputs }) => `${inputs[0]?.producer?.op ?? inputs[0]?.name} ${outputs[0]?.dtype}`),
  ).toEqual(["x float16", "w float16", "MatMul float32"]);
});

it("backward products are float16 too, and overflow to infinity", async () => {
  const graph = new Graph();
  const [x, w] = [graph.input("x", "float32", [4, 8]), graph.parameter("w", [8, 8])];
  const bias = graph.parameter("b", [8]);
  const y = layerNorm(gemm(x, w), bias, null, 1e-5);
  const seed = graph.input("seed", "float32", [4, 8]);
  const found = backward(new Map([[y, seed]]), [w]);
  graph.output(reduceSum(found.get(w) as Value, [0]), "y");
  const feeds = (size: number) => ({
    x: matrix(1, 4, 8),
    w: matrix(2, 8, 8),
    b: makeFloat32Tensor(new Float32Array(8).fill(1), [8]),
    seed: makeFloat32Tensor(
      draw(4, 32).map((value) => size * value),
      [4, 8],
    ),
  });
  expect(await measureError(graph, feeds(1))).toBeLessThan(5e-3);
  expect([...(await run(graph, feeds(1e6), "fp32"))].every(Number.isFinite)).toBe(true);
  expect([...(await run(graph, feeds(1e6), "fp16"))].some(Number.isFinite)).toBe(false);
});
