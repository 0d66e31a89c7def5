// Products and lookups in blocks: ONNX Runtime's results on any codes, scales and zero points against float64 by hand.
import { describe, expect, it } from "vitest";
import { decodeFloats, encodeFloats } from "../../../src/formats/dtype.ts";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { gemm } from "../../../src/graph/ops.ts";
import { type BlockFormat, type BlockOptions, toBlockGraph } from "../../../src/graph/passes/quantized-blocks.ts";
import {
  makeFloat32Tensor,
  makeInt64Tensor,
  Session,
  type TensorArray,
  type Tensors,
} from "../../../src/graph/session.ts";
import { gather } from "../../../src/graph/shape-ops.ts";
import { uniform } from "../../numeric/matrices.ts";
import { worstOf } from "../../support/golden-models.ts";

const random = uniform(11);
const draw = (count: number) => Float32Array.from({ length: count }, random);
const bytes = (count: number) => Uint8Array.from({ length: count }, () => Math.floor(128 * (random() + 1)));
const [M, N, V] = [3, 5, 7];

/** The tensors of an [N, K] matrix in MatMulNBits' layout, with nothing in them that any quantizer would choose. */
interface Stored {
  values: Uint8Array;
  scales: Uint16Array; // float16
  zeroPoints: Uint8Array;
}

function stored(channels: number, inner: number, { bits, block }: BlockFormat): Stored {
  const blocks = Math.ceil(inner / block);
  const halves = encodeFloats(draw(channels * blocks), "F16"); // of both signs
  return {
    values: bytes((channels * blocks * block * bits) / 8),
    scales: new Uint16Array(halves.buffer, halves.byteOffset, channels * blocks),
    zeroPoints: bytes(channels * Math.ceil((blocks * bits) / 8)),
  };
}

/** w[n, k] = s·(q − z) [N, K], of the codes in a byte the low ones first, each row of zero points from a byte of its own. */
function weightsOf({ values, scales, zeroPoints }: Stored, inner: number, format: BlockFormat): Float64Array[] {
  const { bits, block, symmetric } = format;
  const blocks = Math.ceil(inner / block);
  const halves = decodeFloats(new Uint8Array(scales.buffer, scales.byteOffset, scales.byteLength), "F16");
  const inByte = 8 / bits;
  const code = (from: Uint8Array, start: number, i: number) =>
    Math.floor((from[start + Math.floor(i / inByte)] as number) / 2 ** (bits * (i % inByte))) % 2 ** bits;
  return Array.from({ length: scales.length / blocks }, (_, n) =>
    Float64Array.from({ length: inner }, (__, k) => {
      const b = Math.floor(k / block);
      const q = code(values, (n * blocks * block * bits) / 8, k);
      const z = symmetric ? 2 ** (bits - 1) : code(zeroPoints, n * Math.ceil((blocks * bits) / 8), b);
      return (halves[n * blocks + b] as number) * (q - z);
    }),
  );
}

const named = (name: string, { values, scales, zeroPoints }: Stored): Record<string, TensorArray> => ({
  [`${name}/values`]: values,
  [`${name}/scales`]: scales,
  [`${name}/zero_points`]: zeroPoints,
});

/** Unpacked, as ONNX Runtime then multiplies in float32. */
async function run(graph: Graph, tensors: Record<string, TensorArray>, feeds: Tensors) {
  const weightOf = ({ name }: Value) => tensors[name] as TensorArray;
  const session = await Session.withWeights(graph, weightOf, { threads: 1, shortLived: true });
  const outputs = await session.run(feeds);
  await session.close();
  return outputs;
}

const tables = () => "quantized" as const;
const FORMATS = ([2, 4, 8] as const).flatMap((bits) =>
  [true, false].flatMap((symmetric) => [16, 32, 64, 128].map((block) => ({ bits, symmetric, block }))),
);

