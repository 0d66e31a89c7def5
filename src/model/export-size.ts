// Computes the bytes of the ONNX file of a model from its configuration alone, by the forms in which exports store weights.
import { countElements } from "../formats/dtype.ts";
import type { GraphDtype, Value } from "../graph/ir.ts";
import { countOnnxBytes, type InlineData } from "../graph/to-onnx.ts";
import { TOOL } from "../version.ts";
import type { NoiseMode } from "./attention.ts";
import type { ModelConfig } from "./config.ts";
import type { Precision } from "./precision.ts";
import { buildPrecisionGraph } from "./precision-graph.ts";
import { type Quantization, resolveQuantization } from "./quantization.ts";

const ELEMENT_BYTES: Partial<Record<GraphDtype, number>> = { float32: 4, float16: 2, int8: 1, uint8: 1 };

/**
 * Bytes of the file that an export writes, its graph included; with default settings unless others are given.
 * @throws NfcError "unsupported" for a width that no block of the precision divides
 */
export function countExportBytes(
  config: ModelConfig,
  precision: Precision,
  { noise = { kind: "mean" }, quantization }: { noise?: NoiseMode; quantization?: Quantization } = {},
): number {
  const settings = quantization ?? resolveQuantization(config.n_embd, [precision]);
  const { graph } = buildPrecisionGraph(config, precision, { noise, quantization: settings });
  const parameters = ({ dtype, shape }: Value): InlineData => {
    const byteLength = (ELEMENT_BYTES[dtype] ?? Number.NaN) * countElements(shape as readonly number[]);
    return { byteLength, chunks: () => (async function* () {})() };
  };
  return countOnnxBytes(graph, { parameters, producer: TOOL, metadata: { variant: config.variant, precision } });
}
