// Op builders: every shape rule that can be broken is broken once, and results are run through ONNX Runtime.
import { describe, expect, test } from "vitest";
import { Graph, type Value } from "../../src/graph/ir.ts";
import * as ops from "../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type Tensor } from "../../src/graph/session.ts";
import * as shapes from "../../src/graph/shape-ops.ts";

const graph = () => new Graph();
const floats = (g: Graph, name: string, ...shape: (number | string)[]) => g.input(name, "float32", shape);

/** Builds a graph, runs it, and gives its outputs' values. */
async function evaluate(build: (g: Graph) => Value[], feeds: Record<string, Tensor>): Promise<number[][]> {
  const g = graph();
  const outputs = build(g);
  for (const [i, value] of outputs.entries()) g.output(value, `out${i}`);
  const session = await Session.withInputs(g);
  const result = await session.run(feeds);
  await session.close();
  return outputs.map((value, i) => {
    const tensor = result[`out${i}`] as Tensor;
    for (const [axis, dim] of value.shape.entries()) if (typeof dim === "number") expect(tensor.shape[axis]).toBe(dim);
    expect(tensor.dtype).toBe(value.dtype);
    return Array.from(tensor.data, Number);
  });
}

const matrix = makeFloat32Tensor(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);

describe("checks when the graph is built", () => {
  const cases: [string, (g: Graph) => unknown, string][] = [
    ["Add", (g) => ops.add(floats(g, "a", 2, 3), floats(g, "b", 4)), "Add: shapes [2, 3] and [4] do not broadcast"],
    [
      "a name never broadcasts with a number",
      (g) => ops.mul(floats(g, "a", "batch_size"), floats(g, "b", 2)),
      "Mul: shapes [batch_size] and [2] do not broadcast",
    ],
    [
      "MatMul",
      (g) => ops.matmul(floats(g, "a", 2, 3), floats(g, "b", 2, 3)),
      "MatMul: [2, 3] and [2, 3] do not multiply",
    ],
    [
      "Gemm",
      (g) => ops.gemm(floats(g, "a", 2, 3), floats(g, "b", 3, 4), { transB: true }),
      "Gemm: [2, 3] and [3, 4]ᵀ do not multiply",
    ],
    [
      "Gemm's C",
      (g) => ops.gemm(floats(g, "a", 2, 3), floats(g, "b", 3, 4), { c: floats(g, "c", 3) }),
      "Gemm: shapes [3] and [2, 4] do not broadcast",
    ],
    ["Reshape", (g) => shapes.reshape(floats(g, "a", 2, 3), [4]), "Reshape: [2, 3] has 6 elements, [4] 4"],
    [
      "Reshape without a source for a size",
      (g) => shapes.reshape(floats(g, "a", "n"), ["b", "t"]),
      "nothing tells the size of b",
    ],
    [
      "Transpose",
      (g) => shapes.transpose(floats(g, "a", 2, 3), [0, 0]),
      "Transpose: [0, 0] is no permutation of [2, 3]",
    ],
    [
      "Concat",
      (g) => shapes.concat([floats(g, "a", 2, 3), floats(g, "b", 3, 3)], 1),
      "Concat: float32 [2, 3] and float32 [3, 3] differ outside axis 1",
    ],
    [
      "Split",
      (g) => shapes.split(floats(g, "a", 2, 3), [1, 1], 1),
      "Split: axis 1 of [2, 3] does not divide into 1 + 1",
    ],
    ["Slice", (g) => shapes.slice(floats(g, "a", 2, 3), 1, 1, 4), "Slice: 1 to 4 is outside axis 1 of [2, 3]"],
    ["Gather", (g) => shapes.gather(floats(g, "a", 2, 3), floats(g, "i", 1)), "Gather: the indices i are float32 [1]"],
    [
      "GatherElements",
      (g) => shapes.pick(floats(g, "a", 2, 3), g.input("i", "int64", [3])),
      "GatherElements: [3, 1] does not index axis 1 of [2, 3]",
    ],
    [
      "LayerNormalization",
      (g) => ops.layerNorm(floats(g, "x", 2, 3), floats(g, "w", 2), null, 1e-5),
      "LayerNormalization: w [2] does not fit [2, 3]",
    ],
    ["an axis", (g) => ops.softmax(floats(g, "x", 2, 3), 2), "Softmax: axis 2 is outside [2, 3]"],
    ["dtypes", (g) => ops.add(floats(g, "a", 2), g.input("b", "int64", [2])), "Add: a is float32 [2], b int64 [2]"],
    [
      "a condition",
      (g) => ops.where(floats(g, "c", 1), floats(g, "a", 1), floats(g, "b", 1)),
      "Where: the condition c is float32",
    ],
    ["floats", (g) => ops.logSoftmax(g.input("x", "int64", [2])), "LogSoftmax: x is int64 [2], not a float"],
    ["scale", (g) => ops.scale(g.input("x", "int64", [2]), 2), "scalar 2: x is int64"],
    [
      "another graph's value",
      (g) => ops.add(floats(g, "a", 1), floats(graph(), "b", 1)),
      "Add: input b belongs to another graph",
    ],
    ["a name twice", (g) => [floats(g, "a", 1), floats(g, "a", 1)], "graph: the name a is taken"],
    ["a constant", (g) => g.constant(new Float32Array(3), [2], "float32"), "constant: 3 elements for shape [2]"],
    [
      "an input as output",
      (g) => g.output(floats(g, "a", 1), "y"),
      "output y: a is no computed value, or an output already",
    ],
  ];
  for (const [name, build, message] of cases)
    test(`a wrong input is refused when the graph is built: ${name}`, () =>
      expect(() => build(graph())).toThrow(message));
});

