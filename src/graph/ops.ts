// Op builders for arithmetic, products, reductions and neural-network ops: each infers its result's dtype and shape.
import { broadcastShapes, type Dim, dimAt, formatShape, isSameShape, normalizeAxis, type Shape } from "./dims.ts";
import type { Attribute, GraphDtype, Value } from "./ir.ts";

const FLOATS: readonly GraphDtype[] = ["float32", "float64", "float16"];

/** A value's dtype and shape, for messages. */
export function showType({ dtype, shape }: Value): string {
  return `${dtype} ${formatShape(shape)}`;
}

function sameDtype(op: string, a: Value, b: Value): void {
  if (a.dtype !== b.dtype) throw new Error(`${op}: ${a.name} is ${showType(a)}, ${b.name} ${showType(b)}`);
}

function float(op: string, x: Value): void {
  if (!FLOATS.includes(x.dtype)) throw new Error(`${op}: ${x.name} is ${showType(x)}, not a float`);
}

export interface SingleOp {
  op: string;
  inputs: readonly (Value | null)[];
  dtype: GraphDtype;
  shape: Shape;
  attributes?: Record<string, Attribute> | undefined;
  domain?: string | undefined;
}

/** A node with one output. */
export function single({ dtype, shape, ...spec }: SingleOp): Value {
  const graph = (spec.inputs.find((input) => input) as Value).graph;
  return graph.node({ ...spec, outputs: [{ dtype, shape }] })[0] as Value;
}

function binary(op: string, a: Value, b: Value, dtype?: GraphDtype): Value {
  sameDtype(op, a, b);
  return single({ op, inputs: [a, b], dtype: dtype ?? a.dtype, shape: broadcastShapes(a.shape, b.shape, op) });
}

function unary(op: string, x: Value, attributes?: Record<string, Attribute>): Value {
  return single({ op, inputs: [x], dtype: x.dtype, shape: x.shape, attributes });
}

export const add = (a: Value, b: Value) => binary("Add", a, b);
export const sub = (a: Value, b: Value) => binary("Sub", a, b);
export const mul = (a: Value, b: Value) => binary("Mul", a, b);
export const div = (a: Value, b: Value) => binary("Div", a, b);
export const min = (a: Value, b: Value) => binary("Min", a, b);
export const max = (a: Value, b: Value) => binary("Max", a, b);
export const equal = (a: Value, b: Value) => binary("Equal", a, b, "bool");
export const less = (a: Value, b: Value) => binary("Less", a, b, "bool");
export const and = (a: Value, b: Value) => binary("And", a, b);
export const exp = (x: Value) => unary("Exp", x);
export const log = (x: Value) => unary("Log", x);
export const abs = (x: Value) => unary("Abs", x);
export const erf = (x: Value) => unary("Erf", x);
export const identity = (x: Value) => unary("Identity", x);
export const relu = (x: Value) => unary("Relu", x);
export const tanh = (x: Value) => unary("Tanh", x);
export const sigmoid = (x: Value) => unary("Sigmoid", x);

/** GELU(x) = x·Φ(x); "tanh" is GPT-2's approximation ½x(1 + tanh(√(2/π)(x + 0.044715x³))), "none" the exact erf form. */
export const gelu = (x: Value, approximate: "tanh" | "none") =>
  unary("Gelu", x, { approximate: { string: approximate } });

/** A literal of x's dtype. */
export function like(x: Value, value: number): Value {
  if (x.dtype !== "float32" && x.dtype !== "float64") throw new Error(`scalar ${value}: ${x.name} is ${x.dtype}`);
  return x.graph.scalar(value, x.dtype);
}

/** x · s with a literal s. */
export function scale(x: Value, factor: number): Value {
  return factor === 1 ? x : mul(x, like(x, factor));
}

/** x + s with a literal s. */
export function shift(x: Value, term: number): Value {
  return add(x, like(x, term));
}

/** condition ? a : b, the three broadcast to one shape. */
export function where(condition: Value, a: Value, b: Value): Value {
  sameDtype("Where", a, b);
  if (condition.dtype !== "bool") throw new Error(`Where: the condition ${condition.name} is ${condition.dtype}`);
  const shape = broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape, "Where"), "Where");
  return single({ op: "Where", inputs: [condition, a, b], dtype: a.dtype, shape });
}

export function cast(x: Value, dtype: GraphDtype): Value {
  if (x.dtype === dtype) return x;
  const to = { int: ONNX_DATA_TYPE[dtype] };
  return single({ op: "Cast", inputs: [x], dtype, shape: x.shape, attributes: { to } });
}

/** onnx.TensorProto.DataType. */
export const ONNX_DATA_TYPE: Record<GraphDtype, number> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

/** [..., M, K] · [..., K, N] → [..., M, N], batch dimensions broadcast. */
export function matmul(a: Value, b: Value): Value {
  sameDtype("MatMul", a, b);
  if (a.shape.length < 2 || b.shape.length < 2 || dimAt(a.shape, -1) !== dimAt(b.shape, -2))
    throw new Error(`MatMul: ${formatShape(a.shape)} and ${formatShape(b.shape)} do not multiply`);
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), "MatMul");
  const shape = [...batch, dimAt(a.shape, -2), dimAt(b.shape, -1)];
  return single({ op: "MatMul", inputs: [a, b], dtype: a.dtype, shape });
}

