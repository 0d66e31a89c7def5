// Quantizes the weights of a model in blocks so that its products keep their values on calibration text.

import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeNotFiniteError, throwIfAborted } from "../../errors.ts";
import { Graph, pruneGraph, type Value } from "../../graph/ir.ts";
import { gemm } from "../../graph/ops.ts";
import { type BitChoice, type BlockFormat, chooseBits } from "../../graph/passes/quantized-blocks.ts";
import { weightProduct } from "../../graph/passes/rewrite.ts";
import { type BlockMatrix, dequantizeBlocks } from "../../graph/quantize/blocks.ts";
import { makeFloat32Tensor, Session, type Tensors } from "../../graph/session.ts";
import { embedWindowsApart, type Hidden, openLayerSession } from "../../inference/layerwise.ts";
import { makeParameterLookup, norm } from "../../model/layers.ts";
import { nameHead } from "../../model/parameters.ts";
import { addInto } from "../../numeric/linalg.ts";
import type { LongCall } from "../../progress.ts";
import { DAMPING, quantizeGptq } from "./gptq.ts";

/**
 * A tied wte is not only multiplied but also looked up, where errors of different inputs do not make up for each other.
 * Among 0.01, 0.3, 1 and 3 this has the least KL on small models, and is within 3 % of the least on larger ones.
 */
const EMBEDDING_DAMPING = 1;
/** Tokens of calibration text at which an error counts by itself as much as by the inputs of the text. */
const TRUST_TOKENS = 128;

export interface CalibrateOptions extends Omit<BlockFormat, "bits">, LongCall {
  bits: BitChoice;
  threads?: number | undefined;
}

/**
 * Quantizes all matrices of the blocks and the head (wte where it is tied) by GPTQ, each on the inputs that the
 * quantized layers before it give.
 * @returns by parameter name; a wte that is no head is not among them
 * @throws NfcError "invalid-file" when the model gives what is not finite; "aborted"
 */
export async function quantizeCalibrated(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  options: CalibrateOptions,
): Promise<Map<string, BlockMatrix>> {
  const { n_layer } = checkpoint.config;
  const { bits, block, symmetric, signal, onProgress } = options;
  const matrices = new Map<string, BlockMatrix>();
  const tokens = windows.reduce((sum, { length }) => sum + length, 0);
  const distrust = (TRUST_TOKENS / tokens) ** 2;
  const quantize = async (name: string, gram: Float64Array, byRow = false): Promise<Float32Array> => {
    throwIfAborted(signal);
    const shape = requireTensor(checkpoint, name).shape as [number, number];
    const format = { bits: chooseBits(bits, name), block, symmetric, shape, byRow };
    const damping = (name === "wte.weight" ? EMBEDDING_DAMPING : DAMPING) + distrust;
    const matrix = quantizeGptq(await checkpoint.readF32(name), gram, { ...format, name, damping });
    matrices.set(name, matrix);
    return dequantizeBlocks(matrix, format);
  };
  let hidden = await embedWindowsApart(checkpoint, windows);
  for (let layer = 0; layer < n_layer; layer++) {
    onProgress?.({ phase: "calibrating", done: layer, total: n_layer + 1, unit: "layers", detail: `h.${layer}` });
    const decoded = new Map<string, Float32Array>();
    for (const [name, gram] of await buildInputGrams(checkpoint, layer, hidden, options))
      decoded.set(name, await quantize(name, gram));
    hidden = await advanceHidden(checkpoint, layer, hidden, decoded, options);
  }
  const head = nameHead(checkpoint.config);
  onProgress?.({ phase: "calibrating", done: n_layer, total: n_layer + 1, unit: "layers", detail: "head" });
  await quantize(head, await measureHeadGram(checkpoint, hidden, options), true);
  return matrices;
}

