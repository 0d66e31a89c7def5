// Matrix products in int8: rewrites the products and embeddings of a graph, and quantizes their weights.
import { transposeInto } from "../../numeric/transpose.ts";
import type { Dim } from "../dims.ts";
import type { Graph, Value } from "../ir.ts";
import { abs, add, cast, div, like, max, mul, reduceMax, single } from "../ops.ts";
import type { TensorArray } from "../session.ts";
import { gather, transpose, unsqueeze } from "../shape-ops.ts";
import { rewriteWeights, type TableStorage } from "./rewrite.ts";

/** The largest magnitude of a weight: −128 is not used, so that the range is symmetric. */
export const INT8_LARGEST = 127;
/** The largest magnitude in seven bits: sums of two products of uint8 and int8 fit int16, as x86 without VNNI needs. */
export const INT8_REDUCED = 63;

/** A matrix with one scale an output channel: w ≈ values · scales. */
export interface Int8Matrix {
  values: Int8Array; // [K, N], or [N, K] with scales by row
  scales: Float32Array; // [N]
}

/**
 * Quantizes with one scale for each output channel: scale = max|w| / largest, values = round(w / scale). The numbers that
 * they stand for have the same scales and values.
 * @param shape of `weights`: [K, N], or [N, K] with `byRow`
 */
export function quantize(
  weights: Float32Array,
  shape: readonly number[],
  { byRow = false, largest = INT8_LARGEST }: { byRow?: boolean; largest?: number } = {},
): Int8Matrix {
  const [rows, columns] = shape as [number, number];
  const scales = new Float32Array(byRow ? rows : columns);
  const values = new Int8Array(rows * columns);
  // The largest magnitudes first.
  for (let r = 0, i = 0; r < rows; r++)
    for (let c = 0; c < columns; c++, i++) {
      const channel = byRow ? r : c;
      const magnitude = Math.abs(weights[i] as number);
      if (magnitude > (scales[channel] as number)) scales[channel] = magnitude;
    }
  // The scale of largest·scale, which float32 has rounded: from then on it stays as it is.
  for (const [i, magnitude] of scales.entries())
    scales[i] = Math.fround(Math.fround(magnitude / largest) * largest) / largest;
  for (let r = 0, i = 0; r < rows; r++)
    for (let c = 0; c < columns; c++, i++) {
      const scale = scales[byRow ? r : c] as number;
      // Equal to Math.round, whose branch costs twice the rest: quotients of float32 are 0.5 off an integer, or visibly not.
      if (scale > 0) values[i] = Math.floor((weights[i] as number) / scale + 0.5);
    }
  return { values, scales };
}

/** Turns a matrix by row [N, K] into one by column [K, N]. */
export function transposeMatrix({ values, scales }: Int8Matrix): Int8Matrix {
  const rows = scales.length;
  const columns = values.length / rows;
  return { values: transposeInto(values, rows, columns, new Int8Array(values.length)), scales };
}

/** Some rows of a matrix by row, as views. */
export function cutRows({ values, scales }: Int8Matrix, first: number, count: number): Int8Matrix {
  const columns = values.length / scales.length;
  return {
    values: values.subarray(first * columns, (first + count) * columns),
    scales: scales.subarray(first, first + count),
  };
}

/** values · scales, in the layout of the values. */
export function dequantize({ values, scales }: Int8Matrix, byRow: boolean): Float32Array {
  const columns = byRow ? values.length / scales.length : scales.length;
  const out = new Float32Array(values.length);
  for (let start = 0, row = 0; start < out.length; start += columns, row++)
    for (let c = 0; c < columns; c++)
      out[start + c] = (values[start + c] as number) * (scales[byRow ? row : c] as number);
  return out;
}

/**
 * x·W + c for x [M, K] float32: x becomes uint8 with one scale and zero point over all of it, chosen at run time. Ops of
 * ONNX alone; ONNX Runtime fuses them into one kernel, which is as fast as its own DynamicQuantizeMatMul.
 */
export function int8Product(x: Value, values: Value, scales: Value, c: Value | null = null): Value {
  const [[rows, inner], [inner2, columns]] = [x.shape, values.shape];
  if (rows === undefined || columns === undefined || inner !== inner2 || values.dtype !== "int8")
    throw new Error(`int8Product: [${x.shape}] and ${values.dtype} [${values.shape}] do not multiply`);
  const [bytes, scale, zero] = x.graph.node({
    op: "DynamicQuantizeLinear",
    inputs: [x],
    outputs: [
      { dtype: "uint8", shape: x.shape },
      { dtype: "float32", shape: [] },
      { dtype: "uint8", shape: [] },
    ],
  }) as [Value, Value, Value];
  const sums = single({ op: "MatMulInteger", inputs: [bytes, values, zero], dtype: "int32", shape: [rows, columns] });
  const product = mul(cast(sums, "float32"), mul(scale, scales)); // [M, N] · [N]
  return c ? add(product, c) : product;
}

