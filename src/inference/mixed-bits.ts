// Gives each matrix of a mixed file its bits: by the KL that its rounding costs on text, within a budget of bytes.
import { type Checkpoint, readWeights } from "../checkpoint/checkpoint.ts";
import { makeNotFiniteError, NfcError, throwIfAborted } from "../errors.ts";
import { Graph, pruneGraph } from "../graph/ir.ts";
import { exp, logSoftmax, mul, reduceSum, sub } from "../graph/ops.ts";
import type { BlockBits, MatrixFormat } from "../graph/passes/quantized-blocks.ts";
import { type BlockMatrix, dequantizeBlocks, quantizeBlocks } from "../graph/quantize/blocks.ts";
import { makeFloat32Tensor, Session, type Tensor } from "../graph/session.ts";
import { openAll } from "../io/open-all.ts";
import type { NoiseMode } from "../model/attention.ts";
import type { ModelConfig } from "../model/config.ts";
import { countExportBytes } from "../model/export-size.ts";
import { declareTextInputs, gpt2, lmHead, makeTextFeeds } from "../model/gpt2.ts";
import { makeParameterLookup } from "../model/layers.ts";
import { isEmbedding } from "../model/parameters.ts";
import { buildPrecisionGraph } from "../model/precision-graph.ts";
import { MIXED_LEAST, type Quantization } from "../model/quantization.ts";
import type { LongCall } from "../progress.ts";

/** Text on which the KL of each matrix is measured, and the longest piece of it: [256, V] logits are in memory at once. */
const MEASURED_TOKENS = 2048;
const LONGEST_PIECE = 256;

/** The bytes of q4's file of the model, times a share: the budget of a mixed one. */
export function countBudget(
  config: ModelConfig,
  share: number,
  options: Pick<MixOptions, "noise" | "quantization">,
): number {
  return Math.floor(share * countExportBytes(config, "q4", options));
}

export interface MixOptions extends LongCall {
  /** Most bytes that the file may have. */
  budget: number;
  quantization: Quantization;
  noise: NoiseMode;
  threads?: number | undefined;
}

/** A matrix with all of its weights in `bits`, and what that alone costs: the mean KL of a token, in nats. */
export interface Sensitivity {
  name: string;
  bits: BlockBits;
  /** Weights of the matrix. */
  size: number;
  kl: number;
}

/**
 * Bits for every matrix so that the file fits the budget: all have 4 (2 where a file of 4 is too large), and those that
 * save the most KL for a byte get the next width. KL adds up, as the roundings of different matrices are independent;
 * that of 8 bits, a hundredth of that of 4, counts as none.
 * @throws NfcError "usage" for a budget below the smallest file, "invalid-file" when the model gives what is not finite;
 * "aborted"
 */
export async function chooseMixedBits(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  options: MixOptions,
): Promise<Map<string, BlockBits>> {
  const { budget, quantization, noise } = options;
  const { config } = checkpoint;
  const matrices = listMatrices(config, options);
  const countBytes = (mixedBits: ReadonlyMap<string, BlockBits>) =>
    countExportBytes(config, "mixed", { noise, quantization: { ...quantization, mixedBits } });
  const start = (bits: BlockBits) => new Map(matrices.map(({ name }) => [name, bits]));
  const levels: BlockBits[] = countBytes(start(MIXED_LEAST)) <= budget ? [MIXED_LEAST] : [2, MIXED_LEAST];
  const chosen = start(levels[0] as BlockBits);
  const least = countBytes(chosen);
  if (least > budget)
    throw new NfcError("usage", `a mixed file of this model has at least ${least} bytes, the budget is ${budget}`, {
      hint: "give a larger --budget",
    });
  const candidates = levels.flatMap((bits) => matrices.map((matrix) => ({ ...matrix, bits })));
  const waiting = rankUpgrades(await measureSensitivities(checkpoint, windows, candidates, options));
  const isNext = ({ name, to }: Upgrade) => (chosen.get(name) as BlockBits) * 2 === to;
  // The file only grows, so that what does not fit once never will: the bytes of each step are counted once.
  for (let at = waiting.findIndex(isNext); at >= 0; at = waiting.findIndex(isNext)) {
    const [{ name, to }] = waiting.splice(at, 1) as [Upgrade];
    if (countBytes(new Map([...chosen, [name, to]])) <= budget) chosen.set(name, to);
  }
  return chosen;
}

interface Upgrade {
  name: string;
  to: BlockBits;
}

/** The steps from one width to the next, that which saves the most KL for a bit first. */
export function rankUpgrades(sensitivities: readonly Sensitivity[]): Upgrade[] {
  const klOf = (name: string, bits: BlockBits) =>
    sensitivities.find((one) => one.name === name && one.bits === bits)?.kl ?? 0;
  return sensitivities
    .map(({ name, bits, size, kl }) => {
      const to = (2 * bits) as BlockBits;
      return { name, to, worth: (kl - klOf(name, to)) / (size * (to - bits)) };
    })
    .sort((a, b) => b.worth - a.worth);
}

type Matrix = Pick<MatrixFormat, "byRow" | "shape"> & { name: string };

