// Op builders that move data: reshape, transpose, slice, split, concat, gather, and shapes known only at run time.
import { addDims, type Dim, dimAt, formatShape, isSameShape, multiplyDims, normalizeAxis, type Shape } from "./dims.ts";
import type { Graph, Value } from "./ir.ts";
import { cast, like, showType, single } from "./ops.ts";

/** The places where named dimensions can be read at run time: name → (value, axis). */
export type DimSources = ReadonlyMap<string, { value: Value; axis: number }>;

/** The size of an axis at run time, int64 [1]; a constant where it is static. */
export function readSize(value: Value, axis: number): Value {
  const at = normalizeAxis(axis, value.shape, "Shape");
  const dim = value.shape[at] as Dim;
  if (typeof dim === "number") return value.graph.ints([dim]);
  const attributes = { start: { int: at }, end: { int: at + 1 } };
  return value.graph.memo(`size ${value.name} ${at}`, () =>
    single({ op: "Shape", inputs: [value], dtype: "int64", shape: [1], attributes }),
  );
}

/** The size of a dimension, int64 [1]: a literal, or read where `sources` says. */
export function readDimSize(dim: Dim, sources: DimSources, graph: Graph): Value {
  if (typeof dim === "number") return graph.ints([dim]);
  const source = sources.get(dim);
  if (!source) throw new Error(`nothing tells the size of ${dim}`);
  return readSize(source.value, source.axis);
}

/** A target shape as an int64 vector, from literals and run-time sizes. */
function shapeVector(like: Value, shape: Shape, sources: DimSources): Value {
  const { graph } = like;
  if (shape.every((dim) => typeof dim === "number")) return graph.ints(shape as number[]);
  const sizes = () => shape.map((dim) => readDimSize(dim, sources, graph));
  return graph.memo(`shape [${shape.join()}]`, () => concat(sizes(), 0));
}

function elements(shape: Shape): Dim {
  return shape.reduce<Dim>(multiplyDims, 1);
}

/**
 * Reshape to `shape`. Run-time sizes are avoided where ONNX can infer them: a dimension that stays in place is written
 * 0, and a single unknown one −1.
 * @throws Error with both shapes when static element counts differ
 */
export function reshape(x: Value, shape: Shape, sources: DimSources = new Map()): Value {
  if (isSameShape(x.shape, shape)) return x;
  const [from, to] = [elements(x.shape), elements(shape)];
  if (typeof from === "number" && typeof to === "number" && from !== to)
    throw new Error(`Reshape: ${formatShape(x.shape)} has ${from} elements, ${formatShape(shape)} ${to}`);
  const literal = shape.map((dim, i) => (typeof dim === "number" ? dim : dim === x.shape[i] ? 0 : -1));
  const inferable = literal.filter((dim) => dim === -1).length <= 1;
  const target = inferable ? x.graph.ints(literal) : shapeVector(x, shape, sources);
  return single({ op: "Reshape", inputs: [x, target], dtype: x.dtype, shape });
}

/** x with its axes in another order: axis i of the result is axis perm[i] of x. */
export function transpose(x: Value, perm: readonly number[]): Value {
  if (perm.length !== x.shape.length || new Set(perm).size !== perm.length)
    throw new Error(`Transpose: [${perm.join(", ")}] is no permutation of ${formatShape(x.shape)}`);
  const shape = perm.map((axis) => dimAt(x.shape, axis, "Transpose"));
  return single({ op: "Transpose", inputs: [x], dtype: x.dtype, shape, attributes: { perm: { ints: perm } } });
}

/** The values one after another along an axis: [..., N1, ...], [..., N2, ...] → [..., N1 + N2, ...]. */
export function concat(values: readonly Value[], axis: number): Value {
  const first = values[0] as Value;
  const at = normalizeAxis(axis, first.shape, "Concat");
  const others = (shape: Shape) => shape.filter((_, i) => i !== at);
  for (const value of values)
    if (value.dtype !== first.dtype || !isSameShape(others(value.shape), others(first.shape)))
      throw new Error(`Concat: ${showType(first)} and ${showType(value)} differ outside axis ${at}`);
  return joinAs(first.shape, values, at);
}

/**
 * The same where `cache` may be empty, and of any width then: ONNX Runtime passes over an operand without elements, and
 * refuses one of another width that has some. The width, the last axis, is that of `added`.
 */
