// The rewriting for WebGPU, on the CPU: the same numbers from int32, and every other device gets the graph as it is.
import ort from "onnxruntime-node";
import { afterEach, describe, expect, it, vi } from "vitest";
import { countElements } from "../../../src/formats/dtype.ts";
import { Graph, pruneGraph } from "../../../src/graph/ir.ts";
import { add, equal, gemm, scale, where } from "../../../src/graph/ops.ts";
import { toWebGpuGraph } from "../../../src/graph/passes/webgpu.ts";
import { DEVICES, makeFloat32Tensor, makeInt64Tensor, Session, type Tensors } from "../../../src/graph/session.ts";
import { split } from "../../../src/graph/shape-ops.ts";
import { encodeOnnx } from "../../../src/graph/to-onnx.ts";
import { compareOutputs } from "../../support/both-devices.ts";
import { buildNoisyGraph, GRAPH_CASES } from "../../support/graph-cases.ts";
import { tinyValues } from "../../support/make-checkpoint.ts";

async function runOnCpu(graph: Graph, feeds: Tensors): Promise<Tensors> {
  const session = await Session.withInputs(graph, { threads: 1 });
  const outputs = await session.run(feeds);
  await session.close();
  return outputs;
}

/** Ops that give int64 in a graph for WebGPU: sizes and what is computed from them, and the places of scattered rows. */
const INT64_OPS = ["Add", "Cast", "Concat", "Mul", "Shape", "Squeeze", "Sub"];

