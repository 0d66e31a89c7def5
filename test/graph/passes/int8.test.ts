// Int8 products: weights per channel, the rewritten graph against the same arithmetic in plain numbers, what it leaves.
import { describe, expect, it } from "vitest";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { add, gemm, matmul, relu } from "../../../src/graph/ops.ts";
import {
  dequantize,
  INT8_REDUCED,
  int8Product,
  int8RowProduct,
  quantize,
  quantizeWeights,
  toInt8Graph,
  transposeMatrix as turnedInt8,
} from "../../../src/graph/passes/int8.ts";
import type { TableStorage } from "../../../src/graph/passes/rewrite.ts";
import {
  makeFloat32Tensor,
  makeInt64Tensor,
  Session,
  type Tensor,
  type TensorArray,
} from "../../../src/graph/session.ts";
import { gather } from "../../../src/graph/shape-ops.ts";
import { uniform } from "../../numeric/matrices.ts";

const random = uniform(3);
const draw = (count: number) => Float32Array.from({ length: count }, random);
const [M, K, N] = [5, 24, 7];

/** [N, K] of [K, N] */
const turned = (w: Float32Array, rows: number, columns: number) =>
  w.map((_, i) => w[(i % rows) * columns + Math.floor(i / rows)] as number);

/** x·W + c as ONNX defines it: DynamicQuantizeLinear, integer sums, scales. */
function expected(x: Float32Array, w: Float32Array, c: Float32Array | null): number[] {
  const low = Math.min(0, ...x);
  const scale = Math.fround((Math.max(0, ...x) - low) / 255);
  const zero = Math.round(-low / scale);
  const bytes = Array.from(x, (value) => Math.min(255, Math.max(0, Math.round(value / scale) + zero)));
  const { values, scales } = quantize(w, [K, N]);
  return Array.from({ length: M * N }, (_, i) => {
    const [m, n] = [Math.floor(i / N), i % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += ((bytes[m * K + k] as number) - zero) * (values[k * N + n] as number);
    return sum * scale * (scales[n] as number) + (c?.[n] ?? 0);
  });
}

async function runInt8(
  graph: Graph,
  weights: Record<string, Float32Array>,
  feeds: Record<string, Tensor>,
  tables: () => TableStorage = () => "as it is",
) {
  const built = toInt8Graph(graph, { chosen: ({ name }) => name !== "kept", tables });
  const made = await quantizeWeights(built, async (name) => weights[name] as Float32Array);
  const weightOf = ({ name }: Value): TensorArray => made.get(name) ?? (weights[name] as Float32Array);
  const session = await Session.withWeights(built.graph, weightOf, { threads: 1 });
  const outputs = await session.run(feeds);
  await session.close();
  const live = pruneGraph(built.graph);
  const parameters = live.parameters.map(({ name, dtype, shape }) => `${name} ${dtype} [${shape}]`).sort();
  return { outputs, parameters, ops: live.nodes.map(({ op }) => op) };
}

describe("quantizing to int8", () => {
  it("each output channel is scaled to its largest magnitude", () => {
    const { values, scales } = quantize(Float32Array.of(1, 0, -254, -2, 0, 127), [2, 3]);
    expect([...values]).toEqual([64, 0, -127, -127, 0, 64]);
    expect([...scales]).toEqual([Math.fround(2 / 127), 0, 2]);
  });

  it("a quantized weight is off by half a scale at most", () => {
    const w = draw(K * N);
    const { values, scales } = quantize(w, [K, N]);
    for (const [i, x] of w.entries()) {
      const scale = scales[i % N] as number;
      expect(Math.abs(x - (values[i] as number) * scale)).toBeLessThanOrEqual(0.5001 * scale);
    }
  });

  it("scales are by row where the rows are the output channels", () => {
    const w = draw(K * N);
    const { values, scales } = quantize(turned(w, K, N), [N, K], { byRow: true });
    const straight = quantize(w, [K, N]);
    expect(scales).toEqual(straight.scales);
    expect(turnedInt8({ values, scales })).toEqual(straight);
    expect(dequantize({ values, scales }, true)).toEqual(turned(dequantize(straight, false), K, N));
  });

  it("quantize keeps to seven bits when asked, so that pairs of products fit int16", () => {
    const { values } = quantize(draw(K * N), [K, N], { largest: INT8_REDUCED });
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest).toBe(63);
    expect(2 * 255 * largest).toBeLessThan(2 ** 15);
  });
});

