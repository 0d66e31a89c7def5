// Products in float16 for training: parameters, sums, norms, losses and whatever else is computed stay in float32.
import type { Graph, Node, Value } from "../ir.ts";
import { add, cast, gemm, matmul, reduceSum, single } from "../ops.ts";
import { reshape, transpose } from "../shape-ops.ts";
import { computeIn, lowerNode } from "./half.ts";
import { castOnce, type Rewrite, rewriteGraph } from "./rewrite.ts";

/** Terms of a sum that is kept in float16: WebGPU's kernels add up in the dtype of the operands. */
const MAX_TERMS = 1024;
/** Pieces that a longer sum is cut into; beyond them, what is saved on products goes to their sums. */
const MAX_PIECES = 16;
/** Elements of the partial sums of a product: 128 MiB in float32, the least that every adapter binds as one buffer. */
const MAX_ELEMENTS = 32 * 2 ** 20;

interface HalfProductOptions {
  /**
   * For the CPU, where ONNX Runtime leaves out a cast to float16 that one back follows, so that nothing would be rounded:
   * an op stands between the two.
   */
  keepCasts?: boolean | undefined;
}

/**
 * A copy of the graph whose products take float16 and give it. Both are rounded to 11 bits; what reads a result adds it
 * up in float32. Each value is cast once. These products stay in float32: those of `graph.exact`, those with a vector or
 * with a matrix of zeros and ones, which are sums, and those whose terms cannot be cut into a few equal pieces.
 */
export function toHalfProducts(original: Graph, { keepCasts = false }: HalfProductOptions = {}): Graph {
  const dtypes = new Map(original.outputs.map(({ name, dtype }) => [name, dtype]));
  const round = keepCasts ? stopCasts : (value: Value) => value;
  return rewriteGraph(
    original,
    (node, rewrite) => {
      const product = readProduct(node);
      if (!product) return lowerNode(node, rewrite, () => false);
      const pieces = original.exact.has(node.outputs[0] as Value) ? null : planPieces(product);
      return pieces === null ? computeIn("float32", node, rewrite) : [lowerProduct(product, pieces, rewrite, round)];
    },
    { output: (copy, name) => castOnce(copy, dtypes.get(name) ?? copy.dtype) },
  );
}

/** op(a)·op(b) + c */
interface Product {
  batched: boolean;
  a: Value;
  b: Value;
  c: Value | null;
  transA: boolean;
  transB: boolean;
  result: Value;
}

/** A product of floats; null for any other node, and for one with a factor. */
function readProduct({ op, inputs, outputs, attributes }: Node): Product | null {
  const [a, b, c = null] = inputs;
  if ((op !== "Gemm" && op !== "MatMul") || attributes.alpha || !a || !b || a.dtype !== "float32") return null;
  const [transA, transB] = [attributes.transA !== undefined, attributes.transB !== undefined];
  return { batched: op === "MatMul", a, b, c, transA, transB, result: outputs[0] as Value };
}

/** Into how many pieces the sums of a product are cut: 1 for none; null where the product stays in float32. */
function planPieces({ a, b, transA, result }: Product): number | null {
  const terms = a.shape.at(transA ? -2 : -1);
  if (typeof terms !== "number" || [terms, ...result.shape.slice(-2)].includes(1) || isMask(a) || isMask(b))
    return null;
  let pieces = 1;
  while (pieces <= MAX_PIECES && (terms / pieces > MAX_TERMS || terms % pieces !== 0)) pieces++;
  if (pieces === 1) return 1;
  if (pieces > MAX_PIECES || result.shape.length !== 2) return null;
  const elements = result.shape.reduce<number>((size, dim) => size * Number(dim), pieces);
  return elements <= MAX_ELEMENTS ? pieces : null;
}

/** Zeros and ones: what multiplies with them is added up. */
function isMask({ producer }: Value): boolean {
  return producer?.op === "Cast" && producer.inputs[0]?.dtype === "bool";
}

function lowerProduct(product: Product, pieces: number, { of }: Rewrite, round: (value: Value) => Value): Value {
  const { transA, transB, c } = product;
  const half = (value: Value) => toHalf(of(value), round);
  const [a, b] = [half(product.a), half(product.b)];
  if (pieces > 1) return addTerm(sumPieces(a, b, { transA, transB, pieces, round }), c && of(c));
  if (product.batched) return round(matmul(a, b)); // [..., M, N]
  // A vector of biases is added within the product, which is rounded in any case; a sum of gradients is not.
  const bias = c?.shape.length === 1 ? half(c) : null;
  const result = round(gemm(a, b, { c: bias, transA, transB })); // [M, N]
  return bias ? result : addTerm(result, c && of(c));
}

/** A value in float16. What is transposed is cast before, as a product may read it the other way round as well. */
function toHalf(value: Value, round: (value: Value) => Value): Value {
  if (value.dtype === "float16") return value;
  const { graph, producer, shape } = value;
  return graph.memo(`half ${value.name}`, () => {
    if (producer?.op !== "Transpose") return round(cast(value, "float16"));
    const inputs = [toHalf(producer.inputs[0] as Value, round)];
    return graph.node({ ...producer, inputs, outputs: [{ dtype: "float16", shape }] })[0] as Value;
  });
}

const addTerm = (product: Value, term: Value | null) =>
  term ? add(castOnce(product, "float32"), castOnce(term, "float32")) : product;

/** Σ_p A_p·B_p, each of the P products in float16 and their sum in float32: [M, K] · [K, N] after op → [M, N] */
function sumPieces(
  a: Value,
  b: Value,
  { transA, transB, pieces, round }: { transA: boolean; transB: boolean; pieces: number; round(value: Value): Value },
): Value {
  const rows = cutTerms(a, transA ? 0 : 1, pieces); // [P, K/P, M] or [M, P, K/P]
  const columns = cutTerms(b, transB ? 1 : 0, pieces); // [N, P, K/P] or [P, K/P, N]
  const parts = matmul(
    transpose(rows, transA ? [0, 2, 1] : [1, 0, 2]), // [P, M, K/P]
    transB ? transpose(columns, [1, 2, 0]) : columns, // [P, K/P, N]
  ); // [P, M, N]
  return reduceSum(castOnce(round(parts), "float32"), [0]);
}

/** An axis of K as two, of P and K/P. */
function cutTerms(matrix: Value, axis: number, pieces: number): Value {
  const shape = matrix.shape.flatMap((dim, i) => (i === axis ? [pieces, Number(dim) / pieces] : [Number(dim)]));
  return reshape(matrix, shape);
}

/** The value itself, by an op that ONNX Runtime does not see through: the largest of one. */
function stopCasts(value: Value): Value {
  return single({ op: "Max", inputs: [value], dtype: value.dtype, shape: value.shape });
}