export function appendToCache(cache: Value, added: Value, axis: number): Value {
  const at = normalizeAxis(axis, added.shape, "Concat");
  const others = (shape: Shape) => shape.slice(0, -1).filter((_, i) => i !== at);
  if (cache.dtype !== added.dtype || !isSameShape(others(cache.shape), others(added.shape)))
    throw new Error(`Concat: ${showType(cache)} and ${showType(added)} differ outside axis ${at} and their width`);
  return joinAs(added.shape, [cache, added], at);
}

/** A Concat of the shape `like`, but for the axis. */
function joinAs(like: Shape, values: readonly Value[], at: number): Value {
  const first = values[0] as Value;
  const shape = [...like];
  shape[at] = values.map((value) => value.shape[at] as Dim).reduce(addDims);
  return single({ op: "Concat", inputs: values, dtype: first.dtype, shape, attributes: { axis: { int: at } } });
}

/** x[start:end] along an axis, static bounds. */
export function slice(x: Value, axis: number, start: number, end: number): Value {
  const at = normalizeAxis(axis, x.shape, "Slice");
  const size = x.shape[at] as Dim;
  if (!(start >= 0 && start < end && (typeof size === "string" || end <= size)))
    throw new Error(`Slice: ${start} to ${end} is outside axis ${at} of ${formatShape(x.shape)}`);
  const { graph } = x;
  const shape = x.shape.map((dim, i) => (i === at ? end - start : dim));
  return single({ op: "Slice", inputs: [x, ...[start, end, at].map((n) => graph.ints([n]))], dtype: x.dtype, shape });
}

/** x[:end] along an axis, for an `end` known at run time (int64 [1]); `dim` is its size. */
export function sliceTo(x: Value, axis: number, end: Value, dim: Dim): Value {
  const at = normalizeAxis(axis, x.shape, "Slice");
  if (typeof dim === "number") return slice(x, at, 0, dim);
  const { graph } = x;
  const shape = x.shape.map((own, i) => (i === at ? dim : own));
  return single({ op: "Slice", inputs: [x, graph.ints([0]), end, graph.ints([at])], dtype: x.dtype, shape });
}

/** x repeated along axes of length 1 up to `shape`, which has as many axes. */
export function expand(x: Value, shape: Shape, sources: DimSources = new Map()): Value {
  if (x.shape.length !== shape.length || x.shape.some((dim, i) => dim !== 1 && dim !== shape[i]))
    throw new Error(`Expand: ${formatShape(x.shape)} does not expand to ${formatShape(shape)}`);
  // A 1 in the target leaves an axis as it is.
  const target = shape.map((dim, i) => (dim === x.shape[i] ? 1 : dim));
  return single({ op: "Expand", inputs: [x, shapeVector(x, target, sources)], dtype: x.dtype, shape });
}

/** Zeros before and after, along an axis: the transpose of {@link slice}. */
export function padAxis(x: Value, axis: number, before: number, after: number): Value {
  const at = normalizeAxis(axis, x.shape, "Pad");
  const ends = (n: number) => x.shape.map((_, i) => (i === at ? n : 0));
  const shape = x.shape.map((dim, i) => (i === at ? addDims(addDims(before, dim), after) : dim));
  return single({ op: "Pad", inputs: [x, x.graph.ints([...ends(before), ...ends(after)])], dtype: x.dtype, shape });
}

/** Zeros of a static shape and x's dtype. */
export function zeros(x: Value, shape: Shape): Value {
  const sizes = shape.map((dim) => {
    if (typeof dim !== "number") throw new Error(`zeros: ${formatShape(shape)} is not static`);
    return dim;
  });
  return single({ op: "Expand", inputs: [like(x, 0), x.graph.ints(sizes)], dtype: x.dtype, shape });
}

/** zeros[shape] with updates[r] added at row indices[r]: indices int64 [R], updates [R, ...shape.slice(1)]. */
export function scatterRows(updates: Value, indices: Value, shape: Shape): Value {
  const rows = indices.shape[0] as Dim;
  const inputs = [zeros(updates, shape), reshape(cast(indices, "int64"), [rows, 1]), updates];
  const attributes = { reduction: { string: "add" } };
  return single({ op: "ScatterND", inputs, dtype: updates.dtype, shape, attributes });
}

/** Splits x into parts of these sizes along an axis: [..., ΣN, ...] → parts of [..., N, ...]. */
export function split(x: Value, sizes: readonly number[], axis: number): Value[] {
  const at = normalizeAxis(axis, x.shape, "Split");
  if (sizes.reduce((sum, size) => sum + size, 0) !== x.shape[at])
    throw new Error(`Split: axis ${at} of ${formatShape(x.shape)} does not divide into ${sizes.join(" + ")}`);
  const outputs = sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((dim, i) => (i === at ? size : dim)) }));
  const equal = sizes.every((size) => size === sizes[0]);
  const attributes = { axis: { int: at }, ...(equal && { num_outputs: { int: sizes.length } }) };
  return x.graph.node({ op: "Split", inputs: equal ? [x] : [x, x.graph.ints(sizes)], outputs, attributes });
}

