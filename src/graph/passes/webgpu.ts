// Rewrites a graph for WebGPU, which has no int64 arithmetic: int64 becomes int32, and ops that it lacks become others.
import { readIntAttribute } from "../autodiff/rules.ts";
import { normalizeAxis } from "../dims.ts";
import type { Graph, Node, Value } from "../ir.ts";
import { add, cast, equal, exp, log, reduceMax, reduceSum, sub, where } from "../ops.ts";
import { split, transpose } from "../shape-ops.ts";
import { castOnce, type NodeRule, type Rewrite, rewriteGraph } from "./rewrite.ts";

/**
 * The graph as ONNX Runtime's WebGPU provider runs it without help from the CPU. Inputs of int64 become int32, which the
 * session feeds; outputs keep their dtypes. What is computed from the sizes that Shape gives alone stays in int64, since
 * the host computes it, as do the places that TopK gives.
 */
export function toWebGpuGraph(original: Graph): Graph {
  const int64Outputs = new Set(original.outputs.filter(({ dtype }) => dtype === "int64").map(({ name }) => name));
  return rewriteGraph(original, lowerNode, {
    dtypeOf: ({ dtype }) => (dtype === "int64" ? "int32" : dtype),
    output: (copy, name) => (int64Outputs.has(name) ? cast(copy, "int64") : copy),
  });
}

/** A node in int32, or with other ops; see `toWebGpuGraph`. */
export const lowerNode: NodeRule = (node, rewrite) => RULES[node.op]?.(node, rewrite) ?? copyNarrowed(node, rewrite);

/** Which inputs of a node, by place, ONNX wants in int64 (sizes, axes, places), and which it takes in either width. */
type Slot = "int64" | "either" | "data";
const SLOTS: Readonly<Record<string, readonly Slot[]>> = {
  CumSum: ["data", "either"],
  Expand: ["data", "int64"],
  Gather: ["data", "either"],
  GatherElements: ["data", "either"],
  Pad: ["data", "int64"],
  Reshape: ["data", "int64"],
  ScatterElements: ["data", "either", "data"],
  ScatterND: ["data", "int64", "data"],
  Slice: ["data", "int64", "int64", "int64", "int64"],
  Split: ["data", "int64"],
  Squeeze: ["data", "int64"],
  TopK: ["data", "int64"],
  Unsqueeze: ["data", "int64"],
};
const REDUCTION: readonly Slot[] = ["data", "int64"];

function findSlot(op: string, place: number): Slot {
  return (op.startsWith("Reduce") ? REDUCTION : SLOTS[op])?.[place] ?? "data";
}

/** Copies a node with int32 in place of int64, or as it is where all its data is int64 still, as sizes are. */
function copyNarrowed(node: Node, { graph, of }: Rewrite): Value[] {
  const inputs = node.inputs.map((value, place) => ({ copy: value && of(value), slot: findSlot(node.op, place) }));
  const onDevice = inputs.some(({ copy, slot }) => copy && slot !== "int64" && copy.dtype !== "int64");
  // A Range that feeds the device begins there: its three numbers come from the host, its result would not.
  const narrow = onDevice || node.op === "Range";
  const fit = ({ copy, slot }: { copy: Value | null; slot: Slot }) => {
    if (slot === "int64" && copy?.dtype === "int32") return castOnce(copy, "int64");
    return copy && slot === "data" && narrow ? toInt32(copy) : copy;
  };
  const integers = node.inputs.some((value, i) => value?.dtype === "int64" && inputs[i]?.slot === "data");
  const outputs = node.outputs.map(({ dtype, shape }) => ({
    dtype: dtype === "int64" && narrow && integers ? ("int32" as const) : dtype,
    shape,
  }));
  return graph.node({ ...node, inputs: inputs.map(fit), outputs });
}

/** An int64 value in int32, a constant as another constant; any other value as it is. */
function toInt32(value: Value): Value {
  if (value.dtype !== "int64") return value;
  if (!value.data) return castOnce(value, "int32");
  const data = narrowIntegers(value.data as BigInt64Array, value.name);
  return value.graph.constant(data, value.shape as number[], "int32");
}

/** The numbers in int32. @throws Error for one that it does not hold, with the name of the tensor */
export function narrowIntegers(values: BigInt64Array, name: string): Int32Array {
  return Int32Array.from(values, (value) => {
    if (value !== BigInt.asIntN(32, value))
      throw new Error(`${name}: ${value} is no 32-bit integer, and WebGPU has no others`);
    return Number(value);
  });
}

/** Rows of a product from which it pays to turn the matrix on its right. */
const ROWS_TO_TURN_FOR = 64;

