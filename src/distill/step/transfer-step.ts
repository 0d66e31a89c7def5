// Attention transfer: every layer's attention learns the teacher's on the teacher's own hidden states, layer by layer.
import { backward, takeOutputGradient } from "../../graph/autodiff/backward.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { logSoftmax, mul, reduceSum, scale, sub } from "../../graph/ops.ts";
import { makeFloat32Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import { attention, buildAttentionContext, computeScoreScale } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { block, declareTextInputs, embed, makeTextFeeds } from "../../model/gpt2.ts";
import { getHeadWidths } from "../../model/head-widths.ts";
import { makeLayerLookup, makeParameterLookup, norm } from "../../model/layers.ts";
import { isUsedAtMean, listParameters } from "../../model/parameters.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { nameGradient } from "./step-graph.ts";
import { makeParameter } from "./store-binding.ts";

export interface TransferOptions extends SessionOptions {
  student: ModelConfig;
  teacher: ModelConfig;
  teacherWeights: ReadonlyMap<string, Float32Array>;
  batch: number;
  length: number;
}

/** The parameters of a layer that make the attention scores. V's half of c_attn gets a gradient of zeros. */
const TARGETS = ["attn.c_attn.weight", "attn.c_attn.bias", "attn.pair", "attn.noise_mean"] as const;

/** The parameters that the transfer trains, by their full names. */
export function listTransferTargets(config: ModelConfig): string[] {
  return Array.from({ length: config.n_layer }, (_, layer) =>
    listLayerTargets(config).map((name) => `h.${layer}.${name}`),
  ).flat();
}

function listLayerTargets(config: ModelConfig): string[] {
  const stored = new Set(listParameters(config).map(({ name }) => name));
  return TARGETS.filter((name) => stored.has(`h.0.${name}`) && isUsedAtMean(name, config));
}

export interface TransferStep {
  /** Names of the parameters that get a gradient. */
  readonly targets: readonly string[];
  /** Computes the gradients of one micro-batch [B·T], times `weight`; gives the loss summed over layers, in nats. */
  run(inputs: Int32Array, weight: number): Promise<number>;
  close(): Promise<void>;
}

/**
 * L = Σ over layers of the mean over heads and positions of KL(P_teacher ‖ P_student), noise at the mean. One session
 * serves all layers: a layer's weights are fed, so that memory holds one layer's attention maps.
 */
export async function openTransferStep(options: TransferOptions, store: ParameterStore): Promise<TransferStep> {
  const { student, batch, length } = options;
  const layers = await openLayerSessions(options);
  const embedding = await Session.withInputs(buildEmbeddingGraph(options), options);
  const readParameters = makeParameterReader(options, store);
  const makeStream = () =>
    makeFloat32Tensor(new Float32Array(batch * length * student.n_embd), [batch * length, student.n_embd]);
  /** The residual stream, read and written by turns: [N, C] each. */
  const streams = [makeStream(), makeStream()] as const;
  return {
    targets: listTransferTargets(student),
    async run(inputs, weight) {
      const feeds = makeTextFeeds(inputs, [batch, length]);
      await embedding.run({ ...feeds, ...readParameters(embedding, (name) => name) }, { output: streams[0] });
      const factor = makeFloat32Tensor(new Float32Array([weight]), []);
      let total = 0;
      for (const [layer, { session, builtFor }] of layers.entries()) {
        const named = (name: string) => name.replace(`h.${builtFor}.`, `h.${layer}.`);
        const [read, write] = layer % 2 === 0 ? streams : [streams[1], streams[0]];
        const into: Record<string, Tensor> = { output: write };
        for (const name of listLayerTargets(student)) {
          const { gradient, shape } = store.slot(`h.${layer}.${name}`);
          into[nameGradient(name)] = makeFloat32Tensor(gradient, shape);
        }
        const output = await session.run({ x: read, weight: factor, ...readParameters(session, named) }, into);
        total += ((output.loss as Tensor).data as Float32Array)[0] as number;
      }
      return total;
    },
    async close() {
      for (const session of new Set([embedding, ...layers.map((layer) => layer.session)])) await session.close();
    },
  };
}

/** A session for all layers whose scores have the same factor; its inputs are named after layer `builtFor`. */
interface TransferSession {
  session: Session;
  builtFor: number;
}

/** The session of each layer: one serves all that have the same factor on the scores, and heads as wide. */
async function openLayerSessions(options: TransferOptions): Promise<TransferSession[]> {
  const alike = new Map<string, TransferSession>();
  const layers: TransferSession[] = [];
  for (let layer = 0; layer < options.student.n_layer; layer++) {
    const kind = JSON.stringify(
      [options.student, options.teacher].map((config) => [
        computeScoreScale(config, layer),
        getHeadWidths(config, layer),
      ]),
    );
    const session = alike.get(kind) ?? {
      session: await Session.withInputs(buildTransferGraph(options, layer), options),
      builtFor: layer,
    };
    alike.set(kind, session);
    layers.push(session);
  }
  return layers;
}

/** Makes a function that feeds a session the parameters that it asks for, `named` as in the model. */
function makeParameterReader({ teacher, teacherWeights }: TransferOptions, store: ParameterStore) {
  const shapes = new Map(listParameters(teacher).map(({ name, shape }) => [name, shape]));
  return (session: Session, named: (name: string) => string): Record<string, Tensor> => {
    const feeds: Record<string, Tensor> = {};
    for (const input of session.inputNames) {
      const name = named(input.slice(input.indexOf("/") + 1));
      if (input.startsWith(STUDENT)) feeds[input] = makeParameter(store, name);
      if (input.startsWith(TEACHER))
        feeds[input] = makeFloat32Tensor(
          teacherWeights.get(name) as Float32Array,
          shapes.get(name) as readonly number[],
        );
    }
    return feeds;
  };
}

const STUDENT = "student/";
const TEACHER = "teacher/";

/** wte[ids] + wpe[positions] of the teacher: [N, C] */
function buildEmbeddingGraph({ teacher, batch, length }: TransferOptions): Graph {
  const graph = new Graph();
  graph.output(embed(makeParameterLookup(graph, teacher, TEACHER), declareTextInputs(graph, batch, length)), "output");
  return graph;
}

/**
 * One block of the teacher on x, and the student's attention on the same x after its own ln_1. With row weight w:
 * dL/dscore = w·(P_student − P_teacher).
 */
function buildTransferGraph({ student, teacher, batch, length }: TransferOptions, layer: number): Graph {
  const graph = new Graph();
  const x = graph.input("x", "float32", [batch * length, teacher.n_embd]);
  const weight = graph.input("weight", "float32", []);
  const ids = graph.constant(new BigInt64Array(batch * length), [batch, length], "int64"); // only its shape is read
  const contextOf = (config: ModelConfig) =>
    buildAttentionContext(config, { ids, attentionMask: null }, { kind: "mean" });
  const own = makeLayerLookup(makeParameterLookup(graph, student, STUDENT), layer);
  const taught = block(
    x,
    makeLayerLookup(makeParameterLookup(graph, teacher, TEACHER), layer),
    contextOf(teacher),
    layer,
  );
  const learned = attention(norm(x, "ln_1", own, student), own, contextOf(student), layer);
  const [logTeacher, logStudent] = [logSoftmax(taught.attention.scores), logSoftmax(learned.scores)];
  // 1/(B·H·T): the mean over windows, heads and queries
  const mean = 1 / (batch * length * teacher.n_head);
  const divergence = mul(taught.attention.probabilities, sub(logTeacher, logStudent)); // [B, H, T, T]
  graph.output(scale(reduceSum(divergence, [0, 1, 2, 3]), mean), "loss"); // []
  const difference = sub(learned.probabilities, taught.attention.probabilities); // [B, H, T, T]
  const names = listLayerTargets(student);
  const gradients = backward(
    new Map([[learned.scores, mul(difference, scale(weight, mean))]]),
    names.map((name) => own(name)),
  );
  for (const name of names) takeOutputGradient(gradients.get(own(name)) as Value, nameGradient(name));
  graph.output(taught.output, "output"); // [N, C]
  return graph;
}