/** Splits x into parts whose sizes along an axis are known at run time: `sizes` int64 [parts], named by `dims`. */
export function splitAt(x: Value, sizes: Value, dims: readonly Dim[], axis: number): Value[] {
  const at = normalizeAxis(axis, x.shape, "Split");
  const outputs = dims.map((dim) => ({ dtype: x.dtype, shape: x.shape.map((own, i) => (i === at ? dim : own)) }));
  return x.graph.node({ op: "Split", inputs: [x, sizes], outputs, attributes: { axis: { int: at } } });
}

/** x in parts of `size` rows, the last one of the rest. By Split, since WebGPU has no Slice of integers. */
export function cutEvenly(x: Value, size: number): Value[] {
  const count = x.shape[0] as number;
  if (size >= count) return [x];
  const sizes = Array.from({ length: Math.ceil(count / size) }, (_, i) => Math.min(size, count - i * size));
  return split(x, sizes, 0);
}

/** x[..., indices, ...] along an axis: the axis is replaced by the shape of `indices`. */
export function gather(x: Value, indices: Value, axis = 0): Value {
  const at = normalizeAxis(axis, x.shape, "Gather");
  integer("Gather", indices);
  const shape = [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)];
  return single({ op: "Gather", inputs: [x, indices], dtype: x.dtype, shape, attributes: { axis: { int: at } } });
}

/** y[.., i, ..] = x[.., indices[.., i, ..], ..]: picks along one axis, in the shape of `indices`. */
export function gatherElements(x: Value, indices: Value, axis: number): Value {
  integer("GatherElements", indices);
  const at = elementAxis("GatherElements", x.shape, indices.shape, axis);
  const attributes = { axis: { int: at } };
  return single({ op: "GatherElements", inputs: [x, indices], dtype: x.dtype, shape: indices.shape, attributes });
}

/** x with updates written at `indices` along one axis (each place at most once). */
export function scatterElements(x: Value, indices: Value, updates: Value, axis: number): Value {
  integer("ScatterElements", indices);
  const at = elementAxis("ScatterElements", x.shape, indices.shape, axis);
  if (!isSameShape(updates.shape, indices.shape))
    throw new Error(`ScatterElements: ${formatShape(updates.shape)} updates at ${formatShape(indices.shape)} places`);
  const attributes = { axis: { int: at } };
  return single({ op: "ScatterElements", inputs: [x, indices, updates], dtype: x.dtype, shape: x.shape, attributes });
}

function elementAxis(op: string, shape: Shape, indices: Shape, axis: number): number {
  const at = normalizeAxis(axis, shape, op);
  if (indices.length !== shape.length || indices.some((dim, i) => i !== at && dim !== shape[i]))
    throw new Error(`${op}: ${formatShape(indices)} does not index axis ${at} of ${formatShape(shape)}`);
  return at;
}

/** Picks x[r, indices[r]] from each row r of a matrix x [N, V]: [N]. */
export function pick(x: Value, indices: Value): Value {
  return reshape(gatherElements(x, unsqueeze(indices, [1]), 1), indices.shape);
}

/** Counts 0, 1, …, length − 1 as int64 [dim]; `length` is an int64 [1]. */
export function range(length: Value, dim: Dim): Value {
  const { graph } = length;
  const scalar = single({ op: "Squeeze", inputs: [length, graph.ints([0])], dtype: "int64", shape: [] });
  return single({ op: "Range", inputs: [graph.ints(0), scalar, graph.ints(1)], dtype: "int64", shape: [dim] });
}

/** Adds axes of length 1, positions counted in the result. */
export function unsqueeze(x: Value, axes: readonly number[]): Value {
  const shape = [...x.shape];
  for (const axis of [...axes].sort((a, b) => a - b)) shape.splice(axis, 0, 1);
  return single({ op: "Unsqueeze", inputs: [x, x.graph.ints(axes)], dtype: x.dtype, shape });
}

function integer(op: string, indices: Value): void {
  if (indices.dtype !== "int64" && indices.dtype !== "int32")
    throw new Error(`${op}: the indices ${indices.name} are ${showType(indices)}`);
}
