// The reverse walk: which nodes it visits, how it accumulates, and what it refuses when the graph is built.
import { describe, expect, it, vi } from "vitest";
import { backward, takeOutputGradient } from "../../../src/graph/autodiff/backward.ts";
import { Graph, type Value } from "../../../src/graph/ir.ts";
import * as ops from "../../../src/graph/ops.ts";
import { makeFloat32Tensor, Session, type Tensors } from "../../../src/graph/session.ts";
import * as shapes from "../../../src/graph/shape-ops.ts";

function setup(...sizes: number[][]): { graph: Graph; x: Value[] } {
  const graph = new Graph();
  return { graph, x: sizes.map((shape, i) => graph.input(`x${i}`, "float32", shape)) };
}

const seedFor = (y: Value) => y.graph.input(`r.${y.name}`, "float32", y.shape);

/** dL/d(target) with r as dL/dy, which must be there. */
function gradient(y: Value, target: Value, r = seedFor(y)): Value {
  const found = backward(new Map([[y, r]]), [target]).get(target);
  if (!found) throw new Error(`${target.name} has no gradient`);
  return found;
}

/** Runs the graph on vectors. */
async function run(graph: Graph, feeds: Record<string, number[]>): Promise<Record<string, number[]>> {
  const tensors: Tensors = Object.fromEntries(
    Object.entries(feeds).map(([name, values]) => [
      name,
      makeFloat32Tensor(Float32Array.from(values), [values.length]),
    ]),
  );
  const session = await Session.withInputs(graph);
  const result = await session.run(tensors);
  await session.close();
  return Object.fromEntries(Object.entries(result).map(([name, { data }]) => [name, Array.from(data, Number)]));
}

describe("the nodes of a backward pass", () => {
  it("nodes that no target needs are left out", () => {
    const { graph, x } = setup([2, 3], [3, 4]);
    const [a, w] = x as [Value, Value];
    const y = ops.matmul(ops.relu(a), w);
    const built = vi.spyOn(graph, "node");
    takeOutputGradient(gradient(y, w), "dw");
    // aᵀ·dY alone, neither dY·wᵀ nor Relu's mask.
    expect(built.mock.calls.map(([{ op }]) => op)).toEqual(["Transpose", "MatMul"]);
  });

  it("no rule is needed off the way to the targets", () => {
    const { x } = setup([2, 3], [2, 1]);
    const [a, w] = x as [Value, Value];
    const y = ops.mul(ops.reduceMax(a, [1], true), w);
    expect(backward(new Map([[y, seedFor(y)]]), [w]).size).toBe(1);
  });

  it("conditions and indices are not walked, though they depend on a target", async () => {
    const { graph, x } = setup([3]);
    const [a] = x as [Value];
    const y = ops.where(ops.less(graph.scalar(0), a), shapes.gather(a, ops.cast(a, "int64")), a);
    takeOutputGradient(gradient(y, a), "da");
    // y = [a₁, a₂, a₂]
    expect(await run(graph, { x0: [1, 2, -1], [`r.${y.name}`]: [1, 10, 100] })).toEqual({ da: [0, 1, 110] });
  });

  it("targets that the seeds do not depend on get no entry", () => {
    const { x } = setup([3], [3], [3]);
    const [a, b, c] = x as [Value, Value, Value];
    const y = ops.mul(a, b);
    const gradients = backward(new Map([[y, seedFor(y)]]), [a, c, ops.tanh(y)]);
    expect([...gradients.keys()]).toEqual([a]);
  });

  it("a graph deeper than the call stack is walked to its end", () => {
    const { x } = setup([1]);
    let y = x[0] as Value;
    for (let i = 0; i < 20_000; i++) y = ops.tanh(y);
    expect(gradient(y, x[0] as Value).shape).toEqual([1]);
  });
});