/** α·op(a)·op(b) + c: [M, K] · [K, N] → [M, N] after op, which transposes when asked; c is broadcast to the result. */
export function gemm(
  a: Value,
  b: Value,
  { c, transA, transB, alpha = 1 }: { c?: Value | null; transA?: boolean; transB?: boolean; alpha?: number } = {},
): Value {
  sameDtype("Gemm", a, b);
  const [m, k] = transA ? [a.shape[1], a.shape[0]] : a.shape;
  const [k2, n] = transB ? [b.shape[1], b.shape[0]] : b.shape;
  if (a.shape.length !== 2 || b.shape.length !== 2 || k !== k2)
    throw new Error(`Gemm: ${showOperand(a, transA)} and ${showOperand(b, transB)} do not multiply`);
  const shape = [m as Dim, n as Dim];
  if (c && !isSameShape(broadcastShapes(c.shape, shape, "Gemm"), shape))
    throw new Error(`Gemm: C ${formatShape(c.shape)} does not broadcast to ${formatShape(shape)}`);
  const attributes: Record<string, Attribute> = {};
  if (transA) attributes.transA = { int: 1 };
  if (transB) attributes.transB = { int: 1 };
  if (alpha !== 1) attributes.alpha = { float: alpha };
  return single({ op: "Gemm", inputs: c ? [a, b, c] : [a, b], dtype: a.dtype, shape, attributes });
}

/** A product that stays in float32 where others are computed in fewer bits. */
export function markExact(product: Value): Value {
  product.graph.exact.add(product);
  return product;
}

const showOperand = ({ shape }: Value, transposed = false) => `${formatShape(shape)}${transposed ? "ᵀ" : ""}`;

/** e^x / Σ e^x along an axis, in the shape of x. */
export function softmax(x: Value, axis = -1): Value {
  float("Softmax", x);
  normalizeAxis(axis, x.shape, "Softmax");
  return unary("Softmax", x, { axis: { int: axis } });
}

/** x − ln Σ e^x along an axis, in the shape of x. */
export function logSoftmax(x: Value, axis = -1): Value {
  float("LogSoftmax", x);
  normalizeAxis(axis, x.shape, "LogSoftmax");
  return unary("LogSoftmax", x, { axis: { int: axis } });
}

/** (x − mean)/√(var + ε)·weight + bias over the last axis: [..., C] → [..., C]. */
export function layerNorm(x: Value, weight: Value, bias: Value | null, epsilon: number): Value {
  float("LayerNormalization", x);
  const last = [dimAt(x.shape, -1)];
  for (const p of [weight, bias])
    if (p && !isSameShape(p.shape, last))
      throw new Error(`LayerNormalization: ${p.name} ${formatShape(p.shape)} does not fit ${formatShape(x.shape)}`);
  const inputs = bias ? [x, weight, bias] : [x, weight];
  const attributes = { axis: { int: -1 }, epsilon: { float: epsilon } };
  return single({ op: "LayerNormalization", inputs, dtype: x.dtype, shape: x.shape, attributes });
}

function reduce(op: string, x: Value, axes: readonly number[], keepdims: boolean): Value {
  const reduced = new Set(axes.map((axis) => normalizeAxis(axis, x.shape, op)));
  const shape = x.shape.flatMap((dim, i) => (reduced.has(i) ? (keepdims ? [1] : []) : [dim]));
  const attributes = { keepdims: { int: keepdims ? 1 : 0 } };
  return single({ op, inputs: [x, x.graph.ints([...reduced])], dtype: x.dtype, shape, attributes });
}

export const reduceSum = (x: Value, axes: readonly number[], keepdims = false) =>
  reduce("ReduceSum", x, axes, keepdims);
export const reduceMax = (x: Value, axes: readonly number[], keepdims = false) =>
  reduce("ReduceMax", x, axes, keepdims);

/** ln Σ e^x, without overflow. */
export const reduceLogSumExp = (x: Value, axes: readonly number[], keepdims = false) =>
  reduce("ReduceLogSumExp", x, axes, keepdims);

/** Index of the largest entry along an axis, the first one on ties: int64 without that axis. */
export function argMax(x: Value, axis = -1): Value {
  const at = normalizeAxis(axis, x.shape, "ArgMax");
  const shape = x.shape.filter((_, i) => i !== at);
  const attributes = { axis: { int: at }, keepdims: { int: 0 } };
  return single({ op: "ArgMax", inputs: [x], dtype: "int64", shape, attributes });
}

/** Standard normal draws, one an entry of `like`; ONNX Runtime's generator advances with each run. */
export function randomNormalLike(like: Value, seed: number): Value {
  float("RandomNormalLike", like);
  return unary("RandomNormalLike", like, { mean: { float: 0 }, scale: { float: 1 }, seed: { float: seed } });
}
