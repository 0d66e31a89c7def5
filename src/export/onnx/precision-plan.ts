// Plans a file of some precision: its graph, the bytes of its weights, and the numbers that the bytes stand for.

import { type Checkpoint, makeMemoryCheckpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeTensorSource, streamBytes } from "../../checkpoint/model-folder.ts";
import { countBytes, decodeFloats, encodeFloats, viewBytes } from "../../formats/dtype.ts";
import { type Graph, pruneGraph, type Value } from "../../graph/ir.ts";
import { cutRows, dequantize, INT8_LARGEST, INT8_REDUCED, type Int8Matrix, quantize } from "../../graph/passes/int8.ts";
import type { BlockFormat, MatrixFormat } from "../../graph/passes/quantized-blocks.ts";
import {
  type BlockMatrix,
  countScaleBytes,
  cutChannels,
  dequantizeBlocks,
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
  /** Some rows of a weight whose rows are the output channels; null for others. */
  decodeRows: ((first: number, count: number) => Float32Array) | null;
  rows: number;
}

/** Rows of a decoded matrix that are streamed at once: 2,048 of GPT-2 XL's embedding are 13 MB. */
const DECODED_ROWS = 2048;

async function planInt8(checkpoint: Checkpoint, built: PrecisionGraph, options: PlanOptions): Promise<PrecisionPlan> {
  const weights = await quantizeAll(built, options, async (source) => {
    const matrix = await chooseInt8(checkpoint, source, options);
    const { weight, byRow } = source;
    return {
      bytes: (part) => viewBytes(part === "values" ? matrix.values : matrix.scales),
      decode: () => dequantize(matrix, byRow),
      decodeRows: byRow ? (first, count) => dequantize(cutRows(matrix, first, count), true) : null,
      rows: weight.shape[0] as number,
    };
  });
  return assemblePlan(checkpoint, built, weights);
}

/** A function of its own: closures beside one that uses the weights would keep them in memory. */
async function chooseInt8(
  checkpoint: Checkpoint,
  { weight, byRow }: QuantizedSource,
  { quantization, trained }: PlanOptions,
): Promise<Int8Matrix> {
  const largest = quantization.reduceRange ? INT8_REDUCED : INT8_LARGEST;
  const values = await checkpoint.readF32(weight.name);
  const matrix = quantize(values, weight.shape as number[], { byRow, largest });
  if (trained && dequantize(matrix, byRow).some((value, i) => value !== values[i]))
    refuseOffGrid(checkpoint, weight.name);
  return matrix;
}

async function planBlocks(checkpoint: Checkpoint, built: PrecisionGraph, options: PlanOptions): Promise<PrecisionPlan> {
  const { block, symmetric } = options.quantization;
  const weights = await quantizeAll(built, options, async ({ weight, byRow, bits }) => {
    const [rows, columns] = weight.shape as [number, number];
    const grid: BlockFormat = { bits: bits as BlockFormat["bits"], block, symmetric };
    const format = { ...grid, shape: [rows, columns] as const, byRow };
    const matrix = await chooseBlocks(checkpoint, { ...format, name: weight.name }, options);
    const scales = countScaleBytes(matrix);
    return {
      bytes: (part) =>
        part === "values" ? matrix.values : part === "scales" ? scales : (matrix.zeroPoints as Uint8Array),
      decode: () => dequantizeBlocks(matrix, format),
      decodeRows: byRow
        ? (first, count) =>
            dequantizeBlocks(cutChannels(matrix, rows, first, count), { ...format, shape: [count, columns] })
        : null,
      rows,
    };
  });
  return assemblePlan(checkpoint, built, weights);
}

/** The codes that are known already, by calibration or from another file, or were trained, or else are chosen. */
async function chooseBlocks(
  checkpoint: Checkpoint,
  format: MatrixFormat & { name: string },
  { known, trained }: PlanOptions,
): Promise<BlockMatrix> {
  const given = known?.get(format.name);
  if (given) return given;
  const values = await checkpoint.readF32(format.name);
  const matrix = trained
    ? (findBlocks(values, format) ?? refuseOffGrid(checkpoint, format.name))
    : quantizeBlocks(values, format);
  known?.set(format.name, matrix);
  return matrix;
}

/** Each weight once, one in memory as float32 at a time. */
async function quantizeAll(
  { sources }: PrecisionGraph,
  { onWeight }: PlanOptions,
  one: (source: QuantizedSource) => Promise<Quantized>,
): Promise<Map<string, Quantized>> {
  const weights = new Map<string, Quantized>();
  const total = new Set([...sources.values()].map(({ weight }) => weight.name)).size;
  for (const source of sources.values()) {
    const { name } = source.weight;
    if (weights.has(name)) continue;
    onWeight?.(name, weights.size, total);
    weights.set(name, await one(source));
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
  const values = new Map([...checkpoint.tensors.keys()].map((name) => [name, () => decode(name)]));
  const decoded = makeMemoryCheckpoint(checkpoint, values);
  // The embedding is streamed in pieces, of which only a few fit into memory with all else.
  const chunks = (name: string) => {
    const { decodeRows = null, rows = 0 } = weights.get(name) ?? {};
    if (decodeRows) return streamRows(decodeRows, rows);
    return half.has(name) && !weights.has(name) ? streamHalf(checkpoint, name) : decoded.chunks(name);
  };
  return { ...decoded, chunks };
}

async function* streamRows(
  decode: (first: number, count: number) => Float32Array,
  rows: number,
): AsyncGenerator<Uint8Array> {
  for (let first = 0; first < rows; first += DECODED_ROWS)
    yield encodeFloats(decode(first, Math.min(DECODED_ROWS, rows - first)), "F32");
}

/** The numbers that a weight's float16 stands for, as float32. */
async function* streamHalf(checkpoint: Checkpoint, name: string): AsyncGenerator<Uint8Array> {
  for await (const chunk of makeTensorSource(checkpoint, requireTensor(checkpoint, name), "F16").chunks())
    yield encodeFloats(decodeFloats(chunk, "F16"), "F32");
}