/** The matrices whose bits are to be chosen. */
function listMatrices(config: ModelConfig, { noise, quantization }: MixOptions): Matrix[] {
  const { sources } = buildPrecisionGraph(config, "mixed", { noise, quantization });
  const matrices = new Map<string, Matrix>();
  for (const { weight, byRow } of sources.values())
    if (quantization.embeddingBits === null || !isEmbedding(weight.name))
      matrices.set(weight.name, { name: weight.name, byRow, shape: weight.shape as [number, number] });
  return [...matrices.values()];
}

/** The KL of the model with one matrix rounded from the model as it is, for each candidate. */
export async function measureSensitivities(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  candidates: readonly (Matrix & { bits: BlockBits })[],
  { quantization: { block, symmetric }, threads, signal, onProgress }: MixOptions,
): Promise<Sensitivity[]> {
  const { config, source } = checkpoint;
  const weights = await readWeights(checkpoint);
  const rounded = candidates.map(({ name, bits, byRow, shape }) => {
    const format: MatrixFormat = { bits, block, symmetric, byRow, shape };
    return { name, format, matrix: quantizeBlocks(weights.get(name) as Float32Array, { ...format, name }), kl: 0 };
  });
  const pieces = cutPieces(windows);
  const models = await openModels(config, pieces[0]?.length ?? 0, threads);
  try {
    for (const [i, piece] of pieces.entries()) {
      const reference = await models.predict(piece, weights);
      for (const [j, one] of rounded.entries()) {
        throwIfAborted(signal);
        const done = i * rounded.length + j;
        onProgress?.({ phase: "mixed: measuring", done, total: pieces.length * rounded.length, unit: "steps" });
        one.kl += await models.compare(piece, reference, decodeInto(weights, one));
      }
    }
  } finally {
    await models.close();
  }
  const tokens = pieces.reduce((sum, { length }) => sum + length, 0);
  return rounded.map(({ name, format: { bits, shape }, kl }) => {
    if (!Number.isFinite(kl))
      throw makeNotFiniteError(`${source}: on the calibration text its probabilities are not finite`);
    return { name, bits, size: shape[0] * shape[1], kl: kl / tokens };
  });
}

/** The pieces of text that are measured: windows of at most n_positions tokens, until there are enough of them. */
export function planMeasured({ n_positions }: Pick<ModelConfig, "n_positions">): { count: number; length: number } {
  const length = Math.min(LONGEST_PIECE, n_positions);
  return { count: Math.ceil(MEASURED_TOKENS / length), length };
}

/** The first windows, each cut to a piece, until there are enough tokens. */
function cutPieces(windows: readonly Int32Array[]): Int32Array[] {
  const { count, length } = planMeasured({ n_positions: windows[0]?.length ?? 0 });
  return windows.slice(0, count).map((window) => window.subarray(0, length));
}

type Weights = ReadonlyMap<string, Float32Array>;

function decodeInto(
  weights: Weights,
  { name, matrix, format }: { name: string; matrix: BlockMatrix; format: MatrixFormat },
): Weights {
  return new Map(weights).set(name, dequantizeBlocks(matrix, format));
}

/** The model, and the model with its KL from given probabilities, as sessions that are fed the weights with each run. */
async function openModels(config: ModelConfig, length: number, threads = 0) {
  const [plain, compared] = [buildProbabilities(config, length, false), buildProbabilities(config, length, true)];
  const sessions = await openAll(async (keep) => ({
    plain: keep(await Session.withInputs(plain, { threads })),
    compared: keep(await Session.withInputs(compared, { threads })),
  }));
  const shapes = pruneGraph(plain).parameters.map(({ name, shape }) => [name, shape as number[]] as const);
  const feed = (piece: Int32Array, weights: Weights) => ({
    ...makeTextFeeds(piece, [1, length]),
    ...Object.fromEntries(
      shapes.map(([name, shape]) => [name, makeFloat32Tensor(weights.get(name) as Float32Array, shape)]),
    ),
  });
  return {
    predict: async (piece: Int32Array, weights: Weights) =>
      (await sessions.plain.run(feed(piece, weights))).logs as Tensor,
    compare: async (piece: Int32Array, reference: Tensor, weights: Weights) =>
      Number((await sessions.compared.run({ ...feed(piece, weights), reference })).kl?.data[0]),
    close: async () => {
      await sessions.plain.close();
      await sessions.compared.close();
    },
  };
}

/** The log-probabilities `logs` [T, V], or their `kl` [1] from a `reference` of the same: Σ p·(ln p − ln q). */
function buildProbabilities(config: ModelConfig, length: number, compared: boolean): Graph {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const { hidden } = gpt2(config, parameters, declareTextInputs(graph, 1, length), { kind: "mean" }); // [T, C]
  const logs = logSoftmax(lmHead(hidden, config, parameters)); // [T, V]
  if (!compared) {
    graph.output(logs, "logs");
    return graph;
  }
  const reference = graph.input("reference", "float32", [length, config.vocab_size]);
  graph.output(reduceSum(mul(exp(reference), sub(reference, logs)), [0, 1]), "kl");
  return graph;
}
