// The noise graph on the CPU provider: the kernel's bits, the operations that devices have, and few large temporaries.
import { expect, it } from "vitest";
import { buildNoiseGraph } from "../../../src/distill/step/noise-graph.ts";
import { type Node, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { expectKernelBits } from "../../support/noise-graph.ts";

it("the noise graph gives the kernel's bits, for any seed and draw, and for the same one again", async () => {
  await expectKernelBits(7, [0, 1, 0, 2 ** 20], {});
  await expectKernelBits(-3, [5], {});
});

it("the noise graph has no operation that a device lacks", () => {
  const ops = new Set(pruneGraph(buildNoiseGraph([[2, 4, 16, 16]])).nodes.map((node) => node.op));
  expect([...ops].sort()).toEqual(["Add", "Div", "Gather", "Mul", "Range", "Reshape", "Split"]);
});

it("the noise graph does nine operations of an array's size, and holds three arrays at once", () => {
  const { nodes, outputs } = pruneGraph(buildNoiseGraph([[4, 12, 128, 128]]));
  const size = 4 * 12 * 128 * 128;
  const large = ({ shape }: Value) => (shape as number[]).reduce((a, b) => a * b, 1) === size;
  const computing = nodes.filter((node) => node.op !== "Reshape" && node.op !== "Split" && node.outputs.some(large));
  expect(computing).toHaveLength(9);
  expect(countLive(nodes, outputs, large)).toBeLessThanOrEqual(3);
});

/** The most large values that are needed at once, in the order of the nodes; a Reshape and a Split of one share memory */
function countLive(nodes: readonly Node[], outputs: readonly Value[], large: (value: Value) => boolean): number {
  const source = (value: Value): Value =>
    value.producer && ["Reshape", "Split"].includes(value.producer.op) && large(value.producer.inputs[0] as Value)
      ? source(value.producer.inputs[0] as Value)
      : value;
  const lastUse = new Map<Value, number>();
  for (const [i, node] of nodes.entries()) for (const input of node.inputs) if (input) lastUse.set(source(input), i);
  for (const output of outputs) lastUse.set(source(output), nodes.length);
  const live = new Set<Value>();
  let most = 0;
  for (const [i, node] of nodes.entries()) {
    for (const output of node.outputs) if (large(output) && source(output) === output) live.add(output);
    most = Math.max(most, live.size);
    for (const value of live) if ((lastUse.get(value) ?? 0) <= i) live.delete(value);
  }
  return most;
}
