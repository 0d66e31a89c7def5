// The graphs that devices are compared by: a chain of square products, and the step of a model.
import { backward } from "../../graph/autodiff/backward.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { gemm, matmul, mul } from "../../graph/ops.ts";
import { makeFloat32Tensor, type Tensor, type Tensors } from "../../graph/session.ts";
import { slice } from "../../graph/shape-ops.ts";
import type { ModelConfig } from "../../model/config.ts";
import { declareTextInputs, gpt2, lmHead, makeTextFeeds } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";
import { isUsedAtMean, listParameters, nameHead } from "../../model/parameters.ts";
import { makeRandom } from "../../numeric/random.ts";

/** A graph whose weights lie in the session and whose feeds and outputs are small: nothing of note crosses the bus. */
export interface SpeedGraph {
  graph: Graph;
  feeds: Tensors;
  weightOf(parameter: Value): Float32Array;
  /** Floating-point operations of its products, an addition and a multiplication each. */
  flops: number;
}

/** Products of a chain, so that the cost of starting one counts little. */
const CHAIN = 4;

/** factor·A·B·B·B·B for matrices [N, N]; the output is the first row. */
export function buildProductChain(size: number): SpeedGraph {
  const graph = new Graph();
  // A constant product would be computed once, while the session is made.
  const factor = graph.input("factor", "float32", [1]);
  const b = graph.parameter("b", [size, size]);
  let product = mul(graph.parameter("a", [size, size]), factor); // [N, N]
  for (let i = 0; i < CHAIN; i++) product = matmul(product, b); // [N, N]
  graph.output(slice(product, 0, 0, 1), "row"); // [1, N]
  return {
    graph,
    feeds: { factor: makeFloat32Tensor(Float32Array.of(1), [1]) },
    weightOf: () => makeWeights(size * size, 1 / Math.sqrt(size)),
    flops: 2 * CHAIN * size ** 3,
  };
}

/**
 * Tokens of a step, in windows, unless a layer of the model is too large for so many, and the operations that it may have:
 * about a second on two cores. Batches of training have thousands of tokens, and a GPU that is no faster than the CPU at
 * 128 of them is many times as fast there.
 */
const TOKENS = { train: 1024, run: 128 } as const;
const MAX_LENGTH = 256;
const MAX_FLOPS = { train: 1.2e11, run: 5e10 } as const;

/** What a command does with a model: training also computes the gradients. */
export type Work = "train" | "run";

/**
 * A step of a model as large as the limits allow, with fewer layers if need be: the forward pass of a text, noise at its
 * mean, and for training the gradients of Σ logits²/2 by the parameters. Of each result the first row is an output.
 */
export function buildModelStep(config: ModelConfig, work: Work): SpeedGraph & { tokens: number; layers: number } {
  const passes = work === "train" ? 3 : 1; // the gradient of a product is two products
  const perLayer = countBlockWeights({ ...config, n_layer: 1 });
  const head = config.vocab_size * config.n_embd;
  const affordable = Math.floor(MAX_FLOPS[work] / (2 * passes * (perLayer + head)));
  const wanted = Math.max(TOKENS.run, Math.min(TOKENS[work], affordable));
  const length = Math.min(wanted, MAX_LENGTH, config.n_positions);
  const batch = Math.floor(wanted / length);
  const tokens = batch * length;
  const room = MAX_FLOPS[work] / (2 * passes * tokens) - head;
  const layers = Math.max(1, Math.min(config.n_layer, Math.floor(room / perLayer)));
  const shallow: ModelConfig = { ...config, n_layer: layers };
  const ids = Int32Array.from({ length: tokens }, (_, i) => i % config.vocab_size);
  return {
    graph: buildStep(shallow, { batch, length }, work),
    feeds: makeTextFeeds(ids, [batch, length]),
    weightOf: ({ name, shape }) => makeStepWeight(name, shape as number[]),
    flops: 2 * passes * tokens * (layers * perLayer + head),
    ...{ tokens, layers },
  };
}

function buildStep(config: ModelConfig, { batch, length }: { batch: number; length: number }, work: Work): Graph {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const inputs = declareTextInputs(graph, batch, length);
  const tokens = batch * length;
  const { embedded, hidden } = gpt2(config, parameters, inputs, { kind: "mean" }); // [T, C]
  const logits = lmHead(hidden, config, parameters); // [T, V]
  if (work === "run") {
    graph.output(slice(logits, 0, tokens - 1, tokens), "logits"); // [1, V]
    return graph;
  }
  // L = Σ z²/2 with z = h·Wᵀ: dL/dh = z·W, dL/dW = zᵀ·h
  const matrix = parameters(nameHead(config));
  const gradients = new Map([["head", gemm(logits, hidden, { transA: true })]]); // [V, C]
  const names = listParameters(config)
    .map(({ name }) => name)
    .filter((name) => name.startsWith("h.") && isUsedAtMean(name, config));
  const targets = [...names.map((name) => parameters(name)), embedded];
  const found = backward(new Map([[hidden, gemm(logits, matrix)]]), targets);
  for (const target of targets) {
    const gradient = found.get(target);
    if (gradient) gradients.set(target.name, gradient);
  }
  for (const [name, gradient] of gradients) graph.output(slice(gradient, 0, 0, 1), `first/${name}`);
  return graph;
}

function countBlockWeights(config: ModelConfig): number {
  const matrices = listParameters(config).filter(({ layer, shape }) => layer !== null && shape.length === 2);
  return matrices.reduce((sum, { shape: [rows = 1, columns = 1] }) => sum + rows * columns, 0);
}

function makeStepWeight(name: string, shape: readonly number[]): Float32Array {
  const size = shape.reduce((a, b) => a * b, 1);
  return /ln_\w+\.weight$/.test(name) ? new Float32Array(size).fill(1) : makeWeights(size, 0.02);
}

/** Random numbers that repeat are as good for a measurement, and a model's worth of them is made at once. */
const PERIOD = 65_537;

/** Uniform numbers around 0 with a standard deviation. */
function makeWeights(size: number, deviation: number): Float32Array {
  const draw = makeRandom(1);
  const scale = deviation * Math.sqrt(12);
  const weights = new Float32Array(size);
  for (let i = 0; i < Math.min(size, PERIOD); i++) weights[i] = scale * (draw() - 0.5);
  for (let done = PERIOD; done < size; done *= 2) weights.copyWithin(done, 0, Math.min(done, size - done));
  return weights;
}

/** ‖a − b‖/‖b‖ over outputs of the same names; NaN counts as infinitely far. */
export function computeDistance(a: Readonly<Record<string, Tensor>>, b: Readonly<Record<string, Tensor>>): number {
  let [difference, size] = [0, 0];
  for (const [name, { data }] of Object.entries(b)) {
    const other = a[name]?.data as Float32Array;
    for (const [i, value] of (data as Float32Array).entries()) {
      difference += ((other[i] as number) - value) ** 2;
      size += value ** 2;
    }
  }
  const distance = Math.sqrt(difference / size);
  return Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
}
