// Holds a graph's gradients against central differences of its outputs.
import { backward, takeOutputGradient } from "../../../src/graph/autodiff/backward.ts";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { Session, type Tensor, type Tensors } from "../../../src/graph/session.ts";
import { uniform } from "../../numeric/matrices.ts";

/** A function y_1, y_2, … of float64 inputs. */
export interface GradientCase {
  shapes: readonly (readonly number[])[];
  build(inputs: readonly Value[], graph: Graph): readonly Value[];
  /** Feeds of further inputs that `build` declares. */
  feeds?: Tensors;
  /** An entry from a draw in [−1, 1); left out, ±[½, 2): away from the kink of Relu and the pole of 1/x. */
  entry?: (draw: number) => number;
  step?: number;
}

/** A function of one input. */
export const one = (
  shape: readonly number[],
  build: (x: Value, graph: Graph) => Value,
  rest: Partial<GradientCase> = {},
): GradientCase => ({
  shapes: [shape],
  build: ([x], graph) => [build(x as Value, graph)],
  ...rest,
});

/** A function of two inputs. */
export const two = (
  a: readonly number[],
  b: readonly number[],
  build: (a: Value, b: Value, graph: Graph) => Value,
): GradientCase => ({
  shapes: [a, b],
  build: ([x, y], graph) => [build(x as Value, y as Value, graph)],
});

export interface GradientCheck {
  /** Largest |gradient − difference| over the largest |difference|, one an input. */
  errors: number[];
  /** Ops of the outputs' own graph. */
  ops: Set<string>;
  /** Whether each input's gradient alone is the same bits as with all the others. */
  aloneIsSame: boolean[];
}

/** Inputs and r are of order 1: gradients below this are taken for zero, as of x/x. */
const VANISHING = 1e-2;

const awayFromZero = (draw: number) => Math.sign(draw) * (0.5 + 1.5 * Math.abs(draw));

/**
 * dL/dx of L = Σ y∘r with fixed random r, against (L(x + h) − L(x − h)) / 2h entry by entry.
 * @throws Error when an input has no gradient, or the gradient's shape is not the input's
 */
export async function checkGradients(spec: GradientCase): Promise<GradientCheck> {
  const random = uniform(7);
  const { entry = awayFromZero, step = 1e-5 } = spec;
  const graph = new Graph();
  const inputs = spec.shapes.map((shape, i) => graph.input(`x.${i}`, "float64", shape));
  const outputs = spec.build(inputs, graph).map((y, i) => graph.output(y, `y.${i}`));
  const ops = new Set(pruneGraph(graph).nodes.map(({ op }) => op));
  const seeds = outputs.map((y, i) => graph.input(`r.${i}`, y.dtype, y.shape));
  addGradients(graph, inputs, new Map(outputs.map((y, i) => [y, seeds[i] as Value])));

  const points = inputs.map((x) => tensor(x, () => entry(random())));
  const weights = seeds.map((r) => tensor(r, random));
  const named = (prefix: string, tensors: Tensor[]) => tensors.map((value, i) => [`${prefix}.${i}`, value]);
  const feeds = { ...spec.feeds, ...Object.fromEntries([...named("x", points), ...named("r", weights)]) };
  const session = await Session.withInputs(graph, { threads: 1 });
  const run = () => session.run(feeds);
  const result = await run();
  const gradients = inputs.map((x, i) => gradientOf(result, `d.${i}`, x));
  const alone = inputs.map((x, i) => gradientOf(result, `alone.${i}`, x));
  const errors: number[] = [];
  for (const [i, point] of points.entries()) {
    const differences = await centralDifferences(point.data as Float64Array, step, run, weights);
    errors.push(relativeError(gradients[i] as Float64Array, differences, VANISHING));
  }
  await session.close();
  return { errors, ops, aloneIsSame: gradients.map((g, i) => Buffer.compare(bytes(g), bytes(alone[i])) === 0) };
}

/** `d.N` of all inputs together, `alone.N` of each with no other target. */
function addGradients(graph: Graph, inputs: readonly Value[], seeds: ReadonlyMap<Value, Value>): void {
  const together = backward(seeds, inputs);
  for (const [i, x] of inputs.entries())
    for (const [name, gradients] of [
      ["d", together],
      ["alone", backward(seeds, [x])],
    ] as const) {
      const gradient = gradients.get(x);
      if (!gradient || gradient.graph !== graph) throw new Error(`${x.name} has no gradient`);
      takeOutputGradient(gradient, `${name}.${i}`);
    }
}

async function centralDifferences(
  point: Float64Array,
  step: number,
  run: () => Promise<Tensors>,
  weights: readonly Tensor[],
): Promise<Float64Array> {
  const differences = new Float64Array(point.length);
  for (const [i, x] of point.entries()) {
    point[i] = x + step;
    const above = await run();
    point[i] = x - step;
    const below = await run();
    point[i] = x;
    // Σ r∘(y₊ − y₋) rather than L₊ − L₋: the parts that x_i does not move cancel exactly.
    for (const [k, weight] of weights.entries()) {
      const [plus, minus] = [above, below].map((outputs) => (outputs[`y.${k}`] as Tensor).data as Float64Array);
      for (const [e, r] of (weight.data as Float64Array).entries())
        differences[i] = at(differences, i) + (r * (at(plus, e) - at(minus, e))) / (2 * step);
    }
  }
  return differences;
}

/** Largest |actual − expected| over the largest |expected|, or over `floor` where that is larger. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>, floor: number): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let [error, scale] = [0, floor];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(at(actual, i) - at(expected, i));
    error = Math.max(error, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    scale = Math.max(scale, Math.abs(at(expected, i)));
  }
  return error / scale;
}

function at(values: ArrayLike<number> | undefined, i: number): number {
  return values?.[i] ?? Number.NaN;
}

function bytes(values: Float64Array | undefined): Uint8Array {
  return values ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength) : new Uint8Array();
}

function gradientOf(result: Tensors, name: string, x: Value): Float64Array {
  const { dtype, data, shape } = result[name] as Tensor;
  if (dtype !== "float64" || `${shape}` !== `${x.shape}`)
    throw new Error(`${name}: ${dtype} [${shape}] of [${x.shape}]`);
  return data as Float64Array;
}

function tensor({ dtype, shape }: Value, fill: () => number): Tensor {
  const sizes = shape as number[];
  const values = Array.from({ length: sizes.reduce((a, b) => a * b, 1) }, fill);
  return { dtype, data: dtype === "float32" ? Float32Array.from(values) : Float64Array.from(values), shape: sizes };
}