/** The largest code of an activation by row, whose codes are uint8 with 128 for 0. */
const ROW_LARGEST = 127;
const ROW_ZERO = 128;
/** A scale that rows of zeros have instead of 0. */
const LEAST_SCALE = 1e-30;

/**
 * x·W + c for x [M, K] float32, with a scale for each row of x, so that no row's result depends on the others:
 * s_m = max_k |x_mk| / 127, y_mn = s_m·scales_n·Σ_k round(x_mk / s_m)·values_kn + c_n. Ops of ONNX alone; MatMulInteger
 * takes the zero point 128 for all rows.
 */
export function int8RowProduct(x: Value, values: Value, scales: Value, c: Value | null = null): Value {
  const [[rows, inner], [inner2, columns]] = [x.shape, values.shape];
  if (rows === undefined || columns === undefined || inner !== inner2 || values.dtype !== "int8")
    throw new Error(`int8RowProduct: [${x.shape}] and ${values.dtype} [${values.shape}] do not multiply`);
  const { graph } = x;
  const largest = reduceMax(abs(x), [-1], true); // [M, 1]
  const scale = max(mul(largest, like(x, 1 / ROW_LARGEST)), like(x, LEAST_SCALE)); // [M, 1]
  const zero = graph.constant(Uint8Array.of(ROW_ZERO), [], "uint8");
  const inputs = [div(x, scale), like(x, 1), zero];
  const bytes = single({ op: "QuantizeLinear", inputs, dtype: "uint8", shape: x.shape }); // [M, K]
  const sums = single({ op: "MatMulInteger", inputs: [bytes, values, zero], dtype: "int32", shape: [rows, columns] });
  // The scale of the rows comes last: ONNX Runtime fuses a product of both scales into MatMulIntegerToFloat, which takes
  // the first row's scale for all rows.
  const product = mul(mul(cast(sums, "float32"), scales), scale); // [M, N] · [N] · [M, 1]
  return c ? add(product, c) : product;
}

/** The origin of a parameter of the rewritten graph. */
interface Int8Source {
  /** The parameter of the first graph. */
  weight: Value;
  /** Whether the product transposes the weight, whose rows then are the output channels. */
  byRow: boolean;
  part: keyof Int8Matrix;
}

export interface Int8Graph {
  graph: Graph;
  /** Parameters that the pass added, by name; all others are those of the first graph. */
  sources: ReadonlyMap<string, Int8Source>;
}

export interface Int8Options {
  /** Whether a product's weight becomes int8; all do unless given. */
  chosen?: ((weight: Value) => boolean) | undefined;
  /** The storage of a table that is looked up; as it is unless given. */
  tables?: ((table: Value) => TableStorage) | undefined;
  /** The product; unless given, one scale for all of its activations. */
  product?: typeof int8Product | undefined;
}

/**
 * A copy of the graph in which x·W, with W a parameter that `chosen` takes, runs in int8. Each such W becomes `NAME/int8`
 * in its own layout and its scales `NAME/int8/scales` [N]; a table stored "quantized" is read from the same tensors, so
 * that a tied embedding is stored once. Inputs and outputs keep their names.
 */
export function toInt8Graph(
  original: Graph,
  { chosen = () => true, tables = () => "as it is", product = int8Product }: Int8Options = {},
): Int8Graph {
  const sources = new Map<string, Int8Source>();
  const parts = (graph: Graph, weight: Value, byRow: boolean): [values: Value, scales: Value] => {
    const name = `${weight.name}/int8`;
    sources.set(name, { weight, byRow, part: "values" });
    sources.set(`${name}/scales`, { weight, byRow, part: "scales" });
    const values = graph.parameter(name, weight.shape, "int8");
    return [values, graph.parameter(`${name}/scales`, [weight.shape[byRow ? 0 : 1] as Dim])];
  };
  const graph = rewriteWeights(original, {
    chosen,
    tables,
    product: ({ x, weight, c, transposed }, copy) => {
      const [values, scales] = parts(copy, weight, transposed); // [K, N] or [N, K], [N]
      return product(x, transposed ? transpose(values, [1, 0]) : values, scales, c); // [M, N]
    },
    lookup: ({ table, rows }, copy) => {
      const [values, scales] = parts(copy, table, true); // [V, C], [V]
      const picked = cast(gather(values, rows), "float32"); // [N, C]
      return mul(picked, unsqueeze(gather(scales, rows), [rows.shape.length])); // [N, C]
    },
  });
  return { graph, sources };
}

/** The values of the parameters that the pass added; each weight is quantized once. */
export async function quantizeWeights(
  { sources }: Int8Graph,
  read: (name: string) => Promise<Float32Array>,
): Promise<Map<string, TensorArray>> {
  const weights = new Map<string, TensorArray>();
  const matrices = new Map<string, Int8Matrix>();
  for (const [name, { weight, byRow, part }] of sources) {
    const matrix = matrices.get(weight.name) ?? quantize(await read(weight.name), weight.shape as number[], { byRow });
    matrices.set(weight.name, matrix);
    weights.set(name, matrix[part]);
  }
  return weights;
}
