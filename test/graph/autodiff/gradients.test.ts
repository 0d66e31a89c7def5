// Every gradient rule against finite differences in float64, alone and in random chains; GELU and erf in closed form.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { backward, RULES, takeOutputGradient } from "../../../src/graph/autodiff/backward.ts";
import { Graph, type Value } from "../../../src/graph/ir.ts";
import * as ops from "../../../src/graph/ops.ts";
import { makeFloat32Tensor, Session, type TensorArray } from "../../../src/graph/session.ts";
import * as shapes from "../../../src/graph/shape-ops.ts";
import { checkGradients, type GradientCase } from "./finite-differences.ts";
import { GRADIENT_CASES } from "./gradient-cases.ts";

/** Relative to an input's largest gradient; differences of step 1e-5 are good to about 1e-9. */
const TOLERANCE = 1e-7;
/** ONNX Runtime gives mean and 1/σ as float32, whatever x is. */
const LAYER_NORM_TOLERANCE = 1e-6;

const SQRT_PI = Math.sqrt(Math.PI);
/** erf(x) = 2/√π·e^(−x²)·Σ_n 2ⁿx^(2n+1)/(2n+1)!!, terms of one sign (Abramowitz and Stegun 7.1.6). */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-18; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / SQRT_PI) * Math.exp(-x * x) * sum;
}

function tanhGeluSlope(x: number): number {
  const [c, d] = [Math.sqrt(2 / Math.PI), 0.044715];
  const t = Math.tanh(c * (x + d * x ** 3));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * d * x * x);
}

/** float32's rounding of y and σ(v), which dv/dx multiplies in the tails. */
const closedFormTolerance = (x: number) => 1e-6 * Math.max(1, Math.abs(x) / 2);

/** Rules without a float64 kernel: derivative in closed form. */
const CLOSED_FORMS: Record<string, { name: string; build: (x: Value) => Value; slope: (x: number) => number }[]> = {
  Erf: [{ name: "erf", build: ops.erf, slope: (x) => (2 / SQRT_PI) * Math.exp(-x * x) }],
  Gelu: [
    { name: "tanh", build: (x) => ops.gelu(x, "tanh"), slope: tanhGeluSlope },
    {
      name: "none",
      build: (x) => ops.gelu(x, "none"),
      slope: (x) => 0.5 * (1 + erf(x / Math.SQRT2)) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
    },
  ],
};

/** 2·dy/dx at each x, in float32. */
async function slopes(build: (x: Value) => Value, points: Float32Array): Promise<TensorArray> {
  const graph = new Graph();
  const x = graph.input("x", "float32", [points.length]);
  const y = build(x);
  const seed = ops.shift(shapes.zeros(x, x.shape), 2);
  takeOutputGradient(backward(new Map([[y, seed]]), [x]).get(x) as Value, "dx");
  const session = await Session.withInputs(graph);
  const { dx } = await session.run({ x: makeFloat32Tensor(points, [points.length]) });
  await session.close();
  return dx?.data ?? new Float32Array();
}

describe("gradient rules", () => {
  it("every gradient rule has cases", () => {
    const covered = [...Object.keys(GRADIENT_CASES), ...Object.keys(CLOSED_FORMS), "RandomNormalLike"];
    expect(covered.sort()).toEqual(Object.keys(RULES).sort());
  });

  for (const [op, cases] of Object.entries(GRADIENT_CASES))
    it(`the gradient of ${op} agrees with finite differences`, async () => {
      const tolerance = op === "LayerNormalization" ? LAYER_NORM_TOLERANCE : TOLERANCE;
      for (const [i, spec] of cases.entries()) {
        const check = await checkGradients(spec);
        const label = `${op} ${i}: ${spec.shapes.map((shape) => `[${shape}]`).join(" ")}`;
        expect(check.ops, label).toContain(op);
        expect(Math.max(...check.errors), `${label}: ${check.errors}`).toBeLessThan(tolerance);
        expect(check.aloneIsSame, label).toEqual(spec.shapes.map(() => true));
      }
    });

  for (const [op, forms] of Object.entries(CLOSED_FORMS))
    for (const { name, build, slope } of forms)
      it(`the gradient of ${op} (${name}) is its derivative`, async () => {
        const points = Float32Array.from({ length: 241 }, (_, i) => (i - 120) / 20);
        const computed = await slopes(build, points);
        for (const [i, x] of points.entries())
          expect(Math.abs(Number(computed[i]) / 2 - slope(x)), `at ${x}`).toBeLessThan(closedFormTolerance(x));
      });

  it("RandomNormalLike passes no gradient to the tensor whose shape it takes", async () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [4]);
    const noisy = ops.add(x, ops.randomNormalLike(x, 3));
    const seed = graph.input("r", "float32", [4]);
    takeOutputGradient(backward(new Map([[noisy, seed]]), [x]).get(x) as Value, "dx");
    const session = await Session.withInputs(graph);
    const r = makeFloat32Tensor(Float32Array.of(1, -2, 3, 0.5), [4]);
    const { dx } = await session.run({ x: makeFloat32Tensor(new Float32Array(4), [4]), r });
    await session.close();
    expect(dx?.data).toEqual(r.data);
  });

  it("the first of two equal inputs of Max and Min gets the gradient", async () => {
    for (const op of [ops.max, ops.min]) {
      const graph = new Graph();
      const [a, b] = ["a", "b"].map((name) => graph.input(name, "float32", [2])) as [Value, Value];
      const gradients = backward(new Map([[op(a, b), graph.input("r", "float32", [2])]]), [a, b]);
      for (const x of [a, b]) takeOutputGradient(gradients.get(x) as Value, `d.${x.name}`);
      const session = await Session.withInputs(graph);
      const same = makeFloat32Tensor(Float32Array.of(1, 2), [2]);
      const result = await session.run({ a: same, b: same, r: makeFloat32Tensor(Float32Array.of(3, 4), [2]) });
      await session.close();
      expect([...(result["d.a"]?.data ?? []), ...(result["d.b"]?.data ?? [])]).toEqual([3, 4, 0, 0]);
    }
  });
});

