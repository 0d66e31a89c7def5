// Builds the graph of an export in some precision: which weights are stored in which form, without reading any.
import type { Graph, Value } from "../graph/ir.ts";
import { toBrowserGraph } from "../graph/passes/browser.ts";
import { toHalfGraph } from "../graph/passes/half.ts";
import { int8RowProduct, toInt8Graph } from "../graph/passes/int8.ts";
import { type BlockBits, toBlockGraph } from "../graph/passes/quantized-blocks.ts";
import type { TableStorage } from "../graph/passes/rewrite.ts";
import type { NoiseMode } from "./attention.ts";
import { buildExportGraph } from "./classifier-graph.ts";
import type { ModelConfig } from "./config.ts";
import { SCORE } from "./parameters.ts";
import { isHalf, type Precision } from "./precision.ts";
import { chooseBlockBits, hasBlocks, type Quantization } from "./quantization.ts";

/** The origin of a parameter that the precision has added: a part of the quantized form of a weight. */
export interface QuantizedSource {
  weight: Value;
  /** Its rows are the output channels. */
  byRow: boolean;
  part: string;
  /** Those of a code, where the weight is stored in blocks. */
  bits?: BlockBits | undefined;
}

export interface PrecisionGraph {
  graph: Graph;
  /** The parameters of quantized weights, by name; all others are the model's own. */
  sources: ReadonlyMap<string, QuantizedSource>;
}

export function buildPrecisionGraph(
  config: ModelConfig,
  precision: Precision,
  { noise, quantization }: { noise: NoiseMode; quantization: Quantization },
): PrecisionGraph {
  return lowerToPrecision(toBrowserGraph(buildExportGraph(config, noise), ["attention_mask"]), precision, quantization);
}

/** A graph of the model in float32 as a precision stores and computes it. */
export function lowerToPrecision(original: Graph, precision: Precision, quantization: Quantization): PrecisionGraph {
  const quantized = quantizeGraph(original, precision, quantization);
  return isHalf(precision) ? { ...quantized, graph: lowerGraph(quantized.graph) } : quantized;
}

function quantizeGraph(original: Graph, precision: Precision, quantization: Quantization): PrecisionGraph {
  if (precision === "int8")
    return toInt8Graph(original, { chosen: isQuantized, tables: () => "quantized", product: int8RowProduct });
  if (!hasBlocks(precision)) return { graph: original, sources: new Map() };
  const { block, symmetric } = quantization;
  const bits = (name: string) => chooseBlockBits(precision, quantization, name);
  return toBlockGraph(original, { bits, block, symmetric, chosen: isQuantized, tables: storeTable, accuracy: 4 });
}

/** The cache is float16, but the logits stay float32, because sampling and scoring need their digits. */
function lowerGraph(graph: Graph): Graph {
  return toHalfGraph(graph, {
    halfInput: (name) => name.startsWith("past_key_values."),
    fullOutput: (name) => name === "logits",
  });
}

/**
 * In blocks the token embedding is quantized like the products, because a tied head multiplies by it; the positions,
 * which are few, are not. In int8, whose rows lose far less, both are.
 */
const storeTable = ({ name }: Value): TableStorage => (name === "wte.weight" ? "quantized" : "float16");

/** A classifier's head stays float32: it is small, and its few rows decide the result alone. */
const isQuantized = ({ name }: Value): boolean => name !== SCORE;
