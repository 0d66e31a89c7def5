// Plans a file of some precision: its graph, the bytes of its weights, and the numbers that the bytes stand for.

import { type Checkpoint, makeMemoryCheckpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeTensorSource, streamBytes } from "../../checkpoint/model-folder.ts";
import { countBytes, decodeFloats, encodeFloats, viewBytes } from "../../formats/dtype.ts";
import { type Graph, pruneGraph, type Value } from "../../graph/ir.ts";
import { dequantize, INT8_LARGEST, INT8_REDUCED, type Int8Matrix, quantize } from "../../graph/passes/int8.ts";
import type { BlockFormat } from "../../graph/passes/quantized-blocks.ts";
import {
  type BlockMatrix,
  countScaleBytes,
  dequantizeBlocks,
  type MatrixFormat,
  quantizeBlocks,
} from "../../graph/quantize/blocks.ts";
import { findBlocks } from "../../graph/quantize/find-grid.ts";
import type { InlineData } from "../../graph/to-onnx.ts";
import type { NoiseMode } from "../../model/attention.ts";
import type { Precision } from "../../model/precision.ts";
import { buildPrecisionGraph, type PrecisionGraph, type QuantizedSource } from "../../model/precision-graph.ts";
import { hasBlocks, type Quantization } from "../../model/quantization.ts";
import { refuseOffGrid } from "./trained-codes.ts";

export interface PrecisionPlan {
  graph: Graph;
  /** Where the bytes of a parameter of the graph come from. */
  data: (parameter: Value) => InlineData;
  /** The model that the file stands for: each weight as the file's bytes decode to. */
  decoded: Checkpoint;
}

export interface PlanOptions {
  noise: NoiseMode;
  quantization: Quantization;
  /** Weights in blocks that are known already, by name: from calibration, or another file. Those chosen here are added. */
  known?: Map<string, BlockMatrix> | undefined;
  /** Whether the weights lie on the grid of this precision: their codes are then found, not chosen. */
  trained?: boolean | undefined;
  /** Called before each weight is quantized. */
  onWeight?: (name: string, done: number, total: number) => void;
}

/**
 * Quantizes what `precision` needs; the result holds all quantized weights, so use one plan after the other.
 * @throws NfcError "unsupported" for a weight that float16 cannot hold, "invalid-file" for a trained one off its grid
 */
export async function planPrecision(
  checkpoint: Checkpoint,
  precision: Precision,
  options: PlanOptions,
): Promise<PrecisionPlan> {
  const built = buildPrecisionGraph(checkpoint.config, precision, options);
  if (precision === "int8") return planInt8(checkpoint, built, options);
  if (hasBlocks(precision)) return planBlocks(checkpoint, built, options);
  return assemblePlan(checkpoint, built, new Map());
}

/** A weight as it is stored, and as it decodes. */
interface Quantized {
  bytes: (part: string) => Uint8Array;
  decode: () => Float32Array;
}

async function planInt8(checkpoint: Checkpoint, built: PrecisionGraph, options: PlanOptions): Promise<PrecisionPlan> {
  const largest = options.quantization.reduceRange ? INT8_REDUCED : INT8_LARGEST;
  const weights = await quantizeAll(checkpoint, built, options, (values, { weight, byRow }) => {
    const matrix: Int8Matrix = quantize(values, weight.shape as number[], { byRow, largest });
    if (options.trained && dequantize(matrix, byRow).some((value, i) => value !== values[i]))
      refuseOffGrid(checkpoint, weight.name);
    return {
      bytes: (part) => viewBytes(part === "values" ? matrix.values : matrix.scales),
      decode: () => dequantize(matrix, byRow),
    };
  });
  return assemblePlan(checkpoint, built, weights);
}

async function planBlocks(checkpoint: Checkpoint, built: PrecisionGraph, options: PlanOptions): Promise<PrecisionPlan> {
  const { block, symmetric } = options.quantization;
  const weights = await quantizeAll(checkpoint, built, options, (values, { weight, byRow, bits }) => {
    const shape = weight.shape as [number, number];
    const format: BlockFormat = { bits: bits as BlockFormat["bits"], block, symmetric };
    const matrix = chooseBlocks(values, { ...format, shape, byRow, name: weight.name }, checkpoint, options);
    return {
      bytes: (part) =>
        part === "values"
          ? matrix.values
          : part === "scales"
            ? countScaleBytes(matrix)
            : (matrix.zeroPoints as Uint8Array),
      decode: () => dequantizeBlocks(matrix, { ...format, shape, byRow }),
    };
  });
  return assemblePlan(checkpoint, built, weights);
}

function chooseBlocks(
  values: Float32Array,
  format: MatrixFormat & { name: string },
  checkpoint: Checkpoint,
  { known, trained }: PlanOptions,
): BlockMatrix {
  const matrix =
    known?.get(format.name) ??
    (trained ? (findBlocks(values, format) ?? refuseOffGrid(checkpoint, format.name)) : quantizeBlocks(values, format));
  known?.set(format.name, matrix);
  return matrix;
}

/** Each weight once, one in memory as float32 at a time. */
async function quantizeAll(
  checkpoint: Checkpoint,
  { sources }: PrecisionGraph,
  { onWeight }: PlanOptions,
  one: (values: Float32Array, source: QuantizedSource) => Quantized,
): Promise<Map<string, Quantized>> {
  const weights = new Map<string, Quantized>();
  const total = new Set([...sources.values()].map(({ weight }) => weight.name)).size;
  for (const source of sources.values()) {
    const { name } = source.weight;
    if (weights.has(name)) continue;
    onWeight?.(name, weights.size, total);
    weights.set(name, one(await checkpoint.readF32(name), source));
  }
  return weights;
}

function assemblePlan(
  checkpoint: Checkpoint,
  { graph, sources }: PrecisionGraph,
  weights: ReadonlyMap<string, Quantized>,
): PrecisionPlan {
  const data = (parameter: Value): InlineData => {
    const source = sources.get(parameter.name);
    if (!source) return makePlainData(checkpoint, parameter);
    const bytes = (weights.get(source.weight.name) as Quantized).bytes(source.part);
    return { byteLength: bytes.byteLength, chunks: () => streamBytes(bytes) };
  };
  return { graph, data, decoded: decodeCheckpoint(checkpoint, graph, weights) };
}

/** A weight that is stored as a float, streamed. */
function makePlainData(checkpoint: Checkpoint, { name, dtype }: Value): InlineData {
  const tensor = requireTensor(checkpoint, name);
  const to = dtype === "float16" ? "F16" : "F32";
  return { byteLength: countBytes(to, tensor.shape), chunks: () => makeTensorSource(checkpoint, tensor, to).chunks() };
}

/** The checkpoint with every weight as the file's bytes decode. */
function decodeCheckpoint(checkpoint: Checkpoint, graph: Graph, weights: ReadonlyMap<string, Quantized>): Checkpoint {
  const half = new Set(
    pruneGraph(graph)
      .parameters.filter(({ dtype }) => dtype === "float16")
      .map(({ name }) => name),
  );
  if (weights.size === 0 && half.size === 0) return checkpoint;
  const decode = async (name: string) => {
    const quantized = weights.get(name);
    if (quantized) return quantized.decode();
    const values = await checkpoint.readF32(name);
    return half.has(name) ? decodeFloats(encodeFloats(values, "F16"), "F16") : values;
  };
  return makeMemoryCheckpoint(
    checkpoint,
    new Map([...checkpoint.tensors.keys()].map((name) => [name, () => decode(name)])),
  );
}
