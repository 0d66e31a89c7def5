// Runs a classifier over a task's examples, and scores its logits.

import { type Checkpoint, readWeights } from "../checkpoint/checkpoint.ts";
import { describeBriefly, makeNotFiniteError, NfcError, throwIfAborted } from "../errors.ts";
import { Graph, type Value } from "../graph/ir.ts";
import {
  makeInt64Tensor,
  type Operand,
  type Operands,
  Session,
  type SessionOptions,
  type Tensor,
  type Tensors,
} from "../graph/session.ts";
import { classifier } from "../model/classifier.ts";
import type { ModelConfig } from "../model/config.ts";
import { declareTextInputs, makeTextFeeds } from "../model/gpt2.ts";
import { makeParameterLookup } from "../model/layers.ts";
import { listParameters } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import { batchExamples, type EncodedExample, type ExampleBatch } from "./examples.ts";
import type { Task } from "./glue-tasks.ts";
import { type Answers, bootstrap, computeMetric, countConfusion, type MetricName } from "./metrics.ts";

const BATCH = 32;

export interface TaskScore {
  examples: number;
  /** Mean cross-entropy in nats, or squared error of a regression. */
  loss: number;
  /** By name, the task's own first; null where one is not defined. */
  metrics: Partial<Record<MetricName, number | null>>;
  /** 95 % bootstrap interval of the task's own metric. */
  interval: readonly [number, number] | null;
  /** Counts [actual][predicted]; null for a regression. */
  confusion: number[][] | null;
}

export interface ClassifyOptions extends LongCall {
  /** Most tokens of a text. */
  length: number;
}

/** A classifier that is ready to read texts. */
export class Classifier {
  readonly config: ModelConfig;
  private readonly session: Session;
  private readonly feeds: (batch: ExampleBatch) => Operands;
  /** The exported file, which may not be what it says. */
  private readonly file: string | undefined;

  private constructor(config: ModelConfig, session: Session, feeds: Classifier["feeds"], file?: string) {
    this.config = config;
    this.session = session;
    this.feeds = feeds;
    this.file = file;
  }

  /** Opens a stored model. @throws NfcError "unsupported" for a model without score.weight */
  static async ofCheckpoint(checkpoint: Checkpoint, options: SessionOptions = {}): Promise<Classifier> {
    if (!checkpoint.config.labels)
      throw new NfcError("unsupported", `${checkpoint.source}: is a language model, it has no score.weight`, {
        hint: "make a classifier of it first: nfc finetune --task",
      });
    const weights = await readWeights(checkpoint);
    const weightOf = ({ name }: Value) => weights.get(name) as Float32Array;
    const session = await Session.withWeights(buildLogitsGraph(checkpoint.config), weightOf, options);
    return new Classifier(checkpoint.config, session, makeBatchFeeds);
  }

  /** Opens a model in training. @param weightOf gives a weight where it lies, at each call @internal */
  static async live(
    config: ModelConfig,
    weightOf: (name: string) => Operand,
    options: SessionOptions = {},
  ): Promise<Classifier> {
    const session = await Session.withInputs(buildLogitsGraph(config), options);
    const names = listParameters(config).flatMap(({ name }) => (session.inputNames.includes(name) ? [name] : []));
    const read = () => Object.fromEntries(names.map((name) => [name, weightOf(name)]));
    return new Classifier(config, session, (batch) => ({ ...read(), ...makeBatchFeeds(batch) }));
  }

  /** Opens an exported file. @throws NfcError "invalid-file" where ONNX Runtime refuses it */
  static async ofFile(config: ModelConfig, path: string, options: SessionOptions = {}): Promise<Classifier> {
    return new Classifier(config, await Session.fromFile(path, options), makeMaskedFeeds, path);
  }

  /** Logits [N, labels] in the order of the examples. @throws NfcError "aborted" */
  async logits(examples: readonly EncodedExample[], options: ClassifyOptions): Promise<Float32Array> {
    const { length, signal, onProgress } = options;
    const width = (this.config.labels as readonly string[]).length;
    const out = new Float32Array(examples.length * width);
    let done = 0;
    for (const batch of batchExamples(examples, { batchSize: Math.min(BATCH, examples.length), length })) {
      throwIfAborted(signal);
      const data = await this.run(batch);
      for (const [row, index] of batch.indices.entries())
        out.set(data.subarray(row * width, (row + 1) * width), index * width);
      done += batch.count;
      onProgress?.({ phase: "classifying", done, total: examples.length, unit: "steps" });
    }
    return out;
  }

