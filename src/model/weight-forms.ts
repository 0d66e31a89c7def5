// How an export in some precision stores each weight, and the numbers that a weight then stands for.
import { decodeFloats, encodeFloats } from "../formats/dtype.ts";
import { pruneGraph } from "../graph/ir.ts";
import { dequantize, INT8_LARGEST, INT8_REDUCED, quantize } from "../graph/passes/int8.ts";
import type { MatrixFormat } from "../graph/passes/quantized-blocks.ts";
import { roundToBlocks } from "../graph/quantize/blocks.ts";
import type { ModelConfig } from "./config.ts";
import type { Precision } from "./precision.ts";
import { buildPrecisionGraph } from "./precision-graph.ts";
import { type QuantizationOptions, resolveQuantization } from "./quantization.ts";

/** The stored form of a weight that does not stay float32. */
export type WeightForm =
  | { kind: "blocks"; format: MatrixFormat }
  | { kind: "int8"; shape: readonly [number, number]; byRow: boolean; largest: number }
  | { kind: "float16" };

/** The forms by name; weights that are not among them stay as they are. @throws NfcError as `resolveQuantization` */
export function listWeightForms(
  config: ModelConfig,
  precision: Precision,
  choices: QuantizationOptions = {},
): Map<string, WeightForm> {
  const quantization = resolveQuantization(config.n_embd, [precision], choices);
  const { graph, sources } = buildPrecisionGraph(config, precision, { noise: { kind: "mean" }, quantization });
  const { block, symmetric, reduceRange } = quantization;
  const forms = new Map<string, WeightForm>();
  for (const { weight, byRow, bits } of sources.values()) {
    const shape = weight.shape as [number, number];
    forms.set(
      weight.name,
      bits === undefined
        ? { kind: "int8", shape, byRow, largest: reduceRange ? INT8_REDUCED : INT8_LARGEST }
        : { kind: "blocks", format: { bits, block, symmetric, shape, byRow } },
    );
  }
  for (const { name, dtype } of pruneGraph(graph).parameters)
    if (dtype === "float16" && !sources.has(name)) forms.set(name, { kind: "float16" });
  return forms;
}

/**
 * Rounds a weight to the numbers that its stored form decodes to.
 * @param into of the same length
 * @throws NfcError "invalid-file" for a weight that is not finite, "unsupported" for one that float16 scales cannot hold
 */
export function roundWeight(values: Float32Array, form: WeightForm, name: string, into: Float32Array): void {
  if (form.kind === "blocks") roundToBlocks(values, { ...form.format, name }, into);
  else if (form.kind === "float16") into.set(decodeFloats(encodeFloats(values, "F16"), "F16"));
  else into.set(dequantize(quantize(values, form.shape, form), form.byRow));
}