describe("targets and seeds of a backward pass", () => {
  it("a target inside the graph and one before it both get their gradient", async () => {
    const { graph, x } = setup([2], [2]);
    const [a, w] = x as [Value, Value];
    const h = ops.mul(a, a);
    const y = ops.mul(h, w);
    const gradients = backward(new Map([[y, seedFor(y)]]), [h, a]);
    takeOutputGradient(gradients.get(h) as Value, "dh");
    takeOutputGradient(gradients.get(a) as Value, "da");
    const result = await run(graph, { x0: [2, 3], x1: [5, 7], [`r.${y.name}`]: [1, 10] });
    expect(result).toEqual({ dh: [5, 70], da: [20, 420] });
  });

  it("a target that lies inside the graph is not walked past", () => {
    const { x } = setup([2, 3], [2, 1]);
    const [a, w] = x as [Value, Value];
    const h = ops.reduceMax(a, [1], true); // has no rule
    const y = ops.mul(h, w);
    expect(backward(new Map([[y, seedFor(y)]]), [h]).size).toBe(1);
  });

  it("several seeds add up, one of them inside the graph and one a target", async () => {
    const { graph, x } = setup([2]);
    const [a] = x as [Value];
    const h = ops.mul(a, a);
    const y = ops.mul(h, h);
    const seeds = new Map([y, h, a].map((value) => [value, seedFor(value)]));
    const gradients = backward(seeds, [a]);
    takeOutputGradient(gradients.get(a) as Value, "da");
    const feeds = { x0: [1, 2], [`r.${y.name}`]: [1, 1], [`r.${h.name}`]: [10, 10], "r.x0": [100, 100] };
    // 4a³ + 10·2a + 100
    expect(await run(graph, feeds)).toEqual({ da: [124, 172] });
  });

  it("seeds of some outputs of a node stand for zeros at the others", async () => {
    const { graph, x } = setup([6]);
    const [a] = x as [Value];
    const part = shapes.split(a, [2, 2, 2], 0)[1] as Value;
    takeOutputGradient(gradient(part, a), "da");
    expect(await run(graph, { [`r.${part.name}`]: [1, 2], x0: [0, 0, 0, 0, 0, 0] })).toEqual({
      da: [0, 0, 1, 2, 0, 0],
    });
  });

  it("a value used by several nodes, and twice by one, gets the sum", async () => {
    const { graph, x } = setup([2]);
    const [a] = x as [Value];
    const y = ops.add(ops.mul(a, a), ops.add(ops.scale(a, 3), a));
    takeOutputGradient(gradient(y, a), "da");
    expect(await run(graph, { x0: [1, 2], [`r.${y.name}`]: [1, 10] })).toEqual({ da: [6, 80] });
  });

  it("paths that double at every node are walked once each", async () => {
    const { graph, x } = setup([1]);
    const [a] = x as [Value];
    let y = a;
    for (let i = 0; i < 60; i++) y = ops.add(y, y);
    takeOutputGradient(gradient(y, a), "da");
    expect(await run(graph, { x0: [1], [`r.${y.name}`]: [1] })).toEqual({ da: [2 ** 60] });
  });

  it("the same nodes are walked again for other seeds", async () => {
    const { graph, x } = setup([3], [3]);
    const [a, w] = x as [Value, Value];
    const y = ops.layerNorm(shapes.reshape(a, [1, 3]), w, null, 1e-5);
    const r = graph.constant(Float32Array.of(1, -2, 4), [1, 3], "float32");
    for (const [i, seed] of [r, ops.scale(r, 2)].entries()) takeOutputGradient(gradient(y, a, seed), `d${i}`);
    const { d0, d1 } = (await run(graph, { x0: [1, 2, 4], x1: [1, 1, 1] })) as { d0: number[]; d1: number[] };
    expect(d1).toEqual(d0.map((value) => 2 * value));
    expect(Math.max(...d0)).toBeGreaterThan(0.1);
  });
});

describe("faults of a backward pass when the graph is built", () => {
  it("an op without a rule is named", () => {
    const { x } = setup([2, 3]);
    const y = ops.tanh(ops.reduceMax(x[0] as Value, [1]));
    expect(() => gradient(y, x[0] as Value)).toThrow("backward: no gradient rule for ReduceMax");
  });

  it("a seed of another shape is refused with both shapes", () => {
    const { graph, x } = setup([2, 3]);
    const y = ops.tanh(x[0] as Value);
    expect(() => gradient(y, x[0] as Value, graph.input("r", "float32", [3]))).toThrow(
      `backward: ${y.name} [2, 3] got [3]`,
    );
  });

  it("a large table gathered along an inner axis is refused", () => {
    const { graph, x } = setup([2, 65]);
    const y = shapes.gather(x[0] as Value, graph.ints([1, 2]), 1);
    expect(() => gradient(y, x[0] as Value)).toThrow("Gather on axis 1 of a table of 65 entries has no rule");
  });

  it("a sum along an axis of unknown length is refused", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", ["n", 3]);
    const y = ops.reduceSum(x, [0]);
    expect(() => gradient(y, x)).toThrow("nothing tells the size of n");
  });
});

describe("gradients as outputs", () => {
  it("takeOutputGradient names a value that two targets share, and a seed that is a gradient itself", async () => {
    const { graph, x } = setup([2], [2]);
    const [a, b] = x as [Value, Value];
    const y = ops.add(a, b);
    const r = seedFor(y);
    const seeded = backward(new Map([[y, r]]), [a, b]);
    for (const value of [a, b]) takeOutputGradient(seeded.get(value) as Value, `d.${value.name}`);

    const z = ops.add(a, b);
    const computed = backward(new Map([[z, ops.scale(r, 2)]]), [a, b]);
    expect(computed.get(a)).toBe(computed.get(b));
    for (const value of [a, b]) takeOutputGradient(computed.get(value) as Value, `e.${value.name}`);
    expect(await run(graph, { x0: [0, 0], x1: [0, 0], [r.name]: [1, 2] })).toEqual({
      "d.x0": [1, 2],
      "d.x1": [1, 2],
      "e.x0": [2, 4],
      "e.x1": [2, 4],
    });
  });
});
