// The teacher's k most likely tokens at each position of a window, with log-probabilities over the whole vocabulary.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { sub } from "../../graph/ops.ts";
import type { SessionOptions } from "../../graph/session.ts";
import { concat, slice } from "../../graph/shape-ops.ts";
import type { ModelConfig } from "../../model/config.ts";
import { declareTextInputs, gpt2, lmHead, makeTextFeeds } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";
import { chunkedSoftmax } from "../step/distribution.ts";
import { openTeacherSession, type TeacherPrecision } from "./teacher.ts";

/** Largest temporary of the head, in elements: 64 MB. */
const HEAD_ELEMENTS = 16 * 2 ** 20;

export interface TopK {
  ids: BigInt64Array; // [T, k], most likely first
  logProbabilities: Float32Array; // [T, k]
}

export interface TopKOptions extends SessionOptions {
  length: number;
  k: number;
  precision: TeacherPrecision;
  /** Rows that go through the head at once. */
  rowsAtOnce?: number | undefined;
}

/** A frozen model whose noise is at the mean. */
export interface TopKTeacher {
  /** Finds tokens, the most likely ones or drawn ones, after each of the T tokens of one window of the corpus. */
  run(inputs: Int32Array, window: number): Promise<TopK>;
  close(): Promise<void>;
}

export async function openTopKTeacher(checkpoint: Checkpoint, options: TopKOptions): Promise<TopKTeacher> {
  const graph = buildTopKGraph(checkpoint.config, options);
  const session = await openTeacherSession(graph, checkpoint, options.precision, options);
  return {
    async run(inputs) {
      const { ids, log_probabilities } = await session.run(makeTextFeeds(inputs, [1, options.length]));
      return { ids: ids?.data as BigInt64Array, logProbabilities: log_probabilities?.data as Float32Array };
    },
    close: () => session.close(),
  };
}

/** Rows that go through the head at once. */
export function countHeadRows({ vocab_size }: ModelConfig, { rowsAtOnce }: Pick<TopKOptions, "rowsAtOnce">): number {
  return rowsAtOnce ?? Math.max(1, Math.floor(HEAD_ELEMENTS / vocab_size));
}

/** ids and ln softmax(z) of the k largest logits z, the rows in blocks. */
function buildTopKGraph(config: ModelConfig, options: TopKOptions): Graph {
  const { length, k } = options;
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const { hidden } = gpt2(config, parameters, declareTextInputs(graph, 1, length), { kind: "mean" }); // [T, C]
  const rows = countHeadRows(config, options);
  const ids: Value[] = [];
  const logProbabilities: Value[] = [];
  for (let start = 0; start < length; start += rows) {
    const end = Math.min(length, start + rows);
    const part = start === 0 && end === length ? hidden : slice(hidden, 0, start, end);
    const logits = lmHead(part, config, parameters); // [n, V]
    const [largest, where] = selectTopK(logits, k); // [n, k]
    ids.push(where);
    logProbabilities.push(sub(largest, chunkedSoftmax([logits]).logNormalizer));
  }
  graph.output(concat(ids, 0), "ids"); // [T, k]
  graph.output(concat(logProbabilities, 0), "log_probabilities"); // [T, k]
  return graph;
}

/** The k largest entries of each row, in falling order, and where they are: [n, k] float32 and int64. */
function selectTopK(x: Value, k: number): [Value, Value] {
  const shape = [...x.shape.slice(0, -1), k];
  return x.graph.node({
    op: "TopK",
    inputs: [x, x.graph.ints([k])],
    outputs: [
      { dtype: x.dtype, shape },
      { dtype: "int64", shape },
    ],
  }) as [Value, Value];
}
