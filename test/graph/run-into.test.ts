// Sessions whose outputs are given: what is written where, in what order nodes run, and what faults still come through.
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { backward } from "../../src/graph/autodiff/backward.ts";
import { Graph, type Value } from "../../src/graph/ir.ts";
import { gelu, gemm, scale, tanh } from "../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session } from "../../src/graph/session.ts";
import { gather } from "../../src/graph/shape-ops.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

/** y = 2x and z = 3x */
async function openMultiples(count: number, outputs: "host" | "given") {
  const graph = new Graph();
  const x = graph.input("x", "float32", [count]);
  graph.output(scale(x, 2), "y");
  graph.output(scale(x, 3), "z");
  return Session.withInputs(graph, { threads: 1, outputs });
}

const zeros = (count: number) => makeFloat32Tensor(new Float32Array(count), [count]);

describe("a run into given tensors", () => {
  it("every output is written, and no output is made beside it", async () => {
    const count = 2 ** 22; // 16 MiB
    const x = makeFloat32Tensor(new Float32Array(count).fill(5), [count]);
    const [into, session, copying] = [
      { y: zeros(count), z: zeros(count) },
      await openMultiples(count, "given"),
      await openMultiples(count, "host"),
    ];
    const growth = async (work: () => Promise<unknown>) => {
      const before = process.memoryUsage().arrayBuffers;
      const held = await work(); // so that nothing of it is collected
      return { held, bytes: process.memoryUsage().arrayBuffers - before };
    };
    expect((await growth(() => copying.run({ x }, into))).bytes).toBeGreaterThanOrEqual(2 * 4 * count);
    (into.y.data as Float32Array).fill(0);
    expect(session.outputNames).toEqual(["y", "z"]);
    expect((await growth(() => session.runInto({ x }, into))).bytes).toBeLessThan(count);
    expect([into.y.data[0], into.y.data[count - 1], into.z.data[count - 1]]).toEqual([10, 10, 15]);
    await copying.close();
    await session.close();
  });

  it("an output for which no tensor is given is named", async () => {
    const session = await openMultiples(2, "given");
    await expect(session.runInto({ x: zeros(2) }, { y: zeros(2) })).rejects.toThrow(
      "no tensor is given for the output z",
    );
    await session.close();
  });

  it("a fault of the graph is thrown", async () => {
    const graph = new Graph();
    const table = graph.input("table", "float32", [3]);
    graph.output(gather(table, graph.input("index", "int64", [1])), "y");
    const session = await Session.withInputs(graph, { threads: 1, outputs: "given" });
    const run = (index: number) =>
      session.runInto({ table: zeros(3), index: makeInt64Tensor([index], [1]) }, { y: zeros(1) });
    await run(2);
    await expect(run(3)).rejects.toThrow(/out of data bounds|out of bounds/);
    await session.close();
  });
});

describe("the order of a graph with gradients", () => {
  const path = temporaryFolder("order");

  it("a weight's gradient is computed before the walk back goes on below it", async () => {
    const graph = new Graph();
    const weights = [4, 5, 6].map((width, i) => graph.parameter(`w${i}`, [width, width + 1]));
    let x = graph.input("x", "float32", [3, 4]);
    for (const weight of weights) x = tanh(gemm(x, weight));
    const gradients = backward(new Map([[x, scale(x, 2)]]), weights);
    // In the order of the parameters, as a model lists them, which is not that of the walk.
    for (const [i, weight] of weights.entries()) graph.output(gradients.get(weight) as Value, `grad${i}`);
    const profile = path("profile");
    const session = await Session.withInputs(graph, { threads: 1, profile });
    const feeds = weights.map(({ name, shape }) => [name, shape as number[]] as const);
    const ones = (shape: readonly number[]) =>
      makeFloat32Tensor(new Float32Array(shape.reduce((a, b) => a * b)).fill(0.1), shape);
    await session.run({ x: ones([3, 4]), ...Object.fromEntries(feeds.map(([name, shape]) => [name, ones(shape)])) });
    await session.close();
    const shapes = readProductShapes(profile);
    expect(shapes).toEqual(["6,7", "3,6", "5,6", "3,5", "4,5"]); // the forward pass has FusedGemm
  });

  it("what the walk back computes once more runs twice, with the same gradient, where the session is told so", async () => {
    const made = [false, true].map((keepsWritten) => ({ keepsWritten, profile: path(`twice-${keepsWritten}`) }));
    const results = [];
    for (const { keepsWritten, profile } of made) {
      const graph = new Graph();
      const weight = graph.parameter("w", [4, 4]);
      const hidden = gelu(gemm(graph.input("x", "float32", [3, 4]), weight), "tanh");
      const y = gemm(hidden, weight);
      const options = keepsWritten ? { recomputed: new Set(["Gelu"]) } : {};
      graph.output(backward(new Map([[y, scale(y, 2)]]), [weight], options).get(weight) as Value, "dw");
      const session = await Session.withInputs(graph, { threads: 1, profile, keepsWritten });
      const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i));
      const feeds = { x: makeFloat32Tensor(numbers(12), [3, 4]), w: makeFloat32Tensor(numbers(16), [4, 4]) };
      results.push((await session.run(feeds)).dw?.data);
      await session.close();
    }
    expect(made.map(({ profile }) => listRuns(profile).filter(({ op_name }) => op_name === "Gelu").length)).toEqual([
      1, 2,
    ]);
    expect(results[1]).toEqual(results[0]);
  });
});

interface KernelRun {
  op_name?: string;
  output_type_shape?: { float: number[] }[];
}

/** What ONNX Runtime's profile says of the nodes that ran, in their order. */
function listRuns(prefix: string): KernelRun[] {
  const name = readdirSync(dirname(prefix)).find((file) => file.startsWith(basename(prefix))) as string;
  const events = JSON.parse(readFileSync(join(dirname(prefix), name), "utf8")) as { name: string; args?: KernelRun }[];
  return events.flatMap(({ name, args }) => (name.endsWith("_kernel_time") && args ? [args] : []));
}

/** The shapes of the results of all Gemms, in the order in which they ran. */
function readProductShapes(prefix: string): string[] {
  const products = listRuns(prefix).filter(({ op_name }) => op_name === "Gemm");
  return products.map(({ output_type_shape }) => String(output_type_shape?.[0]?.float));
}
