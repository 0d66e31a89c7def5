// Gradients of whole models against TensorFlow.js, which has its own kernels and its own derivatives.
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { backward, takeOutputGradient } from "../../../src/graph/autodiff/backward.ts";
import { Graph, type Value } from "../../../src/graph/ir.ts";
import { logSoftmax, reduceSum, scale } from "../../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type Tensor, type Tensors } from "../../../src/graph/session.ts";
import { pick } from "../../../src/graph/shape-ops.ts";
import { ACTIVATIONS, type Activation, type ModelConfig } from "../../../src/model/config.ts";
import { declareTextInputs, gpt2, lmHead } from "../../../src/model/gpt2.ts";
import { makeParameterLookup } from "../../../src/model/layers.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { VARIANTS, type Variant } from "../../../src/model/variants.ts";
import { uniform } from "../../numeric/matrices.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";
import { relativeError } from "./finite-differences.ts";

const [B, T, C, H] = [2, 20, 16, 2];
/** Above the size up to which Gather's gradient is a product; positions stay below it. */
const V = 70;
const TOLERANCE = 1e-4;

const configOf = (variant: Variant, rest: Partial<ModelConfig> = {}): ModelConfig => ({
  ...tinyModelConfig({ variant, heads: H, width: C, positions: 24, vocab: V }),
  ...rest,
});

/** Parameters, ids, labels and ε that both sides are given. */
interface Batch {
  parameters: Record<string, Tensor>;
  ids: number[];
  labels: number[];
  /** One a layer, [B, 1 or H, T, T]; empty without noise. */
  noise: Float32Array[];
}

const drawsOf = ({ variant }: ModelConfig) => (variant === "noise-shared" ? 1 : H);

function batchFor(config: ModelConfig): Batch {
  const random = uniform(11);
  const fill = (size: number, of: () => number) => Float32Array.from({ length: size }, of);
  const parameters = Object.fromEntries(
    listParameters(config).map(({ name, shape }) => {
      const center = /ln_\w+\.weight$/.test(name) ? 1 : name.endsWith("noise_log_std") ? -0.5 : 0;
      const size = shape.reduce((a, b) => a * b, 1);
      return [
        name,
        makeFloat32Tensor(
          fill(size, () => center + 0.4 * random()),
          shape,
        ),
      ];
    }),
  );
  const tokens = () => Array.from({ length: B * T }, () => Math.floor(((random() + 1) / 2) * V));
  const noisy = config.variant.startsWith("noise");
  const noise = noisy
    ? Array.from({ length: config.n_layer }, () => fill(B * drawsOf(config) * T * T, () => 2 * random()))
    : [];
  return { parameters, ids: tokens(), labels: tokens(), noise };
}

/** L and dL/d(parameter) by our graph; parameters that L does not depend on have no entry. */
async function ours(config: ModelConfig, batch: Batch): Promise<{ loss: number; gradients: Tensors }> {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const inputs = declareTextInputs(graph, B, T);
  const { hidden } = gpt2(config, parameters, inputs, { kind: batch.noise.length > 0 ? "fed" : "mean" });
  const logits = lmHead(hidden, config, parameters); // [B·T, V]
  const labels = graph.input("labels", "int64", [B * T]);
  const loss = scale(reduceSum(pick(logSoftmax(logits), labels), [0]), -1 / (B * T));
  graph.output(loss, "loss");
  const targets = new Map(listParameters(config).map(({ name }) => [name, parameters(name)]));
  const gradients = backward(new Map([[loss, graph.scalar(1)]]), [...targets.values()]);
  for (const [name, target] of targets)
    if (gradients.has(target)) takeOutputGradient(gradients.get(target) as Value, `d.${name}`);
  const session = await Session.withInputs(graph);
  const noiseFeeds = batch.noise.map((data, i) => [`eps.${i}`, makeFloat32Tensor(data, [B, drawsOf(config), T, T])]);
  const feeds: Record<string, Tensor> = {
    input_ids: makeInt64Tensor(batch.ids, [B, T]),
    position_ids: makeInt64Tensor(
      batch.ids.map((_, i) => i % T),
      [B, T],
    ),
    labels: makeInt64Tensor(batch.labels, [B * T]),
    ...Object.fromEntries(noiseFeeds),
  };
  for (const [name, tensor] of Object.entries(batch.parameters))
    if (session.inputNames.includes(name)) feeds[name] = tensor;
  const { loss: value, ...rest } = await session.run(feeds);
  await session.close();
  return { loss: Number(value?.data[0]), gradients: rest };
}