/** x·Wᵀ + c of many rows as a product with the turned matrix, which all products with it share; null for any other. */
function turnRightSide({ op, inputs, outputs, attributes }: Node, { graph, of }: Rewrite): Value[] | null {
  const { transB, ...kept } = attributes;
  const [a, b, c] = inputs.map((value) => value && of(value)) as [Value, Value, Value | null | undefined];
  const rows = a.shape[kept.transA ? 1 : 0];
  if (!transB || typeof rows !== "number" || rows < ROWS_TO_TURN_FOR) return null;
  const turned = graph.memo(`turned ${b.name}`, () => transpose(b, [1, 0]));
  return graph.node({ op, inputs: c ? [a, turned, c] : [a, turned], attributes: kept, outputs: [...outputs] });
}

/** Tensors that one program reads and writes: the least that WebGPU has is 8, one of which is what a Split reads. */
const PARTS_AT_ONCE = 7;

/** A Split into many parts as a tree of those into few. */
function splitInTree(node: Node, { of }: Rewrite): Value[] | null {
  const axis = readIntAttribute(node, "axis", 0);
  const sizes = node.outputs.map(({ shape }) => shape[axis]);
  if (sizes.length <= PARTS_AT_ONCE || !sizes.every((size) => typeof size === "number")) return null;
  return splitTree(of(node.inputs[0] as Value), sizes, axis);
}

function splitTree(x: Value, sizes: readonly number[], axis: number): Value[] {
  if (sizes.length <= PARTS_AT_ONCE) return sizes.length === 1 ? [x] : split(x, sizes, axis);
  const count = Math.ceil(sizes.length / PARTS_AT_ONCE);
  const parts = Array.from({ length: PARTS_AT_ONCE }, (_, i) => sizes.slice(i * count, (i + 1) * count));
  const filled = parts.filter((part) => part.length > 0);
  const totals = filled.map((part) => part.reduce((a, b) => a + b, 0));
  return split(x, totals, axis).flatMap((part, i) => splitTree(part, filled[i] as number[], axis));
}

/** Ops that WebGPU lacks, computes wrongly or slowly, and those whose result is int64 whatever they read. */
const RULES: Readonly<Record<string, NodeRule>> = {
  Shape: (node, { graph, of }) =>
    graph.node({ ...node, inputs: node.inputs.map((x) => x && of(x)), outputs: [...node.outputs] }),
  Cast: ({ inputs, outputs }, { of }) =>
    outputs[0]?.dtype === "int64" ? [cast(of(inputs[0] as Value), "int32")] : null,
  Gemm: turnRightSide,
  Split: splitInTree,
  // x − ln Σ e^x
  LogSoftmax: (node, { of }) => {
    const { centered, logSum } = sumExponentials(
      of(node.inputs[0] as Value),
      [readIntAttribute(node, "axis", -1)],
      true,
    );
    return [sub(centered, logSum)];
  },
  // max x + ln Σ e^(x − max x). The device's own sums e^x, which overflows above x = 88 and vanishes below −88.
  ReduceLogSumExp: (node, { of }) => {
    const [x, axes] = node.inputs as [Value, Value];
    const keepdims = readIntAttribute(node, "keepdims", 1) === 1;
    const places = [...(axes.data as BigInt64Array)].map(Number);
    return [add(reduceMax(of(x), places, keepdims), sumExponentials(of(x), places, keepdims).logSum)];
  },
  ArgMax: (node, { of }) => {
    const x = of(node.inputs[0] as Value);
    const axis = normalizeAxis(readIntAttribute(node, "axis", 0), x.shape, "ArgMax");
    const size = x.shape[axis];
    return axis === x.shape.length - 1 && typeof size === "number" ? [firstOfLargest(x, size)] : null;
  },
};

/** x − max x and ln Σ e^(x − max x), without overflow. */
function sumExponentials(x: Value, axes: readonly number[], keepdims: boolean): { centered: Value; logSum: Value } {
  const centered = sub(x, reduceMax(x, axes, true));
  return { centered, logSum: log(reduceSum(exp(centered), axes, keepdims)) };
}

/**
 * The place of the largest of each row, the first one on ties, in int32: V − max_j (V − j)·[x_j = max x], and V for a row
 * that has NaN: [..., V] → [...]
 */
function firstOfLargest(x: Value, size: number): Value {
  const { graph } = x;
  const int32 = (values: Int32Array, shape: readonly number[]) => graph.constant(values, shape, "int32");
  const largest = equal(x, reduceMax(x, [-1], true)); // [..., V]
  const fromEnd = int32(
    Int32Array.from({ length: size }, (_, j) => size - j),
    [size],
  );
  const marked = where(largest, fromEnd, int32(Int32Array.of(0), [])); // [..., V]
  return sub(int32(Int32Array.of(size), []), reduceMax(marked, [-1]));
}
