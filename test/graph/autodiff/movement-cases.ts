// Functions of ops that move data, for finite differences: axes, ranks, repeated indices, both of Gather's ways.
import type { Graph, Value } from "../../../src/graph/ir.ts";
import * as ops from "../../../src/graph/ops.ts";
import { makeInt64Tensor } from "../../../src/graph/session.ts";
import * as shapes from "../../../src/graph/shape-ops.ts";
import { type GradientCase, one, two } from "./finite-differences.ts";

type Shape = readonly number[];

/** Indices of several ranks, with repeats; through constants, int64 and int32 inputs. */
function gatherCases(): GradientCase[] {
  const gather = (shape: Shape, axis: number, indices: number[], indexShape: Shape): GradientCase =>
    one(shape, (x, graph) => shapes.gather(x, graph.input("i", "int64", indexShape), axis), {
      feeds: { i: makeInt64Tensor(indices, indexShape) },
    });
  const int32: GradientCase = one([3, 2], (x, graph) => shapes.gather(x, graph.input("i", "int32", [4])), {
    feeds: { i: { dtype: "int32", data: Int32Array.of(2, 0, 2, 2), shape: [4] } },
  });
  const buckets = (x: Value, graph: Graph) => {
    const indices = graph.ints([0, 2, 2, 1]);
    return ops.mul(shapes.gather(x, indices), shapes.gather(ops.tanh(x), indices)); // one-hot rows shared
  };
  return [
    gather([4, 3], 0, [2, 0, 2, 2, 1], [5]),
    gather([4, 3], 0, [3, 1, 1, 3, 3, 0], [2, 3]),
    gather([4, 3], 0, [2], []),
    gather([4], 0, [1, 1, 3], [3]),
    gather([2, 4], 1, [0, 3, 3, 1, 0, 3], [2, 3]),
    gather([2, 4, 3], 1, [0, 3, 3, 1], [4]),
    gather([2, 4, 3], 1, [1, 1, 2, 0], [1, 2, 2]),
    gather([2, 2, 4], -1, [1, 3, 3], [3]),
    gather([64, 2], 0, [63, 0, 63], [3]),
    gather([65, 2], 0, [64, 0, 64, 5], [4]),
    gather([70, 2], 0, [69, 1, 1, 69, 69, 0], [2, 3]),
    gather([66], 0, [65, 65, 2], [3]),
    gather([66, 2, 3], 0, [7, 7], [2, 1]),
    gather([1, 66], 1, [7, 7, 65], [3]),
    int32,
    one([3, 2], buckets),
  ];
}

function gatherElementsCases(): GradientCase[] {
  const pickOne = (shape: Shape, axis: number, indices: number[], indexShape: Shape) =>
    one(shape, (x, graph) => shapes.gatherElements(x, graph.input("i", "int64", indexShape), axis), {
      feeds: { i: makeInt64Tensor(indices, indexShape) },
    });
  return [
    pickOne([3, 4], 1, [2, 0, 2], [3, 1]),
    pickOne([3, 4], 1, [2, 1, 0, 3, 2, 0], [3, 2]),
    pickOne([3, 2], 0, [2, 1], [1, 2]),
    pickOne([2, 3, 2], -2, [2, 1, 1, 0], [2, 1, 2]),
    one([3, 4], (x, graph) => shapes.pick(x, graph.input("i", "int64", [3])), {
      feeds: { i: makeInt64Tensor([3, 3, 1], [3]) },
    }),
  ];
}

const splits: GradientCase[] = [
  { shapes: [[2, 6]], build: ([x]) => shapes.split(x as Value, [2, 2, 2], 1) },
  { shapes: [[4, 3]], build: ([x]) => shapes.split(x as Value, [1, 3], 0) },
  { shapes: [[2, 4, 3]], build: ([x]) => shapes.split(x as Value, [1, 2, 1], -2).slice(1) },
  one([2, 6], (x) => {
    const [a, , c] = shapes.split(x, [2, 2, 2], 1) as [Value, Value, Value];
    return ops.mul(a, ops.mul(a, c));
  }),
];

const concats: GradientCase[] = [
  two([2, 3], [4, 3], (a, b) => shapes.concat([a, b], 0)),
  two([2, 3], [2, 1], (a, b) => shapes.concat([b, a, b], -1)),
  two([2, 3, 2], [2, 1, 2], (a, b) => shapes.concat([a, ops.tanh(a), b], 1)),
];

const squeeze = (x: Value, axis: number) =>
  ops.single({
    op: "Squeeze",
    inputs: [x, x.graph.ints([axis])],
    dtype: x.dtype,
    shape: x.shape.filter((_, i) => i !== axis),
  });

export const MOVEMENT_CASES: Record<string, readonly GradientCase[]> = {
  Reshape: [one([2, 6], (x) => shapes.reshape(x, [3, 2, 2])), one([1, 1], (x) => shapes.reshape(x, []))],
  Unsqueeze: [one([2, 3], (x) => shapes.unsqueeze(x, [0, 2])), one([], (x) => shapes.unsqueeze(x, [0]))],
  Squeeze: [one([2, 1, 3], (x) => squeeze(x, 1)), one([1], (x) => squeeze(x, 0))],
  Transpose: [
    one([2, 3], (x) => shapes.transpose(x, [1, 0])),
    one([2, 3, 4], (x) => shapes.transpose(x, [2, 0, 1])), // not its own inverse
    one([2, 3, 2, 2], (x) => shapes.transpose(x, [0, 2, 1, 3])),
  ],
  Concat: concats,
  Split: splits,
  Slice: [
    one([5, 3], (x) => shapes.slice(x, 0, 1, 4)),
    one([2, 5], (x) => shapes.slice(x, -1, 0, 2)),
    one([2, 4, 3], (x) => shapes.slice(x, 1, 3, 4)),
    one([2, 5], (x) => ops.mul(shapes.slice(x, 1, 0, 3), shapes.slice(x, 1, 2, 5))),
  ],
  Pad: [
    one([2, 3], (x) => shapes.padAxis(x, 0, 1, 2)),
    one([2, 3], (x) => shapes.padAxis(x, -1, 2, 0)),
    one([2, 3, 2], (x) => shapes.padAxis(x, 1, 0, 1)),
  ],
  Gather: gatherCases(),
  GatherElements: gatherElementsCases(),
};
