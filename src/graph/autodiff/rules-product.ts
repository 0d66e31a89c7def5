// Gradient rules of matrix products and sums.
import { normalizeAxis } from "../dims.ts";
import type { Value } from "../ir.ts";
import { gemm, matmul } from "../ops.ts";
import { expand, reshape, transpose } from "../shape-ops.ts";
import { type Rule, type RuleContext, readIntAttribute, unbroadcast, unpack } from "./rules.ts";

/** Swaps the last two axes: [..., M, K] → [..., K, M]. ONNX Runtime folds it into the product that follows. */
function swap(x: Value): Value {
  const last = x.shape.length - 1;
  return transpose(
    x,
    x.shape.map((_, i) => (i === last ? last - 1 : i === last - 1 ? last : i)),
  );
}

/** Y = A·B: dA = dY·Bᵀ, dB = Aᵀ·dY. */
function matmulRule(context: RuleContext): (Value | null)[] {
  const { dy, inputs } = unpack(context);
  const [a, b] = inputs as [Value, Value];
  return [
    context.needs(0) ? unbroadcast(matmul(dy, swap(b)), a.shape) : null,
    context.needs(1) ? unbroadcast(matmul(swap(a), dy), b.shape) : null,
  ];
}

/** Y = α·op(A)·op(B) + C: d op(A) = α·dY·op(B)ᵀ, d op(B) = α·op(A)ᵀ·dY, dC = dY summed over what was broadcast. */
function gemmRule(context: RuleContext): (Value | null)[] {
  const { dy, inputs } = unpack(context);
  const [a, b, c] = inputs as [Value, Value, Value | undefined];
  const transA = readIntAttribute(context.node, "transA", 0) === 1;
  const transB = readIntAttribute(context.node, "transB", 0) === 1;
  const { alpha: attribute } = context.node.attributes;
  const alpha = attribute && "float" in attribute ? attribute.float : 1;
  const product = (x: Value, y: Value, transX: boolean, transY: boolean) => {
    const turned = transX && context.turned;
    return gemm(turned ? transpose(x, [1, 0]) : x, y, { transA: transX && !turned, transB: transY, alpha });
  };
  return [
    context.needs(0) ? (transA ? product(b, dy, transB, true) : product(dy, b, false, !transB)) : null,
    context.needs(1) ? (transB ? product(dy, a, true, transA) : product(a, dy, !transA, false)) : null,
    c && context.needs(2) ? unbroadcast(dy, c.shape) : null,
  ];
}

/** y = Σ x over the axes: dx = dy, repeated along the summed axes. */
function reduceSumRule({ node, grads }: RuleContext): (Value | null)[] {
  const dy = grads[0] as Value;
  const [x, axes] = node.inputs as [Value, Value];
  const summed = new Set(
    [...(axes.data as BigInt64Array)].map((axis) => normalizeAxis(Number(axis), x.shape, "ReduceSum")),
  );
  const kept = reshape(
    dy,
    x.shape.map((dim, i) => (summed.has(i) ? 1 : dim)),
  );
  return [expand(kept, x.shape)];
}

export const PRODUCT_RULES: Record<string, Rule> = { MatMul: matmulRule, Gemm: gemmRule, ReduceSum: reduceSumRule };