describe("products in int8", () => {
  const [x, w, c] = [draw(M * K), draw(K * N), draw(N)];

  for (const transB of [false, true])
    for (const bias of [false, true])
      it(`the int8 graph computes x·W${transB ? "ᵀ" : ""}${bias ? " + c" : ""} in integers`, async () => {
        const graph = new Graph();
        const weight = graph.parameter("w", transB ? [N, K] : [K, N]);
        const input = graph.input("x", "float32", [M, K]);
        graph.output(gemm(input, weight, { transB, c: bias ? graph.parameter("c", [N]) : null }), "y");
        const weights = { w: transB ? turned(w, K, N) : w, c };
        const { outputs, ops } = await runInt8(graph, weights, { x: makeFloat32Tensor(x, [M, K]) });
        const y = outputs.y?.data as Float32Array;
        for (const [i, value] of expected(x, w, bias ? c : null).entries()) expect(y[i]).toBeCloseTo(value, 4);
        expect(ops).toContain("MatMulInteger");
        expect(ops).not.toContain("Gemm");
      });

  it("rows with scales of their own give in any company what each gives alone", async () => {
    const graph = new Graph();
    const input = graph.input("x", "float32", ["rows", K]);
    const [values, scales] = [graph.parameter("values", [K, N], "int8"), graph.parameter("scales", [N])];
    graph.output(int8RowProduct(input, values, scales, graph.parameter("c", [N])), "y");
    const matrix = quantize(w, [K, N]);
    const weightOf = ({ name }: Value) => ({ ...matrix, c })[name as "c"];
    const session = await Session.withWeights(graph, weightOf, { threads: 1 });
    const mixed = x.map((value, i) => value * 100 ** (Math.floor(i / K) % 3)); // one row in three is all but 0 beside the rest
    mixed.fill(0, 0, K);
    const run = async (rows: Float32Array) => {
      const { y } = await session.run({ x: makeFloat32Tensor(rows, [rows.length / K, K]) });
      return Float32Array.from(y?.data as Float32Array);
    };
    const together = await run(mixed);
    expect(together.subarray(0, N)).toEqual(c);
    for (let m = 0; m < M; m++) {
      const row = mixed.subarray(m * K, (m + 1) * K);
      expect(await run(row)).toEqual(together.subarray(m * N, (m + 1) * N));
      const scale = Math.max(...row.map(Math.abs)) / 127;
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++)
          sum += (scale > 0 ? Math.round((row[k] as number) / scale) : 0) * (matrix.values[k * N + n] as number);
        const exact = sum * scale * (matrix.scales[n] as number) + (c[n] as number);
        expect(Math.abs((together[m * N + n] as number) - exact)).toBeLessThanOrEqual(0.02 * 127 * scale);
      }
    }
    await session.close();
  });

  it("the int8 graph turns x where the product does", async () => {
    const graph = new Graph();
    const input = graph.input("x", "float32", [K, M]);
    graph.output(gemm(input, graph.parameter("w", [K, N]), { transA: true }), "y");
    const { outputs } = await runInt8(graph, { w }, { x: makeFloat32Tensor(turned(x, M, K), [K, M]) });
    const y = outputs.y?.data as Float32Array;
    for (const [i, value] of expected(x, w, null).entries()) expect(y[i]).toBeCloseTo(value, 4);
  });

  it("the int8 graph leaves other nodes, weights that were not chosen, and a table that is read as rows too", async () => {
    const graph = new Graph();
    const table = graph.parameter("table", [N, K]);
    const rows = gather(table, graph.input("ids", "int64", [M])); // [M, K]
    const kept = gemm(rows, graph.parameter("kept", [K, K])); // [M, K]
    const square = matmul(kept, graph.input("z", "float32", [K, K])); // [M, K]: a product without a weight
    const hidden = relu(add(square, rows));
    graph.output(hidden, "hidden");
    graph.output(gemm(hidden, table, { transB: true }), "logits");
    const weights = { table: turned(w, K, N), kept: draw(K * K) };
    const feeds = { ids: makeInt64Tensor([0, 6, 3, 3, 1], [M]), z: makeFloat32Tensor(draw(K * K), [K, K]) };
    const { outputs, parameters, ops } = await runInt8(graph, weights, feeds);
    expect(parameters).toEqual([
      "kept float32 [24,24]",
      "table float32 [7,24]",
      "table/int8 int8 [7,24]",
      "table/int8/scales float32 [7]",
    ]);
    expect(ops.filter((op) => ["Gemm", "MatMul", "MatMulInteger", "Relu"].includes(op)).sort()).toEqual([
      "Gemm",
      "MatMul",
      "MatMulInteger",
      "Relu",
    ]);
    const y = outputs.logits?.data as Float32Array;
    for (const [i, value] of expected(outputs.hidden?.data as Float32Array, w, null).entries())
      expect(Math.abs((y[i] as number) - value)).toBeLessThan(1e-3);
  });

  it("the int8 graph reads a table's rows from what its product multiplies by, and stores it once", async () => {
    const graph = new Graph();
    const table = graph.parameter("table", [N, K]);
    const picked = gather(table, graph.input("ids", "int64", [M])); // [M, K]
    graph.output(gemm(picked, table, { transB: true }), "logits");
    graph.output(picked, "picked");
    const weights = { table: turned(w, K, N) };
    const ids = [0, 6, 3, 3, 1];
    const { outputs, parameters } = await runInt8(
      graph,
      weights,
      { ids: makeInt64Tensor(ids, [M]) },
      () => "quantized",
    );
    expect(parameters).toEqual(["table/int8 int8 [7,24]", "table/int8/scales float32 [7]"]);
    const rows = dequantize(quantize(weights.table, [N, K], { byRow: true }), true);
    const picks = ids.flatMap((id) => [...rows.subarray(id * K, (id + 1) * K)]);
    expect(outputs.picked?.data).toEqual(Float32Array.from(picks));
    const y = outputs.logits?.data as Float32Array;
    for (const [i, value] of expected(outputs.picked?.data as Float32Array, w, null).entries())
      expect(y[i]).toBeCloseTo(value, 4);
  });

  it("the int8 graph stores a table in float16 when asked", async () => {
    const graph = new Graph();
    graph.output(gather(graph.parameter("table", [N, K]), graph.input("ids", "int64", [M])), "picked");
    const { graph: built } = toInt8Graph(graph, { tables: () => "float16" });
    expect(pruneGraph(built).parameters.map(({ name, dtype }) => `${name} ${dtype}`)).toEqual(["table float16"]);
    expect(built.outputs.map(({ dtype }) => dtype)).toEqual(["float32"]);
  });

  it("products share one quantized weight", async () => {
    const graph = new Graph();
    const weight = graph.parameter("w", [K, K]);
    graph.output(gemm(gemm(graph.input("x", "float32", [M, K]), weight), weight), "y");
    const { parameters } = await runInt8(graph, { w: draw(K * K) }, { x: makeFloat32Tensor(x, [M, K]) });
    expect(parameters).toEqual(["w/int8 int8 [24,24]", "w/int8/scales float32 [24]"]);
  });

  it("matrices that do not multiply are refused, and both are named", () => {
    const graph = new Graph();
    const input = graph.input("x", "float32", [M, K]);
    const scales = graph.parameter("s", [N]);
    expect(() => int8Product(input, graph.parameter("v", [N, K], "int8"), scales)).toThrow("[5,24] and int8 [7,24]");
  });
});