describe("values from ONNX Runtime", () => {
  test("arithmetic broadcasts its operands", async () => {
    const [sum, difference, product, quotient, least, most] = await evaluate(
      (g) => {
        const [a, b] = [floats(g, "a", 2, 3), floats(g, "b", 3)];
        return [ops.add(a, b), ops.sub(a, b), ops.mul(a, b), ops.div(a, b), ops.min(a, b), ops.max(a, b)];
      },
      { a: matrix, b: makeFloat32Tensor(Float32Array.of(1, 2, 4), [3]) },
    );
    expect(sum).toEqual([2, 4, 7, 5, 7, 10]);
    expect(difference).toEqual([0, 0, -1, 3, 3, 2]);
    expect(product).toEqual([1, 4, 12, 4, 10, 24]);
    expect(quotient).toEqual([1, 1, 0.75, 4, 2.5, 1.5]);
    expect(least).toEqual([1, 2, 3, 1, 2, 4]);
    expect(most).toEqual([1, 2, 4, 4, 5, 6]);
  });

  test("gemm transposes, scales and adds", async () => {
    const [product] = await evaluate(
      (g) => {
        const a = floats(g, "a", 2, 3);
        return [ops.gemm(a, a, { transB: true, alpha: 2, c: g.scalar(1) })];
      },
      { a: matrix },
    );
    expect(product).toEqual([29, 65, 65, 155]);
  });

  test("activations have their values", async () => {
    const x = makeFloat32Tensor(Float32Array.of(-1, 0, 2), [3]);
    const [tanhGelu, exactGelu, relu, sigmoid] = await evaluate(
      (g) => {
        const v = floats(g, "x", 3);
        return [ops.gelu(v, "tanh"), ops.gelu(v, "none"), ops.relu(v), ops.sigmoid(v)];
      },
      { x },
    );
    expect(tanhGelu?.[2]).toBeCloseTo(1.9545977, 6);
    expect(exactGelu?.[2]).toBeCloseTo(1.9544997, 6);
    expect(relu).toEqual([0, 0, 2]);
    expect(sigmoid?.[0]).toBeCloseTo(0.26894143, 6);
  });

  test("reductions, argmax and picks have their values", async () => {
    const [sum, most, best, picked] = await evaluate(
      (g) => {
        const a = floats(g, "a", 2, 3);
        return [
          ops.reduceSum(a, [1]),
          ops.reduceMax(a, [0], true),
          ops.argMax(a),
          shapes.pick(a, g.input("i", "int64", [2])),
        ];
      },
      { a: matrix, i: makeInt64Tensor([2, 0], [2]) },
    );
    expect([sum, most, best, picked]).toEqual([
      [6, 15],
      [4, 5, 6],
      [2, 2],
      [3, 4],
    ]);
  });

  test("data moves through sizes known only at run time", async () => {
    const [moved, joined, part, counted] = await evaluate(
      (g) => {
        const a = floats(g, "a", "rows", 3);
        const sources = new Map([["rows", { value: a, axis: 0 }]]);
        const flat = shapes.reshape(shapes.transpose(a, [1, 0]), ["rows * 3"]);
        const back = shapes.reshape(flat, [3, "rows"], sources);
        return [
          shapes.transpose(back, [1, 0]),
          shapes.concat([a, a], 1),
          shapes.slice(a, 1, 1, 2),
          shapes.range(shapes.readSize(a, 0), "rows"),
        ];
      },
      { a: matrix },
    );
    expect(moved).toEqual([1, 2, 3, 4, 5, 6]);
    expect(joined).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
    expect(part).toEqual([2, 5]);
    expect(counted).toEqual([0, 1]);
  });

  test("random draws follow the seed and differ from run to run", async () => {
    const build = () => {
      const g = graph();
      g.output(ops.randomNormalLike(floats(g, "a", 2, 3), 7), "noise");
      return Session.withInputs(g);
    };
    const [one, two] = [await build(), await build()];
    const draw = async (session: Session) => Array.from((await session.run({ a: matrix })).noise?.data ?? [], Number);
    const first = await draw(one);
    expect(await draw(two)).toEqual(first);
    expect(await draw(one)).not.toEqual(first);
    await Promise.all([one.close(), two.close()]);
  });
});