/** Σ x xᵀ over the inputs x of each linear layer, by the name of its weight: float64 [K, K], K the inputs */
async function buildInputGrams(
  checkpoint: Checkpoint,
  layer: number,
  hidden: readonly Hidden[],
  { threads = 0 }: CalibrateOptions,
): Promise<Map<string, Float64Array>> {
  const sizes = new Map<string, number>();
  const session = await openLayerSession(checkpoint, layer, {
    threads,
    outputs: (graph, { output }) => {
      for (const { x, name } of listLinearLayers(graph, output)) {
        graph.output(gemm(x, x, { transA: true }), requireGram(name));
        sizes.set(name, x.shape[1] as number);
      }
    },
  });
  const sums = new Map([...sizes].map(([name, size]) => [name, new Float64Array(size * size)]));
  const into: Tensors = Object.fromEntries(
    [...sizes].map(([name, size]) => [
      requireGram(name),
      makeFloat32Tensor(new Float32Array(size * size), [size, size]),
    ]),
  );
  try {
    for (const states of hidden) {
      await session.run(states, into);
      for (const [name, sum] of sums) addInto(sum, into[requireGram(name)]?.data as Float32Array);
    }
  } finally {
    await session.close();
  }
  for (const [name, sum] of sums) checkFinite(sum, checkpoint, `the inputs of ${name}`);
  return sums;
}

const requireGram = (name: string): string => `${name}/gram`;

/** The products x·W that `output` is computed from. */
function listLinearLayers(graph: Graph, output: Value): { x: Value; name: string }[] {
  const { nodes } = pruneGraph({ inputs: [], outputs: [output] });
  return nodes.flatMap((node) => {
    const product = weightProduct(node, { graph, of: (value) => value });
    return product ? [{ x: product.x, name: product.weight.name }] : [];
  });
}

async function advanceHidden(
  checkpoint: Checkpoint,
  layer: number,
  hidden: readonly Hidden[],
  weights: ReadonlyMap<string, Float32Array>,
  { threads = 0 }: CalibrateOptions,
): Promise<Hidden[]> {
  const session = await openLayerSession(checkpoint, layer, {
    threads,
    weights,
    outputs: (graph, { output }) => graph.output(output, "output"),
  });
  try {
    const next: Hidden[] = [];
    for (const states of hidden) {
      const { output } = await session.run(states);
      next.push({ ...states, x: Float32Array.from(output?.data as Float32Array) });
    }
    return next;
  } finally {
    await session.close();
  }
}

/** Σ x xᵀ over the inputs x = ln_f(hidden) of the head: [C, C] */
async function measureHeadGram(
  checkpoint: Checkpoint,
  hidden: readonly Hidden[],
  { threads = 0 }: CalibrateOptions,
): Promise<Float64Array> {
  const { config } = checkpoint;
  const width = config.n_embd;
  const graph = new Graph();
  const normed = norm(graph.input("x", "float32", ["rows", width]), "ln_f", makeParameterLookup(graph, config), config);
  graph.output(gemm(normed, normed, { transA: true }), "gram");
  const weights = new Map<string, Float32Array>();
  for (const { name } of pruneGraph(graph).parameters) weights.set(name, await checkpoint.readF32(name));
  const weightOf = ({ name }: Value) => weights.get(name) as Float32Array;
  const session = await Session.withWeights(graph, weightOf, { threads, shortLived: true });
  const sum = new Float64Array(width * width);
  try {
    for (const { x, batch, length } of hidden) {
      const { gram } = await session.run({ x: makeFloat32Tensor(x, [batch * length, width]) });
      addInto(sum, gram?.data as Float32Array);
    }
  } finally {
    await session.close();
  }
  checkFinite(sum, checkpoint, "the inputs of the head");
  return sum;
}

function checkFinite(sums: Float64Array, { source }: Checkpoint, what: string): void {
  if (!sums.every(Number.isFinite))
    throw makeNotFiniteError(`${source}: on the calibration text ${what} are not finite`);
}
