// Gradient rules of softmax, log-softmax and layer normalization.
import { dimAt, normalizeAxis } from "../dims.ts";
import type { Node, Value } from "../ir.ts";
import { add, cast, exp, matmul, mul, reduceSum, scale, sub } from "../ops.ts";
import { reshape } from "../shape-ops.ts";
import { type Rule, type RuleContext, readIntAttribute, unaryRule, unbroadcast, unpack } from "./rules.ts";

/**
 * y = (x − mean)·r·g + b with r = 1/√(var + ε), x̂ = (x − mean)·r over the last axis of C entries:
 * dx = r·(dy∘g − (Σ dy∘g)/C − x̂·(Σ dy∘x̂∘g)/C), dg = Σ dy∘x̂, db = Σ dy. The sums over C are products with the column
 * g/C, which the runtime does faster than a reduction.
 */
function layerNormRule(context: RuleContext): (Value | null)[] {
  const { node, needs } = context;
  const { dy, inputs } = unpack(context);
  const [x, g, b] = inputs as [Value, Value, Value | undefined];
  const width = dimAt(x.shape, -1) as number;
  const perRow = [...x.shape.slice(0, -1), 1];
  const statistics = { dtype: "float32", shape: perRow } as const; // for any dtype of x (stash_type)
  const outputs = node.outputs.length > 1 ? node.outputs.slice(1) : x.graph.extend(node, [statistics, statistics]);
  const [mean, inverse] = outputs.map((value) => cast(value, x.dtype)) as [Value, Value];
  const normalized = mul(sub(x, mean), inverse); // x̂: [..., C]
  const weighted = mul(dy, normalized); // dy∘x̂: [..., C]
  const column = scale(reshape(g, [width, 1]), 1 / width); // [C, 1]
  const dx = () => {
    const projected = add(mul(normalized, matmul(weighted, column)), matmul(dy, column)); // [..., C]
    return mul(sub(mul(dy, g), projected), inverse);
  };
  return [
    needs(0) ? dx() : null,
    needs(1) ? unbroadcast(weighted, g.shape) : null,
    b && needs(2) ? unbroadcast(dy, b.shape) : null,
  ];
}

const readAxis = (node: Node, x: Value) => normalizeAxis(readIntAttribute(node, "axis", -1), x.shape, "Softmax");

export const NETWORK_RULES: Record<string, Rule> = {
  LayerNormalization: layerNormRule,
  // p = softmax(x): dx = p∘(dp − Σ dp∘p)
  Softmax: unaryRule((dy, x, y, node) => mul(y, sub(dy, reduceSum(mul(dy, y), [readAxis(node, x)], true)))),
  // l = log softmax(x): dx = dl − softmax(x)·Σ dl
  LogSoftmax: unaryRule((dy, x, y, node) => sub(dy, mul(exp(y), reduceSum(dy, [readAxis(node, x)], true)))),
};
