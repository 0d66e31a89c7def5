// Gradient rules of elementwise ops; the gradient of a broadcast input is summed over the axes that it was repeated along.
import type { Value } from "../ir.ts";
import { add, cast, div, erf, exp, less, like, mul, scale, shift, sigmoid, sub, where } from "../ops.ts";
import { type Rule, unaryRule, unbroadcast, unpack } from "./rules.ts";

/** A rule for y = f(a, b): dL/da and dL/db before the sum over broadcast axes. */
function binaryRule(da: (dy: Value, a: Value, b: Value) => Value, db: (dy: Value, a: Value, b: Value) => Value): Rule {
  return (context) => {
    const { dy, inputs } = unpack(context);
    const [a, b] = inputs as [Value, Value];
    return [
      context.needs(0) ? unbroadcast(da(dy, a, b), a.shape) : null,
      context.needs(1) ? unbroadcast(db(dy, a, b), b.shape) : null,
    ];
  };
}

/** The gradient goes where the condition holds, zero elsewhere. */
const masked = (condition: Value, dy: Value) => where(condition, dy, like(dy, 0));

const COEFFICIENT = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/**
 * GELU'(x). Tanh form: y = x·s with s = σ(v), v = x·p, p = 2√(2/π)(1 + 0.044715x²); y' = s + (y − y·s)(3p − 4√(2/π)).
 * Exact form: Φ(x) + x·φ(x).
 */
function geluRule(dy: Value, x: Value, y: Value, approximate: boolean): Value {
  if (!approximate) {
    const cumulative = shift(scale(erf(scale(x, Math.SQRT1_2)), 0.5), 0.5);
    const density = scale(exp(scale(mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return mul(dy, add(cumulative, mul(x, density)));
  }
  const p = shift(scale(mul(x, x), CUBIC * COEFFICIENT), COEFFICIENT);
  const s = sigmoid(mul(x, p));
  const slope = shift(scale(p, 3), -2 * COEFFICIENT); // dv/dx
  return mul(dy, add(s, mul(sub(y, mul(y, s)), slope)));
}

export const POINTWISE_RULES: Record<string, Rule> = {
  Add: binaryRule(
    (dy) => dy,
    (dy) => dy,
  ),
  Sub: binaryRule(
    (dy) => dy,
    (dy) => scale(dy, -1),
  ),
  Mul: binaryRule(
    (dy, _, b) => mul(dy, b),
    (dy, a) => mul(dy, a),
  ),
  Div: binaryRule(
    (dy, _, b) => div(dy, b),
    (dy, a, b) => scale(div(mul(dy, a), mul(b, b)), -1),
  ),
  // On ties the first input gets the gradient.
  Max: binaryRule(
    (dy, a, b) => where(less(a, b), like(dy, 0), dy),
    (dy, a, b) => masked(less(a, b), dy),
  ),
  Min: binaryRule(
    (dy, a, b) => where(less(b, a), like(dy, 0), dy),
    (dy, a, b) => masked(less(b, a), dy),
  ),
  Where: (context) => {
    const { dy, inputs } = unpack(context);
    const [condition, a, b] = inputs as [Value, Value, Value];
    return [
      null,
      context.needs(1) ? unbroadcast(masked(condition, dy), a.shape) : null,
      context.needs(2) ? unbroadcast(where(condition, like(dy, 0), dy), b.shape) : null,
    ];
  },
  Exp: unaryRule((dy, _, y) => mul(dy, y)),
  Log: unaryRule((dy, x) => div(dy, x)),
  Relu: unaryRule((dy, x) => masked(less(like(x, 0), x), dy)),
  Tanh: unaryRule((dy, _, y) => mul(dy, sub(like(y, 1), mul(y, y)))),
  Sigmoid: unaryRule((dy, _, y) => mul(dy, sub(y, mul(y, y)))),
  Erf: unaryRule((dy, x) => mul(dy, scale(exp(scale(mul(x, x), -1)), 2 / Math.sqrt(Math.PI)))),
  Gelu: unaryRule((dy, x, y, node) => {
    const { approximate } = node.attributes;
    return geluRule(dy, x, y, approximate !== undefined && "string" in approximate && approximate.string === "tanh");
  }),
  Identity: unaryRule((dy) => dy),
  Cast: unaryRule((dy, x) => cast(dy, x.dtype)),
  // The draws depend on the shape of their input alone.
  RandomNormalLike: () => [null],
};
