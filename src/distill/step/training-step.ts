// Runs the training graph: feeds batch, weights, noise and parameters, and leaves the gradients in the parameter store.
import { makeFloat32Tensor, makeInt64Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { buildStepGraph, nameGradient, nameHeadChunk, STEP, type StepGraph, type StepOptions } from "./step-graph.ts";
import { bindStore, type StoreBinding } from "./store-binding.ts";

/** A micro-batch: B windows of T tokens. */
export interface StepBatch {
  inputs: Int32Array; // [B·T]
  labels: Int32Array; // [B·T], −1 where there is none
}

/** Weights of a row's losses: (1 − kd)/rows with a label, kd·T²/rows. */
export interface LossWeights {
  nll: number;
  kl: number;
}

/** Sums over the rows of a micro-batch, in nats. */
export interface StepLosses {
  nll: number;
  kl: number;
}

export class TrainingStep {
  private readonly options: StepOptions;
  private readonly layout: StepGraph;
  private readonly session: Session;
  private readonly store: ParameterStore;
  private readonly binding: StoreBinding;
  private readonly feeds: Record<string, Tensor>;
  private readonly outputs: Record<string, Tensor>;

  private constructor(options: StepOptions, layout: StepGraph, session: Session, store: ParameterStore) {
    const { batch, length, config } = options;
    this.options = options;
    this.layout = layout;
    this.session = session;
    this.store = store;
    this.binding = bindStore(session, store, { batch, length, width: config.n_embd });
    const positions = Int32Array.from({ length: batch * length }, (_, i) => i % length);
    this.feeds = {
      ...this.binding.parameters,
      position_ids: makeInt64Tensor(positions, [batch, length]),
      ...this.chunkHead(store.value(layout.headName), nameHeadChunk),
    };
    this.outputs = { ...this.binding.gradients, ...(layout.headTrained && this.makeHeadOutputs()) };
  }

  /** @param store holds all parameters of the student; those in `trained` with gradients */
  static async open(options: StepOptions, store: ParameterStore, session: SessionOptions = {}): Promise<TrainingStep> {
    const layout = buildStepGraph(options);
    return new TrainingStep(options, layout, await Session.withInputs(layout.graph, session), store);
  }

  /**
   * Computes the gradients of one micro-batch into the store's `gradient` arrays.
   * @param feeds the teacher's part, and `eps.N` [B, 1 or H, T, T] where noise is fed
   */
  async run(batch: StepBatch, weights: LossWeights, feeds: Readonly<Record<string, Tensor>> = {}): Promise<StepLosses> {
    const { batch: windows, length, teacher } = this.options;
    const rows = windows * length;
    const labeled = batch.labels.map((label) => (label < 0 ? 0 : 1));
    const output = await this.session.run(
      {
        ...this.feeds,
        ...feeds,
        input_ids: makeInt64Tensor(batch.inputs, [windows, length]),
        [STEP.labels]: makeInt64Tensor(
          batch.labels.map((label) => Math.max(0, label)),
          [rows],
        ),
        [STEP.nllWeight]: makeFloat32Tensor(
          Float32Array.from(labeled, (on) => on * weights.nll),
          [rows, 1],
        ),
        ...(teacher && { [STEP.klWeight]: makeFloat32Tensor(new Float32Array(rows).fill(weights.kl), [rows, 1]) }),
      },
      this.outputs,
    );
    this.addRows(batch, labeled);
    const nll = (output[STEP.nll] as Tensor).data as Float32Array;
    return {
      nll: nll.reduce((sum, value, i) => (labeled[i] ? sum + value : sum), 0),
      kl: ((output[STEP.kl]?.data ?? []) as Float32Array).reduce((sum, value) => sum + value, 0),
    };
  }

  close(): Promise<void> {
    return this.session.close();
  }

  /** The rows of the head's matrix, or of its gradient, chunk by chunk. */
  private chunkHead(matrix: Float32Array, nameChunk: (chunk: number) => string): Record<string, Tensor> {
    const width = this.options.config.n_embd;
    const chunks = this.layout.chunks.map(({ first, count }, c): [string, Tensor] => {
      const rows = matrix.subarray(first * width, (first + count) * width);
      return [nameChunk(c), makeFloat32Tensor(rows, [count, width])];
    });
    return Object.fromEntries(chunks);
  }

  private makeHeadOutputs(): Record<string, Tensor> {
    const { batch, length, config } = this.options;
    const { gradient } = this.store.slot(this.layout.headName);
    const rows = makeFloat32Tensor(new Float32Array(batch * length * config.n_embd), [batch * length, config.n_embd]);
    return { ...this.chunkHead(gradient, (chunk) => nameGradient(nameHeadChunk(chunk))), [STEP.labelRows]: rows };
  }

  /** Adds the sparse part of the embeddings' gradients: labels' rows of the head's matrix, inputs' rows of wte. */
  private addRows({ inputs, labels }: StepBatch, labeled: Int32Array): void {
    const { headName, headTrained } = this.layout;
    // A row without a label has weight 0, so that it adds zeros to row 0.
    if (headTrained)
      this.store.addRows(
        headName,
        this.outputs[STEP.labelRows]?.data as Float32Array,
        labels.map((label, i) => (labeled[i] ? label : 0)),
      );
    this.binding.addEmbeddingRows(inputs, { hasHeadGradient: headTrained && headName === "wte.weight" });
  }
}