/** One link of a chain: `kind` chooses the op; `a`, `b` choose its operand, axis and size among those that fit. */
interface Link {
  kind: number;
  a: number;
  b: number;
}

/** Smooth, bounded ops, so that chains neither overflow nor cross kinks. */
const LINKS: ((x: Value, other: Value, link: Link) => Value)[] = [
  (x) => ops.tanh(x),
  (x) => ops.sigmoid(x),
  (x) => ops.exp(ops.tanh(x)),
  (x) => ops.log(ops.shift(ops.mul(x, x), 1)),
  (x, other) => ops.add(x, other),
  (x, other) => ops.sub(other, x),
  (x, other) => ops.mul(x, ops.tanh(other)),
  (x, other) => ops.div(x, ops.exp(ops.tanh(other))),
  (x, _, { a }) => ops.softmax(x, a % x.shape.length),
  (x, _, { a }) => ops.logSoftmax(x, a % x.shape.length),
  (x, _, { a, b }) => ops.reduceSum(x, [a % x.shape.length], x.shape.length === 1 || b % 2 === 0),
  (x, _, { a }) => shapes.transpose(x, rotation(x.shape.length, a)),
  (x, _, { a, b }) => shapes.padAxis(x, a % x.shape.length, b % 2, 1),
  (x, _, { a, b }) => {
    const axis = a % x.shape.length;
    const size = x.shape[axis] as number;
    return shapes.slice(x, axis, b % size, size);
  },
  (x, _, { a }) => shapes.concat([x, ops.tanh(x)], a % x.shape.length),
  (x, _, { a, b }) => {
    const axis = a % x.shape.length;
    const size = x.shape[axis] as number;
    return shapes.gather(x, x.graph.ints([b % size, 0, size - 1]), axis);
  },
  (x) => ops.matmul(x.shape.length === 1 ? shapes.unsqueeze(x, [0]) : x, ops.tanh(swapped(x))),
];

const rotation = (rank: number, by: number) => Array.from({ length: rank }, (_, i) => (i + by) % rank);

/** xᵀ of the last two axes, a column for a vector. */
function swapped(x: Value): Value {
  if (x.shape.length === 1) return shapes.unsqueeze(x, [1]);
  const axes = x.shape.map((_, i) => i);
  return shapes.transpose(x, [...axes.slice(0, -2), ...axes.slice(-2).reverse()]);
}

function broadcastable(a: Value, b: Value): boolean {
  const [m, n] = [a.shape.length, b.shape.length];
  for (let i = 1; i <= Math.min(m, n); i++) {
    const [left, right] = [a.shape[m - i], b.shape[n - i]];
    if (left !== right && left !== 1 && right !== 1) return false;
  }
  return true;
}

/** Each link takes the last value and any earlier one that broadcasts with it; all values of the chain stay small. */
function chain(inputs: readonly Value[], links: readonly Link[]): Value {
  const pool = [...inputs];
  for (const link of links) {
    const x = pool.at(-1) as Value;
    const fitting = pool.filter((value) => broadcastable(value, x));
    const other = fitting[link.b % fitting.length] as Value;
    const y = (LINKS[link.kind % LINKS.length] as (typeof LINKS)[number])(x, other, link);
    if (y.shape.reduce<number>((total, dim) => total * (dim as number), 1) <= 128) pool.push(y);
  }
  return ops.identity(pool.at(-1) as Value);
}

describe("random chains of ops", () => {
  const dim = fc.constantFrom(1, 2, 3, 4);
  const shape = fc.array(dim, { minLength: 1, maxLength: 3 });
  const link = fc.record({ kind: fc.nat(LINKS.length - 1), a: fc.nat(11), b: fc.nat(11) });

  it("the gradients of random chains of ops agree with finite differences", async () => {
    await fc.assert(
      fc.asyncProperty(shape, fc.nat(7), fc.array(link, { minLength: 1, maxLength: 8 }), async (first, mask, links) => {
        // The second input broadcasts with the first: some of its axes are 1.
        const second = first.map((size, i) => ((mask >> i) & 1 ? 1 : size));
        const spec: GradientCase = {
          shapes: [second, first],
          build: ([a, b]) => [chain([a as Value, b as Value], [{ kind: 6, a: 0, b: 0 }, ...links])],
        };
        const { errors, aloneIsSame } = await checkGradients(spec);
        expect(Math.max(...errors)).toBeLessThan(1e-6);
        expect(aloneIsSame).toEqual([true, true]);
      }),
      { numRuns: 100 },
    );
  });
});
