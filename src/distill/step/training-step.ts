// Runs the training graph: feeds batch, weights, noise and parameters, and leaves the gradients in the parameter store.
import { makeFloat32Tensor, makeInt64Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { buildStepGraph, nameGradient, nameHeadChunk, STEP, type StepGraph, type StepOptions } from "./step-graph.ts";

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
  readonly layout: StepGraph;
  private readonly options: StepOptions;
  private readonly session: Session;
  private readonly store: ParameterStore;
  private readonly constant: Record<string, Tensor>;
  private readonly into: Record<string, Tensor>;

  private constructor(options: StepOptions, layout: StepGraph, session: Session, store: ParameterStore) {
    this.options = options;
    this.layout = layout;
    this.session = session;
    this.store = store;
    this.constant = this.constantFeeds();
    this.into = this.outputs();
  }

  /** The store holds all parameters of the student; those in `trained` with gradients. */
  static async open(options: StepOptions, store: ParameterStore, session: SessionOptions = {}): Promise<TrainingStep> {
    const layout = buildStepGraph(options);
    return new TrainingStep(options, layout, await Session.withInputs(layout.graph, session), store);
  }

  /**
   * Gradients of one micro-batch into the store's `gradient` arrays.
   * @param feeds the teacher's part, and `eps.N` [B, 1 or H, T, T] where noise is fed
   */
  async run(batch: StepBatch, weights: LossWeights, feeds: Readonly<Record<string, Tensor>> = {}): Promise<StepLosses> {
    const { batch: windows, length, teacher } = this.options;
    const rows = windows * length;
    const labeled = batch.labels.map((label) => (label < 0 ? 0 : 1));
    const output = await this.session.run(
      {
        ...this.constant,
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
      this.into,
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

  private constantFeeds(): Record<string, Tensor> {
    const { batch, length, config } = this.options;
    const { headName, chunks } = this.layout;
    const positions = Int32Array.from({ length: batch * length }, (_, i) => i % length);
    const feeds: Record<string, Tensor> = { position_ids: makeInt64Tensor(positions, [batch, length]) };
    for (const name of this.session.inputNames)
      if (this.store.names.includes(name))
        feeds[name] = makeFloat32Tensor(this.store.value(name), this.store.slot(name).shape);
    const head = this.store.value(headName);
    for (const [c, { first, count }] of chunks.entries())
      feeds[nameHeadChunk(c)] = makeFloat32Tensor(viewRows(head, first, count, config.n_embd), [count, config.n_embd]);
    return feeds;
  }

  /** The arrays that the gradients are written to: those of the store, and two for the rows that are added there. */
  private outputs(): Record<string, Tensor> {
    const { config, batch, length } = this.options;
    const { headName, chunks, direct, headTrained, tokensTrained, positionsTrained } = this.layout;
    const width = config.n_embd;
    const into: Record<string, Tensor> = {};
    for (const name of direct) {
      const { gradient, shape } = this.store.slot(name);
      into[nameGradient(name)] = makeFloat32Tensor(gradient, shape);
    }
    const rows = () => makeFloat32Tensor(new Float32Array(batch * length * width), [batch * length, width]);
    if (headTrained) {
      const { gradient } = this.store.slot(headName);
      for (const [c, { first, count }] of chunks.entries())
        into[nameGradient(nameHeadChunk(c))] = makeFloat32Tensor(viewRows(gradient, first, count, width), [
          count,
          width,
        ]);
      into[STEP.labelRows] = rows();
    }
    if (tokensTrained) into[STEP.embeddingRows] = rows();
    // Positions beyond T have no gradient: their rows stay 0.
    if (positionsTrained)
      into[nameGradient("wpe.weight")] = makeFloat32Tensor(
        viewRows(this.store.slot("wpe.weight").gradient, 0, length, width),
        [length, width],
      );
    return into;
  }

  /** The sparse part of the embeddings' gradients: the labels' rows of the head's matrix, the inputs' rows of wte. */
  private addRows({ inputs, labels }: StepBatch, labeled: Int32Array): void {
    const { headName, headTrained, tokensTrained } = this.layout;
    const rows = (name: string) => (this.into[name] as Tensor).data as Float32Array;
    // A row without a label has weight 0: it adds zeros to row 0.
    if (headTrained)
      this.store.addRows(
        headName,
        rows(STEP.labelRows),
        labels.map((label, i) => (labeled[i] ? label : 0)),
      );
    if (!tokensTrained) return;
    // Where the head has a matrix of its own, nothing else writes this gradient.
    if (headName !== "wte.weight" || !headTrained) this.store.slot("wte.weight").gradient.fill(0);
    this.store.addRows("wte.weight", rows(STEP.embeddingRows), inputs);
  }
}

function viewRows(matrix: Float32Array, first: number, count: number, width: number): Float32Array {
  return matrix.subarray(first * width, (first + count) * width);
}
