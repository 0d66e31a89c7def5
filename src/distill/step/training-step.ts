// Runs the training graph: feeds batch, weights, noise and parameters, and leaves the gradients in the parameter store.
import {
  makeFloat32Tensor,
  makeInt64Tensor,
  type Operands,
  Session,
  type SessionOptions,
  type Tensor,
  type Tensors,
} from "../../graph/session.ts";
import { makeTextFeeds } from "../../model/gpt2.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { buildStepGraph, nameGradient, nameHeadChunk, STEP, type StepGraph, type StepOptions } from "./step-graph.ts";
import { bindStore } from "./store-binding.ts";

/** A micro-batch: B windows of T tokens. */
interface StepBatch {
  inputs: Int32Array; // [B·T]
  labels: Int32Array; // [B·T], −1 where there is none
}

/** Sums over the rows of a micro-batch, in nats; or the weights of a row's. */
export type StepLosses = Record<"nll" | "kl", number>;

export interface TrainingStep {
  /**
   * Computes the gradients of one micro-batch into the store's `gradient` arrays; gives the losses' sums, in nats.
   * @param weights of a row's losses: (1 − kd)/rows with a label, kd·T²/rows
   * @param feeds the teacher's part, and `eps.N` [B, 1 or H, T, T] where noise is fed
   */
  run(batch: StepBatch, weights: StepLosses, feeds?: Operands): Promise<StepLosses>;
  close(): Promise<void>;
}

/** @param store holds all parameters of the student; those in `trained` with gradients */
export async function openTrainingStep(
  options: StepOptions,
  store: ParameterStore,
  sessionOptions: SessionOptions = {},
): Promise<TrainingStep> {
  const { batch, length, config, teacher } = options;
  const layout = buildStepGraph(options);
  const session = await Session.withInputs(layout.graph, { ...sessionOptions, outputs: "given", keepsWritten: true });
  const binding = bindStore(session, store, { batch, length, width: config.n_embd });
  const rows = batch * length;
  const head = chunkHead(store.slot(layout.headName).rounded, config.n_embd, layout, nameHeadChunk);
  const nll = new Float32Array(rows);
  const kl = new Float32Array(teacher ? rows : 0);
  const outputs: Tensors = {
    ...binding.gradients,
    ...(layout.headTrained && makeHeadOutputs(layout, store, [rows, config.n_embd])),
    [STEP.nll]: makeFloat32Tensor(nll, [rows]),
    ...(teacher && { [STEP.kl]: makeFloat32Tensor(kl, [rows]) }),
  };
  return {
    async run({ inputs, labels }, weights, feeds = {}) {
      const labeled = labels.map((label) => (label < 0 ? 0 : 1));
      const known = labels.map((label) => Math.max(0, label));
      const nllWeights = Float32Array.from(labeled, (on) => on * weights.nll);
      const klWeights = new Float32Array(rows).fill(weights.kl);
      await session.runInto(
        {
          ...binding.readParameters(),
          ...head,
          ...feeds,
          ...makeTextFeeds(inputs, [batch, length]),
          [STEP.labels]: makeInt64Tensor(known, [rows]),
          [STEP.nllWeight]: makeFloat32Tensor(nllWeights, [rows, 1]),
          ...(teacher && { [STEP.klWeight]: makeFloat32Tensor(klWeights, [rows, 1]) }),
        },
        outputs,
      );
      const { headName, headTrained } = layout;
      // A row without a label has weight 0, so that it adds zeros to row 0 of the head's matrix.
      if (headTrained) store.addRows(headName, outputs[STEP.labelRows]?.data as Float32Array, known);
      binding.addEmbeddingRows(inputs, { hasHeadGradient: headTrained && headName === "wte.weight" });
      return {
        nll: nll.reduce((sum, value, i) => (labeled[i] ? sum + value : sum), 0),
        kl: kl.reduce((sum, value) => sum + value, 0),
      };
    },
    close: () => session.close(),
  };
}

/** The rows of the head's matrix, or of its gradient, chunk by chunk. */
function chunkHead(
  matrix: Float32Array,
  width: number,
  { chunks }: StepGraph,
  nameChunk: (chunk: number) => string,
): Record<string, Tensor> {
  const tensors = chunks.map(({ first, count }, c): [string, Tensor] => {
    const rows = matrix.subarray(first * width, (first + count) * width);
    return [nameChunk(c), makeFloat32Tensor(rows, [count, width])];
  });
  return Object.fromEntries(tensors);
}

function makeHeadOutputs(layout: StepGraph, store: ParameterStore, [rows, width]: [number, number]) {
  const { gradient } = store.slot(layout.headName);
  const labelRows = makeFloat32Tensor(new Float32Array(rows * width), [rows, width]);
  return { ...chunkHead(gradient, width, layout, (c) => nameGradient(nameHeadChunk(c))), [STEP.labelRows]: labelRows };
}