  close(): Promise<void> {
    return this.session.close();
  }

  /** Logits [B, labels] of a batch. @throws NfcError "invalid-file" for an exported file that does not compute them */
  private async run(batch: ExampleBatch): Promise<Float32Array> {
    const invalid = (fact: string, cause?: unknown) =>
      new NfcError("invalid-file", `${this.file}: ${fact}`, { hint: "export the classifier again", cause });
    const { logits } = await this.session.run(this.feeds(batch)).catch((error: unknown) => {
      throw this.file === undefined || error instanceof NfcError
        ? error
        : invalid(`does not run: ${describeBriefly(error)}`, error);
    });
    const { data, shape } = logits as Tensor;
    const expected = [batch.last.length, this.config.labels?.length];
    if (String(shape) === String(expected)) return data as Float32Array;
    throw invalid(`its graph computes logits [${shape.join(", ")}], not [${expected.join(", ")}]`);
  }
}

/** Inputs input_ids, position_ids [B, T] and last [B]; output logits [B, labels]. */
function buildLogitsGraph(config: ModelConfig): Graph {
  const graph = new Graph();
  const inputs = declareTextInputs(graph);
  const last = graph.input("last", "int64", ["batch_size"]);
  const { logits } = classifier(config, makeParameterLookup(graph, config), inputs, { last, noise: { kind: "mean" } });
  graph.output(logits, "logits");
  return graph;
}

/** Feeds a batch to the graph of a classifier. */
export function makeBatchFeeds({ ids, last, length }: ExampleBatch): Tensors {
  return { ...makeTextFeeds(ids, [last.length, length]), last: makeInt64Tensor(last, [last.length]) };
}

/** Feeds a batch to an exported classifier: ids, and a mask of 1 up to each row's last token. */
function makeMaskedFeeds({ ids, last, length }: ExampleBatch): Tensors {
  const shape = [last.length, length];
  const mask = ids.map((_, i) => (i <= (last[Math.floor(i / length)] as number) ? 1 : 0));
  return { input_ids: makeInt64Tensor(ids, shape), attention_mask: makeInt64Tensor(mask, shape) };
}

/** -ln softmax(z)[label], or (z − label)² of a regression, for row `row` of logits [·, width]. */
export function computeRowLoss(logits: Float32Array, row: number, width: number, label: number): number {
  const z = logits.subarray(row * width, (row + 1) * width);
  if (width === 1) return ((z[0] as number) - label) ** 2;
  const most = Math.max(...z);
  return most + Math.log(z.reduce((sum, value) => sum + Math.exp(value - most), 0)) - (z[label] as number);
}

/**
 * @param logits [N, labels], of these examples in their order
 * @param options `interval: false` leaves the interval out, which takes a thousand times as long as the metrics
 * @throws NfcError "invalid-file" if one is not finite
 */
export function scoreAnswers(
  task: Task,
  examples: readonly EncodedExample[],
  logits: Float32Array,
  { interval = true }: { interval?: boolean | undefined } = {},
): TaskScore {
  if (!logits.every(Number.isFinite)) throw makeNotFiniteError(`${task.title}: the model's logits are not finite`);
  const width = logits.length / examples.length;
  const regression = width === 1;
  const answers: Answers = {
    actual: Float64Array.from(examples, ({ label }) => label),
    predicted: regression
      ? logits
      : Float64Array.from(examples, (_, row) => {
          const z = logits.subarray(row * width, (row + 1) * width);
          return z.indexOf(Math.max(...z));
        }),
  };
  const losses = examples.map(({ label }, row) => computeRowLoss(logits, row, width, label));
  const value = (name: MetricName) => {
    const found = computeMetric(name, answers);
    return Number.isNaN(found) ? null : found;
  };
  return {
    examples: examples.length,
    loss: losses.reduce((a, b) => a + b, 0) / examples.length,
    metrics: Object.fromEntries(task.metrics.map((name) => [name, value(name)])),
    interval: interval ? bootstrap(task.metrics[0], answers) : null,
    confusion: regression ? null : countConfusion(answers, width),
  };
}
