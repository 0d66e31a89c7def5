// Reverse-mode differentiation: walks from seeded values back to the targets, over the nodes between them only.
import { formatShape, isSameShape } from "../dims.ts";
import type { Node, Value } from "../ir.ts";
import { add, identity } from "../ops.ts";
import type { Rule, RuleContext } from "./rules.ts";
import { MOVEMENT_RULES } from "./rules-movement.ts";
import { NETWORK_RULES } from "./rules-network.ts";
import { POINTWISE_RULES } from "./rules-pointwise.ts";
import { PRODUCT_RULES } from "./rules-product.ts";

/** The gradient rules by the ONNX name of the op. */
export const RULES: Readonly<Record<string, Rule>> = {
  ...POINTWISE_RULES,
  ...PRODUCT_RULES,
  ...NETWORK_RULES,
  ...MOVEMENT_RULES,
};

/** How the walk back is written, for a session with `keepsWritten`. The gradients are the same. */
export interface BackwardOptions {
  /** Ops whose results are computed once more where a rule reads them, so that the forward pass need not keep them. */
  recomputed?: ReadonlySet<string> | undefined;
  /** Whether xᵀ is made before the product xᵀ·dY, not within it. */
  turned?: boolean | undefined;
}

/**
 * Vector-Jacobian product: with `seeds` = dL/d(value) for some values, dL/d(target) for each target that they depend
 * on. The gradients are nodes of the same graph. The walk does not continue behind a target unless another target needs it.
 * @throws Error naming an op without a rule, or a seed whose shape is not its value's
 */
export function backward(
  seeds: ReadonlyMap<Value, Value>,
  targets: readonly Value[],
  { recomputed = new Set(), turned = false }: BackwardOptions = {},
): Map<Value, Value> {
  const order = findNodesBetween([...seeds.keys()], new Set(targets));
  const gradients = new Map<Value, Value>();
  const accumulate = (value: Value, term: Value) => {
    if (!isSameShape(value.shape, term.shape))
      throw new Error(`backward: ${value.name} ${formatShape(value.shape)} got ${formatShape(term.shape)}`);
    const known = gradients.get(value);
    gradients.set(value, known ? add(known, term) : term);
  };
  for (const [value, seed] of seeds) accumulate(value, seed);
  const read = makeCopying(recomputed);
  const needed = new Set<Value>([...targets, ...order.flatMap((node) => node.outputs)]);
  for (const node of order.reverse()) {
    const grads = node.outputs.map((output) => gradients.get(output) ?? null);
    if (grads.every((grad) => grad === null)) continue;
    const rule = RULES[node.op];
    if (!rule) throw new Error(`backward: no gradient rule for ${node.op}`);
    const terms = rule({ node, grads, read, turned, needs: (i) => needed.has(node.inputs[i] as Value) });
    for (const [i, input] of node.inputs.entries()) {
      const term = terms[i];
      if (input && term && needed.has(input)) accumulate(input, term);
    }
  }
  return new Map(
    targets.flatMap((target) => (gradients.has(target) ? [[target, gradients.get(target) as Value]] : [])),
  );
}

/** Makes a function that gives a copy of a value that is the first result of one of `ops`, and any other value itself. */
function makeCopying(ops: ReadonlySet<string>): RuleContext["read"] {
  const copies = new Map<Value, Value>();
  return (value) => {
    const { producer } = value;
    if (!producer || !ops.has(producer.op) || producer.outputs[0] !== value) return value;
    const copy = copies.get(value) ?? (value.graph.node({ ...producer, outputs: [value] })[0] as Value);
    copies.set(value, copy);
    return copy;
  };
}

/** Nodes that lie on a path from a target to one of `ends`, in execution order. */
function findNodesBetween(ends: readonly Value[], targets: ReadonlySet<Value>): Node[] {
  const between: Node[] = [];
  const reaches = new Map<Node, boolean>();
  const stack = ends.flatMap((end) => (end.producer ? [{ node: end.producer, expanded: false }] : [])).reverse();
  while (stack.length > 0) {
    const { node, expanded } = stack.pop() as { node: Node; expanded: boolean };
    if (reaches.has(node)) continue;
    if (!expanded) {
      stack.push({ node, expanded: true });
      for (const input of node.inputs)
        if (input?.producer && !reaches.has(input.producer)) stack.push({ node: input.producer, expanded: false });
      continue;
    }
    const hit = node.inputs.some(
      (input) => input && (targets.has(input) || (input.producer && reaches.get(input.producer))),
    );
    reaches.set(node, hit);
    if (hit) between.push(node);
  }
  return between;
}

/** Makes a gradient a graph output of this name, by a copy where two targets share one value. */
export function takeOutputGradient(gradient: Value, name: string): Value {
  const { graph } = gradient;
  const own = gradient.kind === "computed" && !graph.outputs.includes(gradient);
  return graph.output(own ? gradient : identity(gradient), name);
}