type Lookup = (name: string) => tf.Tensor;

/** The same by TensorFlow.js; a constant mean is added to the scores as the paper writes it. */
function theirs(config: ModelConfig, batch: Batch): { loss: number; gradients: Record<string, Float32Array> } {
  return tf.tidy(() => {
    const names = Object.keys(batch.parameters);
    const tensors = names.map((name) => {
      const { data, shape } = batch.parameters[name] as Tensor;
      return tf.tensor(data as Float32Array, shape as number[]);
    });
    const lossOf = (...values: tf.Tensor[]) => loss(config, batch, (name) => values[names.indexOf(name)] as tf.Tensor);
    const { value, grads } = tf.valueAndGrads(lossOf)(tensors);
    const entries = names.map((name, i) => [name, (grads[i] as tf.Tensor).dataSync() as Float32Array] as const);
    return { loss: value.dataSync()[0] as number, gradients: Object.fromEntries(entries) };
  });
}

/** Mean cross entropy of the next tokens. */
function loss(config: ModelConfig, batch: Batch, p: Lookup): tf.Scalar {
  const positions = tf.tensor1d(
    batch.ids.map((_, i) => i % T),
    "int32",
  );
  let x = tf.add(tf.gather(p("wte.weight"), tf.tensor1d(batch.ids, "int32")), tf.gather(p("wpe.weight"), positions));
  for (let layer = 0; layer < config.n_layer; layer++) {
    const local: Lookup = (name) => p(`h.${layer}.${name}`);
    x = tf.add(x, attention(config, batch, layer, norm(x, "ln_1", local, config), local));
    const inner = activate(dense(norm(x, "ln_2", local, config), "mlp.c_fc", local), config.activation);
    x = tf.add(x, dense(inner, "mlp.c_proj", local));
  }
  const head = p(config.tied_head ? "wte.weight" : "lm_head.weight");
  const logits = tf.matMul(norm(x, "ln_f", p, config), head, false, true); // [B·T, V]
  const labels = tf.oneHot(tf.tensor1d(batch.labels, "int32"), V);
  return tf.neg(tf.mean(tf.sum(tf.mul(labels, tf.logSoftmax(logits)), 1)));
}

/** x·W + b, [N, in] → [N, out]. */
const dense = (x: tf.Tensor, name: string, p: Lookup) =>
  tf.add(tf.matMul(x as tf.Tensor2D, p(`${name}.weight`) as tf.Tensor2D), p(`${name}.bias`));

function norm(x: tf.Tensor, name: string, p: Lookup, { layer_norm_epsilon }: ModelConfig): tf.Tensor {
  const { mean, variance } = tf.moments(x, -1, true);
  const normalized = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, layer_norm_epsilon)));
  return tf.add(tf.mul(normalized, p(`${name}.weight`)), p(`${name}.bias`));
}

function activate(x: tf.Tensor, activation: Activation): tf.Tensor {
  switch (activation) {
    case "gelu_tanh": {
      const cubic = tf.mul(tf.pow(x, 3), 0.044715);
      return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(tf.add(x, cubic), Math.sqrt(2 / Math.PI))), 1));
    }
    case "gelu":
      return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));
    case "relu":
      return tf.relu(x);
    case "silu":
      return tf.mul(x, tf.sigmoid(x));
    case "tanh":
      return tf.tanh(x);
  }
}

