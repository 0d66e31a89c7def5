// The graphs of exported files: int64 only as inputs, indices and sizes, and the numbers of the graph that they are made of.
import { describe, expect, it } from "vitest";
import { type Node, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { toBrowserGraph } from "../../../src/graph/passes/browser.ts";
import { Session } from "../../../src/graph/session.ts";
import { buildExportGraph } from "../../../src/model/classifier-graph.ts";
import { PRECISIONS } from "../../../src/model/precision.ts";
import { buildPrecisionGraph } from "../../../src/model/precision-graph.ts";
import { resolveQuantization } from "../../../src/model/quantization.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { GRAPH_CASES } from "../../support/graph-cases.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

const OPTIONS = {
  noise: { kind: "mean" },
  quantization: resolveQuantization(32, ["q4"], { block: 16 }),
} as const;

/** Ops that the host computes on sizes, and those that take int64 indices or shapes on any device. */
const OF_SIZES = new Set(["Shape", "Squeeze", "Concat", "Add", "Sub", "Mul", "Cast"]);
const INDEXED = new Set(["Gather", "GatherBlockQuantized"]);

/** Nodes that compute with int64 numbers that come from an input, and not from sizes alone. */
function findInt64Arithmetic(nodes: readonly Node[]): string[] {
  const fromData = new Set<Value>();
  const found: string[] = [];
  for (const { op, inputs, outputs } of nodes) {
    const reads = inputs.filter((value) => value?.dtype === "int64" && (value.kind === "input" || fromData.has(value)));
    if (op === "Shape" || reads.length === 0) continue;
    if (!(INDEXED.has(op) && reads.length === 1 && reads[0] === inputs[1])) found.push(op);
    for (const output of outputs) if (output.dtype === "int64") fromData.add(output);
  }
  return found;
}

describe.each(VARIANTS)("the exported graphs of %s", (variant) => {
  it.each(PRECISIONS)("%s computes with no int64 input, and with no int64 but sizes", (precision) => {
    for (const labels of [undefined, ["no", "yes"]]) {
      const config = { ...tinyModelConfig({ variant, width: 32 }), ...(labels && { labels }) };
      const { nodes, inputs } = pruneGraph(buildPrecisionGraph(config, precision, OPTIONS).graph);
      expect(inputs.filter(({ dtype }) => dtype === "int32")).toEqual([]);
      expect(findInt64Arithmetic(nodes)).toEqual([]);
      const wide = nodes.filter(({ outputs }) => outputs.some(({ dtype }) => dtype === "int64"));
      expect(wide.map(({ op }) => op).filter((op) => !OF_SIZES.has(op))).toEqual([]);
    }
  });
});

it("the model's own graph computes with int64 inputs", () => {
  const { nodes } = pruneGraph(buildExportGraph(tinyModelConfig(), OPTIONS.noise));
  expect(findInt64Arithmetic(nodes)).toContain("Reshape");
});

const DECODERS = GRAPH_CASES.filter(({ name }) => name.startsWith("decoder"));

it.each(DECODERS)("$name has the same bits on the CPU as before", async ({ graph, feeds }) => {
  const outputs = [];
  for (const each of [graph, toBrowserGraph(graph, ["attention_mask"])]) {
    const session = await Session.withInputs(each, { threads: 1 });
    outputs.push(await session.run(feeds));
    await session.close();
  }
  expect(Object.keys(outputs[0] ?? {}).length).toBeGreaterThan(2);
  expect(outputs[1]).toEqual(outputs[0]);
});
