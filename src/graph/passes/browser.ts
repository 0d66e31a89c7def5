// Rewrites the graph of a file so that browsers run it on WebGPU without the CPU, and on the CPU as fast as before.
import type { Graph, Node, Value } from "../ir.ts";
import { gather, reshape } from "../shape-ops.ts";
import { type NodeRule, type Rewrite, rewriteGraph } from "./rewrite.ts";
import { lowerNode } from "./webgpu.ts";

/**
 * The graph with the int64 inputs that other programs feed, and without int64 arithmetic on them, for which WebGPU has no
 * kernels. Lookups take int64 indices on any device: rows of a table are looked up by the inputs as they are, and a mask
 * becomes int32 by a lookup, too. What is computed from sizes alone stays with the host.
 * @param masks names of inputs that hold 0 and 1 only
 */
export function toBrowserGraph(original: Graph, masks: readonly string[]): Graph {
  const rule: NodeRule = (node, rewrite) => lookUpByInput(node, rewrite) ?? lowerNode(node, rewrite);
  return rewriteGraph(original, rule, {
    input: (copy) => (masks.includes(copy.name) ? toInt32Mask(copy) : copy),
  });
}

/** [0, 1][mask]: the mask in int32. */
function toInt32Mask(mask: Value): Value {
  return gather(mask.graph.constant(Int32Array.of(0, 1), [2], "int32"), mask);
}

/** table[Reshape(ids)] as Reshape(table[ids]), for ids that are an input: the rows, not the indices, are reshaped. */
function lookUpByInput({ op, inputs, outputs }: Node, { of }: Rewrite): Value[] | null {
  const [table, rows] = inputs;
  const ids = rows?.producer?.op === "Reshape" ? rows.producer.inputs[0] : null;
  if (op !== "Gather" || table?.kind !== "parameter" || ids?.kind !== "input") return null;
  return [reshape(gather(of(table), of(ids)), (outputs[0] as Value).shape)]; // [B, T, C] → [B·T, C]
}