describe("toWebGpuGraph", () => {
  it.each(GRAPH_CASES)("$name", async ({ graph, feeds }) => {
    const before = encodeOnnx(graph, { parameters: "inputs" });
    const lowered = toWebGpuGraph(graph);
    expect(encodeOnnx(graph, { parameters: "inputs" }), "the graph itself is as it was").toEqual(before);
    expect(lowered.inputs.filter(({ dtype }) => dtype === "int64")).toEqual([]);
    const { nodes } = pruneGraph(lowered);
    const ops = nodes.map(({ op }) => op);
    for (const op of ["LogSoftmax", "ReduceLogSumExp", "ArgMax"]) expect(ops).not.toContain(op);
    for (const { op, outputs } of nodes)
      for (const { dtype, shape } of outputs)
        if (dtype === "int64") {
          expect(INT64_OPS).toContain(op);
          if (op !== "Cast") expect(["", "1", "2", "3", "4"], `${op} of sizes`).toContain(shape.join());
        }
    const [expected, outputs] = [await runOnCpu(graph, feeds), await runOnCpu(lowered, feeds)];
    expect(Object.keys(outputs)).toEqual(Object.keys(expected));
    const { error, output } = compareOutputs(outputs, expected);
    expect(error, `relative error of ${output}`).toBeLessThan(1e-5);
  });

  it("keeps the dtypes of outputs, and constants of int64 beside values of int32", async () => {
    const graph = new Graph();
    const ids = graph.input("ids", "int64", [3]);
    graph.output(add(where(equal(ids, graph.ints(2)), graph.ints(-7), ids), graph.ints([1])), "out");
    const lowered = toWebGpuGraph(graph);
    const { out } = await runOnCpu(lowered, { ids: makeInt64Tensor([2 ** 31 - 2, 2, -5], [3]) });
    expect(out).toEqual(makeInt64Tensor([2 ** 31 - 1, -6, -4], [3]));
    expect(pruneGraph(lowered).constants.map(({ dtype }) => dtype)).toEqual(["int32", "int32", "int32"]);
  });

  it("turns the matrix of a product of many rows, once for all products with it", async () => {
    const graph = new Graph();
    const w = graph.parameter("w", [5, 3]);
    const [many, few] = [graph.input("many", "float32", [64, 3]), graph.input("few", "float32", [63, 3])];
    graph.output(gemm(many, w, { transB: true, c: graph.parameter("c", [5]) }), "biased");
    graph.output(gemm(many, w, { transB: true, alpha: 2 }), "doubled");
    graph.output(gemm(few, w, { transB: true }), "few rows");
    const feeds = Object.fromEntries(
      [...graph.inputs, ...["w", "c"].map((name) => graph.parameter(name, name === "w" ? [5, 3] : [5]))].map(
        ({ name, shape }) => [
          name,
          makeFloat32Tensor(tinyValues(name, countElements(shape as number[])), shape as number[]),
        ],
      ),
    );
    const lowered = toWebGpuGraph(graph);
    const nodes = pruneGraph(lowered).nodes.map(
      ({ op, attributes }) => `${op}${attributes.transB ? " transposed" : ""}`,
    );
    expect(nodes).toEqual(["Transpose", "Gemm", "Gemm", "Gemm transposed"]);
    const [expected, outputs] = [await runOnCpu(graph, feeds), await runOnCpu(lowered, feeds)];
    expect(compareOutputs(outputs, expected).error).toBeLessThan(1e-6);
  });

  it.each([7, 8, 60])("splits into %i parts with no more at once than every device binds", async (count) => {
    const graph = new Graph();
    const sizes = Array.from({ length: count }, (_, i) => 1 + (i % 3));
    const x = graph.input("x", "float32", [2, sizes.reduce((a, b) => a + b)]);
    for (const [i, part] of split(x, sizes, 1).entries()) graph.output(scale(part, 2), `y${i}`);
    const feeds = { x: makeFloat32Tensor(tinyValues("x", countElements(x.shape as number[])), x.shape as number[]) };
    const lowered = toWebGpuGraph(graph);
    const splits = pruneGraph(lowered).nodes.filter(({ op }) => op === "Split");
    const widths = splits.map(({ outputs }) => outputs.length);
    expect(Math.max(...widths)).toBeLessThanOrEqual(7);
    expect(widths.reduce((sum, width) => sum + width - 1, 1)).toBe(count);
    expect(await runOnCpu(lowered, feeds)).toEqual(await runOnCpu(graph, feeds));
  });

  it("a constant that int32 does not hold is refused", () => {
    const graph = new Graph();
    graph.output(add(graph.input("ids", "int64", [1]), graph.ints([2 ** 31])), "out");
    expect(() => toWebGpuGraph(graph)).toThrow(`${2 ** 31} is no 32-bit integer`);
  });

  it.each([2 ** 31, -(2 ** 31) - 1])("a session refuses %i for an input of int32", async (value) => {
    const graph = new Graph();
    const ids = graph.input("ids", "int64", [2]);
    graph.output(add(ids, ids), "out");
    const session = await Session.withInputs(toWebGpuGraph(graph), { threads: 1 });
    await expect(session.run({ ids: makeInt64Tensor([0, value], [2]) })).rejects.toThrow(
      `ids: ${value} is no 32-bit integer`,
    );
    await session.close();
  });
});

describe("the model that a session is made of", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it.each(DEVICES)("%s", async (device) => {
    const made: Uint8Array[] = [];
    vi.spyOn(ort, "listSupportedBackends").mockReturnValue(DEVICES.map((name) => ({ name, bundled: true })));
    vi.spyOn(ort.InferenceSession, "create").mockImplementation((async (model: Uint8Array) => {
      made.push(model);
      return { inputNames: [], outputNames: [], inputMetadata: [] };
    }) as never);
    const { graph } = buildNoisyGraph();
    await Session.withInputs(graph, { device });
    await Session.withWeights(graph, () => new Float32Array(1), { device });
    const encode = (own: Graph) => [
      encodeOnnx(own, { parameters: "inputs" }),
      encodeOnnx(own, { parameters: ({ name }) => ({ location: name, offset: 0, byteLength: 4 }) }),
    ];
    expect(made).toEqual(encode(device === "webgpu" ? toWebGpuGraph(graph) : graph));
    if (device === "webgpu") expect(made).not.toEqual(encode(graph));
  });
});
