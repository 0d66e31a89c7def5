// One list of functions a gradient rule, for finite differences: every input, broadcasting pattern, axis and attribute.
import type { Value } from "../../../src/graph/ir.ts";
import * as ops from "../../../src/graph/ops.ts";
import * as shapes from "../../../src/graph/shape-ops.ts";
import { type GradientCase, one, two } from "./finite-differences.ts";
import { MOVEMENT_CASES } from "./movement-cases.ts";

type Shape = readonly number[];

/** Equal shapes, leading axes, inner axes of 1, scalars, and both sides at once. */
const PAIRS: [Shape, Shape][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [[3], [2, 3]],
  [[2, 3], []],
  [[], [2, 3]],
  [
    [2, 3, 4],
    [2, 1, 4],
  ],
  [
    [2, 1, 4],
    [2, 3, 4],
  ],
  [
    [2, 3, 4],
    [1, 3, 1],
  ],
  [
    [2, 3, 4],
    [3, 1],
  ],
  [[2, 3, 4], [1]],
  [
    [2, 1],
    [1, 3],
  ],
  [
    [3, 1],
    [2, 1, 4],
  ],
  [[1, 1], [1]],
  [[1, 3], [3]],
];

/** f(a, b) in all patterns, and f(x, x). */
const broadcasts = (f: (a: Value, b: Value) => Value): GradientCase[] => [
  ...PAIRS.map(([a, b]) => two(a, b, f)),
  one([2, 3], (x) => f(x, x)),
];

const WHERE_SHAPES: [Shape, Shape, Shape][] = [
  [
    [2, 3],
    [2, 3],
    [2, 3],
  ],
  [[2, 1], [3], []],
  [
    [1, 3],
    [2, 1],
    [4, 1, 1],
  ],
  [[4, 2, 3], [1], [2, 1]],
];

/** The condition changes sign from entry to entry. */
const whereCase = ([condition, a, b]: [Shape, Shape, Shape]): GradientCase =>
  two(a, b, (x, y, graph) => {
    const size = condition.reduce((total, dim) => total * dim, 1);
    const signs = graph.constant(
      Float64Array.from({ length: size }, (_, i) => (i % 2) - 0.5),
      condition,
      "float64",
    );
    return ops.where(ops.less(signs, graph.scalar(0, "float64")), x, y);
  });

/** A · B with matrices alone, equal batches, and batches broadcast on either or both sides. */
const MATMUL_SHAPES: [Shape, Shape][] = [
  [
    [2, 3],
    [3, 4],
  ],
  [
    [5, 2, 3],
    [5, 3, 4],
  ],
  [
    [5, 2, 3],
    [3, 4],
  ],
  [
    [2, 3],
    [5, 3, 4],
  ],
  [
    [5, 1, 2, 3],
    [1, 4, 3, 2],
  ],
  [
    [5, 4, 2, 3],
    [4, 3, 2],
  ],
  [
    [1, 2, 3],
    [5, 3, 1],
  ],
];

function gemmCases(): GradientCase[] {
  const cases: GradientCase[] = [];
  for (const transA of [false, true])
    for (const transB of [false, true])
      for (const c of [null, [], [4], [1, 4], [2, 1], [2, 4], [1, 1]])
        for (const alpha of [1, 0.75])
          cases.push({
            shapes: [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4], ...(c ? [c] : [])],
            build: ([a, b, bias]) => [ops.gemm(a as Value, b as Value, { c: bias ?? null, transA, transB, alpha })],
          });
  cases.push(one([3, 3], (x) => ops.gemm(x, x, { transB: true, c: x })));
  return cases;
}

const REDUCTIONS: [Shape, number[]][] = [
  [[3], [0]],
  [[2, 3], [0]],
  [[2, 3], [-1]],
  [[2, 3, 4], [1]],
  [
    [2, 3, 4],
    [0, 2],
  ],
  [
    [2, 3, 4],
    [0, 1, 2],
  ],
];

const layerNorms: GradientCase[] = [
  [4, 5],
  [2, 3, 5],
  [1, 5],
].flatMap((shape): GradientCase[] => [
  {
    shapes: [shape, [5], [5]],
    build: ([x, weight, bias]) => [ops.layerNorm(x as Value, weight as Value, bias as Value, 1e-5)],
  },
  two(shape, [5], (x, weight) => ops.layerNorm(x, weight, null, 1e-2)),
]);

const axes = (f: (x: Value, axis: number) => Value): GradientCase[] =>
  (
    [
      [[2, 3], -1],
      [[2, 3], 0],
      [[2, 3, 4], 1],
      [[2, 3, 4], 2],
      [[5], 0],
      [[2, 1], 1],
    ] as const
  ).map(([shape, axis]) => one(shape, (x) => f(x, axis)));

const expand = (x: Value, shape: Shape) =>
  ops.single({ op: "Expand", inputs: [x, x.graph.ints(shape)], dtype: x.dtype, shape });
/** Multiples of 2⁻⁸ are moved by 2⁻⁸: exact in float32 too. */
const dyadic = { entry: (draw: number) => Math.round(draw * 256) / 256, step: 2 ** -8 };

export const GRADIENT_CASES: Record<string, readonly GradientCase[]> = {
  Add: broadcasts(ops.add),
  Sub: broadcasts(ops.sub),
  Mul: broadcasts(ops.mul),
  Div: broadcasts(ops.div),
  Max: broadcasts(ops.max),
  Min: broadcasts(ops.min),
  Where: WHERE_SHAPES.map(whereCase),
  Exp: [one([2, 3], ops.exp)],
  Log: [one([2, 3], ops.log, { entry: (draw) => 1.25 + 0.75 * draw })],
  Relu: [one([2, 3], ops.relu)],
  Tanh: [one([2, 3], ops.tanh)],
  Sigmoid: [one([2, 3], ops.sigmoid), one([2, 3], (x) => ops.mul(x, ops.sigmoid(x)))],
  Identity: [one([2, 3], ops.identity)],
  Cast: [one([2, 3], (x) => ops.cast(x, "float32"), dyadic)],
  MatMul: [
    ...MATMUL_SHAPES.map(([a, b]) => two(a, b, ops.matmul)),
    one([3, 3], (x) => ops.matmul(x, x)),
    one([2, 3, 2], (s) => ops.matmul(s, shapes.transpose(s, [0, 2, 1]))), // q = k
  ],
  Gemm: gemmCases(),
  ReduceSum: REDUCTIONS.flatMap(([shape, over]) =>
    [false, true].map((keep) => one(shape, (x) => ops.reduceSum(ops.mul(x, x), over, keep))),
  ),
  Expand: [
    one([3], (x) => expand(x, [2, 3])),
    one([2, 1, 3], (x) => expand(x, [2, 4, 3])),
    one([], (x) => expand(x, [2, 2])),
    one([1, 3, 1], (x) => expand(x, [2, 2, 3, 2])),
  ],
  LayerNormalization: layerNorms,
  Softmax: axes(ops.softmax),
  LogSoftmax: axes(ops.logSoftmax),
  ...MOVEMENT_CASES,
};
