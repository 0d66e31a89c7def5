// Plans a file of some precision: its graph, the bytes of its weights, and the numbers that the bytes stand for.

import { type Checkpoint, makeMemoryCheckpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeTensorSource, streamBytes } from "../../checkpoint/model-folder.ts";
import { countBytes, decodeFloats, encodeFloats, viewBytes } from "../../formats/dtype.ts";
import { type Graph, pruneGraph, type Value } from "../../graph/ir.ts";
import { toHalfGraph } from "../../graph/passes/half.ts";
import {
  dequantize,
  INT8_LARGEST,
  INT8_REDUCED,
  type Int8Matrix,
  quantize,
  toInt8Graph,
} from "../../graph/passes/int8.ts";
import { type BlockFormat, toBlockGraph } from "../../graph/passes/quantized-blocks.ts";
import type { TableStorage } from "../../graph/passes/rewrite.ts";
import type { InlineData } from "../../graph/to-onnx.ts";
import type { NoiseMode } from "../../model/attention.ts";
import { buildExportGraph } from "../../model/classifier-graph.ts";
import { SCORE } from "../../model/parameters.ts";
import type { Precision } from "../../model/precision.ts";
import { type BlockMatrix, countScaleBytes, dequantizeBlocks, quantizeBlocks } from "../quantize/blocks.ts";
import type { Quantization } from "../quantize/settings.ts";

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
  /** Weights in blocks that are known already, by name: from calibration. */
  calibrated?: ReadonlyMap<string, BlockMatrix> | undefined;
  /** Called before each weight is quantized. */
  onWeight?: (name: string, done: number, total: number) => void;
}

/**
 * Quantizes what `precision` needs; the result holds all quantized weights, so use one plan after the other.
 * @throws NfcError "unsupported" for a weight that float16 cannot hold
 */
export async function planPrecision(
  checkpoint: Checkpoint,
  precision: Precision,
  options: PlanOptions,
): Promise<PrecisionPlan> {
  const graph = buildExportGraph(checkpoint.config, options.noise);
  switch (precision) {
    case "fp32":
      return assemblePlan(checkpoint, graph, new Map());
    case "fp16":
      return assemblePlan(checkpoint, lowerGraph(graph), new Map());
    case "int8":
      return planInt8(checkpoint, graph, options);
    case "uint8":
      return planBlocks(checkpoint, graph, 8, (built) => built, options);
    case "q4":
      return planBlocks(checkpoint, graph, 4, (built) => built, options);
    case "q4f16":
      return planBlocks(checkpoint, graph, 4, lowerGraph, options);
  }
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
const tables = ({ name }: Value): TableStorage => (name === "wte.weight" ? "quantized" : "float16");

/** A classifier's head stays float32: it is small, and its few rows decide the result alone. */
const isQuantized = ({ name }: Value): boolean => name !== SCORE;

/** A weight as it is stored, and as it decodes. */
interface Quantized {
  bytes: (part: string) => Uint8Array;
  decode: () => Float32Array;
}

async function planInt8(checkpoint: Checkpoint, original: Graph, options: PlanOptions): Promise<PrecisionPlan> {
  const { graph, sources } = toInt8Graph(original, { chosen: isQuantized, tables: () => "quantized" });
  const largest = options.quantization.reduceRange ? INT8_REDUCED : INT8_LARGEST;
  const weights = await quantizeAll(checkpoint, sources, options, (values, { weight, byRow }) => {
    const matrix: Int8Matrix = quantize(values, weight.shape as number[], { byRow, largest });
    return {
      bytes: (part) => viewBytes(part === "values" ? matrix.values : matrix.scales),
      decode: () => dequantize(matrix, byRow),
    };
  });
  return assemblePlan(checkpoint, graph, weights, sources);
}

async function planBlocks(
  checkpoint: Checkpoint,
  original: Graph,
  bits: BlockFormat["bits"],
  finish: (graph: Graph) => Graph,
  options: PlanOptions,
): Promise<PrecisionPlan> {
  const { block, symmetric } = options.quantization;
  const format: BlockFormat = { bits, block, symmetric };
  const { graph, sources } = toBlockGraph(original, { ...format, chosen: isQuantized, tables, accuracy: 4 });
  const weights = await quantizeAll(checkpoint, sources, options, (values, { weight, byRow }) => {
    const shape = weight.shape as [number, number];
    const matrix =
      options.calibrated?.get(weight.name) ?? quantizeBlocks(values, { ...format, shape, byRow, name: weight.name });
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
  return assemblePlan(checkpoint, finish(graph), weights, sources);
}

interface Source {
  weight: Value;
  byRow: boolean;
  part: string;
}

/** Each weight once, one in memory as float32 at a time. */
async function quantizeAll<S extends Source>(
  checkpoint: Checkpoint,
  sources: ReadonlyMap<string, S>,
  { onWeight }: PlanOptions,
  one: (values: Float32Array, source: S) => Quantized,
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
  graph: Graph,
  weights: ReadonlyMap<string, Quantized>,
  sources: ReadonlyMap<string, Source> = new Map(),
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
