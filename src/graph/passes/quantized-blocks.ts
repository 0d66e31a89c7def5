// Weights in blocks of 2, 4 or 8 bits: rewrites products as MatMulNBits and embeddings as GatherBlockQuantized.
import type { Dim } from "../dims.ts";
import type { Attribute, Graph, Value } from "../ir.ts";
import { add, single } from "../ops.ts";
import { reshape } from "../shape-ops.ts";
import { castOnce, rewriteWeights, type TableStorage } from "./rewrite.ts";

/** The domain of ONNX Runtime's own ops. */
const MICROSOFT = "com.microsoft";

export type BlockBits = 2 | 4 | 8;
/** The bits of all weights, or of each by its name. */
export type BitChoice = BlockBits | ((name: string) => BlockBits);

export const chooseBits = (choice: BitChoice, name: string): BlockBits =>
  typeof choice === "function" ? choice(name) : choice;

export interface BlockFormat {
  bits: BlockBits;
  /** Inputs k that share a scale: a power of 2 from 16. */
  block: number;
  /** Whether blocks have no zero points of their own: then code 2^(bits − 1) stands for 0. */
  symmetric: boolean;
}

/** The format of a matrix in blocks along its K inputs. */
export interface MatrixFormat extends BlockFormat {
  /** The shape of the weights: [K, N], or [N, K] with `byRow` */
  shape: readonly [number, number];
  byRow: boolean;
}

/** Output channels N and inputs K of a matrix. */
export const countChannels = ({ shape: [a, b], byRow }: Pick<MatrixFormat, "shape" | "byRow">) =>
  byRow ? ([a, b] as const) : ([b, a] as const);

/** The origin of a parameter of the rewritten graph. */
interface BlockSource {
  /** The parameter of the first graph. */
  weight: Value;
  /** Its rows are the output channels: [N, K]. */
  byRow: boolean;
  bits: BlockBits;
  part: "values" | "scales" | "zeroPoints";
}

export interface BlockGraph {
  graph: Graph;
  /** Parameters that the pass added, by name; all others are those of the first graph. */
  sources: ReadonlyMap<string, BlockSource>;
}

export interface BlockOptions extends Omit<BlockFormat, "bits"> {
  bits: BitChoice;
  /** Whether a product's weight is stored in blocks; all are unless given. */
  chosen?: ((weight: Value) => boolean) | undefined;
  /** The storage of a table that is looked up. */
  tables: (table: Value) => TableStorage;
  /** 0: products in float. 4: x in int8 by block, which is faster and about half a per cent off. */
  accuracy: 0 | 4;
}

interface BlockParameters {
  bits: BlockBits;
  values: Value; // uint8 [N, ⌈K/block⌉, block·bits/8]
  scales: Value; // [N, ⌈K/block⌉]
  zeroPoints: Value | null; // uint8 [N, ⌈⌈K/block⌉·bits/8⌉]
}

/**
 * A copy of the graph in which each weight W of a product becomes `NAME/values`, `NAME/scales` and, unless symmetric,
 * `NAME/zero_points`, in the layout of MatMulNBits; a table stored "quantized" is read from the same tensors. Scales are
 * stored in float16, half a bit less a weight at block 32; the op wants them in float32, which ONNX Runtime makes once,
 * when it loads the file. Inputs and outputs keep their names.
 */
export function toBlockGraph(original: Graph, options: BlockOptions): BlockGraph {
  const sources = new Map<string, BlockSource>();
  const parameters = (graph: Graph, weight: Value, byRow: boolean): BlockParameters => {
    const [channels, inner] = countChannels({ shape: weight.shape as [number, number], byRow });
    const blocks = Math.ceil(inner / options.block);
    const bits = chooseBits(options.bits, weight.name);
    const declare = (part: BlockSource["part"], suffix: string, shape: number[], dtype: "uint8" | "float16") => {
      sources.set(`${weight.name}/${suffix}`, { weight, byRow, bits, part });
      return graph.parameter(`${weight.name}/${suffix}`, shape, dtype);
    };
    return {
      bits,
      values: declare("values", "values", [channels, blocks, (options.block * bits) / 8], "uint8"),
      scales: castOnce(declare("scales", "scales", [channels, blocks], "float16"), "float32"),
      zeroPoints: options.symmetric
        ? null
        : declare("zeroPoints", "zero_points", [channels, Math.ceil((blocks * bits) / 8)], "uint8"),
    };
  };
  const graph = rewriteWeights(original, {
    chosen: options.chosen ?? (() => true),
    tables: options.tables,
    product: ({ x, weight, c, transposed }, copy) => {
      const y = blockProduct(x, parameters(copy, weight, transposed), options); // [M, N]
      return c ? add(y, c) : y;
    },
    lookup: ({ table, rows }, copy) =>
      blockLookup(parameters(copy, table, true), rows, table.shape[1] as number, options), // [N, C]
  });
  return { graph, sources };
}

/** x·Wᵀ for x [M, K] and W [N, K] in blocks: [M, N] */
function blockProduct(x: Value, { bits, values, scales, zeroPoints }: BlockParameters, options: BlockOptions): Value {
  const [rows, inner] = x.shape as [Dim, number];
  const channels = values.shape[0] as number;
  const attributes: Record<string, Attribute> = {
    K: { int: inner },
    N: { int: channels },
    bits: { int: bits },
    block_size: { int: options.block },
    ...(options.accuracy > 0 && { accuracy_level: { int: options.accuracy } }),
  };
  return single({
    op: "MatMulNBits",
    domain: MICROSOFT,
    inputs: zeroPoints ? [x, values, scales, zeroPoints] : [x, values, scales],
    dtype: x.dtype,
    shape: [rows, channels],
    attributes,
  });
}

/** W[rows] for W [V, C] in blocks along C, which `block` must divide: [N, C] */
function blockLookup(
  { bits, values, scales, zeroPoints }: BlockParameters,
  rows: Value,
  width: number,
  { block }: Pick<BlockFormat, "block">,
): Value {
  if (width % block !== 0) throw new Error(`GatherBlockQuantized: blocks of ${block} do not divide ${width}`);
  const data = reshape(values, [values.shape[0] as number, (width * bits) / 8]); // [V, C·bits/8], the same bytes
  return single({
    op: "GatherBlockQuantized",
    domain: MICROSOFT,
    inputs: zeroPoints ? [data, rows, scales, zeroPoints] : [data, rows, scales],
    dtype: scales.dtype,
    shape: [...rows.shape, width],
    attributes: { gather_axis: { int: 0 }, quantize_axis: { int: 1 }, block_size: { int: block }, bits: { int: bits } },
  });
}