/** P·v with P = softmax((q·kᵀ + μ + σ∘ε)/√D) over j ≤ i. */
function attention(config: ModelConfig, batch: Batch, layer: number, x: tf.Tensor, p: Lookup): tf.Tensor {
  const rank = config.qk_ranks?.[layer] ?? C / H;
  const separate = config.variant === "dense" || config.variant === "low-rank";
  const sizes = [...Array<number>(separate ? 2 : 1).fill(H * rank), C];
  const parts = tf.split(dense(x, "attn.c_attn", p), sizes, 1);
  const [q, k, v] = [parts[0], parts[parts.length - 2], parts[parts.length - 1]].map((part) =>
    tf.transpose(tf.reshape(part as tf.Tensor, [B, T, H, -1]), [0, 2, 1, 3]),
  ) as [tf.Tensor, tf.Tensor, tf.Tensor]; // [B, H, T, D]
  const form = config.variant === "pairwise" ? tf.reshape(p("attn.pair"), [1, H, C / H, C / H]) : null;
  const asked = form ? tf.matMul(q, tf.tile(form, [B, 1, 1, 1])) : q; // q or sA: [B, H, T, D]
  let scores = tf.matMul(asked, k, false, true); // [B, H, T, T]
  const epsilon = batch.noise[layer];
  if (epsilon) {
    const sigma = tf.reshape(tf.exp(p("attn.noise_log_std")), [-1, 1, 1]);
    scores = tf.add(scores, tf.mul(sigma, tf.tensor(epsilon, [B, drawsOf(config), T, T])));
    const mean = p("attn.noise_mean"); // [1 or H, 1 or 32]
    scores = tf.add(
      scores,
      config.variant === "noise-distance" ? tf.gather(mean, buckets(config), 1) : tf.reshape(mean, [-1, 1, 1]),
    );
  }
  const visible = tf.linalg.bandPart(tf.ones([T, T]), -1, 0);
  const masked = tf.add(tf.mul(scores, 1 / Math.sqrt(C / H)), tf.mul(tf.sub(visible, 1), 1e9));
  const mixed = tf.matMul(tf.softmax(masked), v); // [B, H, T, D]
  return dense(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [B * T, C]), "attn.c_proj", p);
}

/** T5's bucket of i − j, [T, T]; keys after the query count as distance 0. */
function buckets({ n_positions }: ModelConfig): tf.Tensor2D {
  const bucket = (d: number) =>
    d < 16 ? d : Math.min(31, 16 + Math.floor((16 * Math.log(d / 16)) / Math.log(n_positions / 16) + 1e-9));
  const table = Array.from({ length: T }, (_, i) => Array.from({ length: T }, (_, j) => bucket(Math.max(0, i - j))));
  return tf.tensor2d(table, [T, T], "int32");
}

beforeAll(async () => {
  tf.enableProdMode(); // without the advice to install native bindings
  await tf.setBackend("cpu");
});

describe("gradients of a tiny GPT-2", () => {
  const cases: [string, ModelConfig][] = [
    ...VARIANTS.map((variant): [string, ModelConfig] => [variant, configOf(variant)]),
    ...ACTIVATIONS.slice(1).map((activation): [string, ModelConfig] => [
      activation,
      configOf("symmetric", { activation }),
    ]),
    ["a head of its own", configOf("dense", { tied_head: false })],
  ];
  for (const [name, config] of cases)
    it(`the gradients of a tiny GPT-2 agree with TensorFlow.js: ${name}`, async () => {
      const batch = batchFor(config);
      const [mine, reference] = [await ours(config, batch), theirs(config, batch)];
      expect(Math.abs(mine.loss - reference.loss)).toBeLessThan(1e-5);
      for (const { name } of listParameters(config)) {
        const expected = reference.gradients[name] as Float32Array;
        const gradient = mine.gradients[`d.${name}`];
        const constantMean = name.endsWith("noise_mean") && config.variant !== "noise-distance";
        if (constantMean) {
          // The softmax cannot see it: none here, and rounding noise there.
          expect(gradient).toBeUndefined();
          expect(Math.max(...expected.map(Math.abs)), name).toBeLessThan(1e-6);
        } else expect(relativeError(gradient?.data as Float32Array, expected, 0), name).toBeLessThan(TOLERANCE);
      }
    });
});
