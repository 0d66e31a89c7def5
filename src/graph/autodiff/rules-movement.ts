// Gradient rules of ops that move data: each moves the gradient back, which is the transpose of the movement.
import { normalizeAxis, type Shape } from "../dims.ts";
import type { Value } from "../ir.ts";
import { cast, equal, matmul } from "../ops.ts";
import { concat, padAxis, reshape, scatterElements, scatterRows, slice, transpose, zeros } from "../shape-ops.ts";
import { type Rule, type RuleContext, readIntAttribute, unaryRule, unbroadcast, unpack } from "./rules.ts";

/** Tables up to this size are summed by a product with one-hot rows, which runs on all threads; larger ones scatter. */
const ONE_HOT_LIMIT = 64;

const product = (shape: Shape) => shape.reduce<number>((total, dim) => total * (dim as number), 1);

/** y[p, i, q] = x[p, index_i, q]: dx[p, n, q] = Σ_i [index_i = n]·dy[p, i, q] */
function gatherRule(context: RuleContext): (Value | null)[] {
  const { dy, inputs } = unpack(context);
  const [x, indices] = inputs as [Value, Value];
  const axis = normalizeAxis(readIntAttribute(context.node, "axis", 0), x.shape, "Gather");
  const size = x.shape[axis] as number;
  const [before, after] = [product(x.shape.slice(0, axis)), product(x.shape.slice(axis + 1))];
  const count = product(indices.shape);
  if (size > ONE_HOT_LIMIT) {
    if (before !== 1) throw new Error(`backward: Gather on axis ${axis} of a table of ${size} entries has no rule`);
    return [reshape(scatterRows(reshape(dy, [count, after]), reshape(indices, [count]), [size, after]), x.shape)];
  }
  const oneHot = buildOneHotRows(indices, size, dy); // [I, n]
  if (after === 1) return [reshape(matmul(reshape(dy, [before, count]), oneHot), x.shape)];
  return [reshape(matmul(transpose(oneHot, [1, 0]), reshape(dy, [before, count, after])), x.shape)];
}

/** [index_i = n] in the dtype of `like`: [I, size]. All gathers with the same indices share the rows. */
function buildOneHotRows(indices: Value, size: number, like: Value): Value {
  const { graph } = indices;
  return graph.memo(`one-hot ${indices.name} ${size} ${like.dtype}`, () => {
    const columns = graph.ints(Array.from({ length: size }, (_, n) => n)); // [n]
    return cast(equal(reshape(cast(indices, "int64"), [product(indices.shape), 1]), columns), like.dtype); // [I, n]
  });
}

function concatRule({ node, grads }: RuleContext): Value[] {
  const dy = grads[0] as Value;
  const axis = readIntAttribute(node, "axis", 0);
  let start = 0;
  return node.inputs.map((input) => {
    const size = (input as Value).shape[axis] as number;
    start += size;
    return slice(dy, axis, start - size, start);
  });
}

function splitRule({ node, grads }: RuleContext): Value[] {
  const known = grads.find((grad) => grad) as Value;
  const parts = node.outputs.map((output, i) => grads[i] ?? zeros(known, output.shape));
  return [concat(parts, readIntAttribute(node, "axis", 0))];
}

function sliceRule({ node, grads }: RuleContext): Value[] {
  const [x, ...bounds] = node.inputs as Value[];
  const [start, end, axis] = bounds.map((value) => Number((value.data as BigInt64Array)[0])) as [
    number,
    number,
    number,
  ];
  return [padAxis(grads[0] as Value, axis, start, ((x as Value).shape[axis] as number) - end)];
}

/** Applies the inverse permutation. */
function transposeRule(dy: Value, node: RuleContext["node"]): Value {
  const { perm } = node.attributes as { perm: { ints: readonly number[] } };
  const inverse: number[] = [];
  for (const [to, from] of perm.ints.entries()) inverse[from] = to;
  return transpose(dy, inverse);
}

const backToShape = unaryRule((dy, x) => reshape(dy, x.shape));

export const MOVEMENT_RULES: Record<string, Rule> = {
  Reshape: backToShape,
  Unsqueeze: backToShape,
  Squeeze: backToShape,
  Transpose: unaryRule((dy, _, __, node) => transposeRule(dy, node)),
  Concat: concatRule,
  Split: splitRule,
  Slice: sliceRule,
  Pad: (context) => {
    const { dy, inputs } = unpack(context);
    const [x, pads] = inputs as [Value, Value];
    const before = [...(pads.data as BigInt64Array)].slice(0, x.shape.length).map(Number);
    const crop = (value: Value, start: number, axis: number) =>
      slice(value, axis, start, start + (x.shape[axis] as number));
    return [before.reduce(crop, dy)];
  },
  Expand: unaryRule((dy, x) => unbroadcast(dy, x.shape)),
  Gather: gatherRule,
  // The indices along the axis must differ from each other, as they do where one entry of each row is picked.
  GatherElements: (context) => {
    const { dy, inputs } = unpack(context);
    const [x, indices] = inputs as [Value, Value];
    return [scatterElements(zeros(dy, x.shape), indices, dy, readIntAttribute(context.node, "axis", 0))];
  },
};