describe.each(FORMATS)("blocks of $bits bits, symmetric: $symmetric, block $block", (format) => {
  const options: BlockOptions = { ...format, tables, accuracy: 4 };

  // Less than a block, whole blocks, and a last one that is not full.
  it.each([format.block - 3, 2 * format.block, 2 * format.block + 8])(
    "a product multiplies by weights of %d inputs in blocks",
    async (K) => {
      const weight = stored(N, K, format);
      const channels = weightsOf(weight, K, format);
      const [x, c] = [draw(M * K), draw(N)];
      for (const transB of [false, true]) {
        const graph = new Graph();
        const w = graph.parameter("w", transB ? [N, K] : [K, N]);
        graph.output(gemm(graph.input("x", "float32", ["rows", K]), w, { transB, c: graph.parameter("c", [N]) }), "y");
        const { graph: built, sources } = toBlockGraph(graph, options);
        expect([...sources.values()].map(({ byRow }) => byRow)).toEqual(Array(format.symmetric ? 2 : 3).fill(transB));
        const outputs = await run(built, { ...named("w", weight), c }, { x: makeFloat32Tensor(x, [M, K]) });
        const y = outputs.y?.data as Float32Array;
        expect(outputs.y?.shape).toEqual([M, N]);
        for (let m = 0; m < M; m++)
          for (const [n, channel] of channels.entries()) {
            const terms = channel.map((w, k) => w * (x[m * K + k] as number));
            const sum = terms.reduce((a, b) => a + b, c[n] as number);
            const size = terms.reduce((a, b) => a + Math.abs(b), 0);
            expect(Math.abs((y[m * N + n] as number) - sum)).toBeLessThan(1e-6 * size);
          }
      }
    },
  );

  it("a lookup takes rows from the bytes that a product reads", async () => {
    const K = 256;
    const weight = stored(V, K, format);
    const graph = new Graph();
    const table = graph.parameter("table", [V, K]);
    const rows = gather(table, graph.input("ids", "int64", ["rows"])); // [rows, K]
    graph.output(gemm(rows, table, { transB: true }), "logits");
    graph.output(rows, "picked");
    const { graph: built, sources } = toBlockGraph(graph, options);
    const parts = ["scales", "values", ...(format.symmetric ? [] : ["zero_points"])].map((part) => `table/${part}`);
    expect(
      pruneGraph(built)
        .parameters.map(({ name }) => name)
        .sort(),
    ).toEqual(parts);
    expect([...sources.keys()].sort()).toEqual(parts);
    const ids = [6, 0, 3, 3];
    const { picked, logits } = await run(built, named("table", weight), { ids: makeInt64Tensor(ids, [4]) });
    const all = weightsOf(weight, K, format);
    const looked = ids.map((n) => all[n] as Float64Array);
    // One product of a float16 and an integer of at most 9 bits: exact.
    const exact = Float32Array.from(looked.flatMap((row) => [...row]));
    expect(worstOf(picked?.data as Float32Array, exact)).toBe(0);
    const products = looked.flatMap((row) =>
      all.map((other) => other.reduce((sum, w, k) => sum + w * (row[k] as number), 0)),
    );
    const largest = Math.max(...products.map(Math.abs));
    expect(worstOf(logits?.data as Float32Array, Float32Array.from(products))).toBeLessThan(4e-6 * largest);
  });
});

describe("the weights that a block graph stores", () => {
  const build = () => {
    const graph = new Graph();
    const ids = graph.input("ids", "int64", ["rows"]);
    const x = gemm(gather(graph.parameter("table", [7, 32]), ids), graph.parameter("w", [32, 48]));
    graph.output(gemm(x, graph.parameter("kept", [48, 2])), "y");
    return graph;
  };
  const format: BlockFormat = { bits: 4, block: 16, symmetric: false };
  const parametersWith = (options: Partial<BlockOptions>) => {
    const { graph } = toBlockGraph(build(), { ...format, tables, accuracy: 0, ...options });
    return pruneGraph(graph).parameters.map(({ name, dtype, shape }) => `${name} ${dtype} [${shape}]`);
  };
  const table = ["table/values uint8 [7,2,8]", "table/scales float16 [7,2]", "table/zero_points uint8 [7,1]"];
  const w = ["w/values uint8 [48,2,8]", "w/scales float16 [48,2]", "w/zero_points uint8 [48,1]"];
  const kept = ["kept/values uint8 [2,3,8]", "kept/scales float16 [2,3]", "kept/zero_points uint8 [2,2]"];

  it("every weight is stored in blocks", () => {
    expect(parametersWith({}).sort()).toEqual([...table, ...w, ...kept].sort());
  });

  it("a weight that is not chosen is stored as it was", () => {
    const chosen = ({ name }: Value) => name !== "kept";
    expect(parametersWith({ chosen }).sort()).toEqual([...table, ...w, "kept float32 [48,2]"].sort());
  });

  it.each([
    ["float16", "table float16 [7,32]"],
    ["as it is", "table float32 [7,32]"],
  ] as const)("a table is stored in %s when asked", (storage, parameter) => {
    expect(parametersWith({ tables: () => storage }).sort()).toEqual([parameter, ...w, ...kept].sort());
  });

  it("products say how exact they have to be", () => {
    const levels = ([0, 4] as const).map((accuracy) => {
      const { nodes } = pruneGraph(toBlockGraph(build(), { ...format, tables, accuracy }).graph);
      return nodes.filter(({ op }) => op === "MatMulNBits").map(({ attributes }) => attributes.accuracy_level);
    });
    expect(levels).toEqual([
      [undefined, undefined],
      [{ int: 4 }, { int: 4 }],
    ]);
  });

  it("rows that are no whole blocks are refused", () => {
    expect(() => parametersWith({ block: 64 })).toThrow("GatherBlockQuantized: blocks of 64 do not divide 32");
  });
});
