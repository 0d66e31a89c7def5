// Runs the teacher in a session of its own: the student's step is fed its final hidden states and its head.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { matchTokens } from "../../checkpoint/match-tokens.ts";
import { NfcError } from "../../errors.ts";
import { countElements } from "../../formats/dtype.ts";
import { Graph, pruneGraph } from "../../graph/ir.ts";
import { type Int8Graph, quantize, quantizeWeights, toInt8Graph, transposeMatrix } from "../../graph/passes/int8.ts";
import {
  makeFloat32Tensor,
  type Operand,
  Session,
  type SessionOptions,
  type Tensor,
  type TensorArray,
} from "../../graph/session.ts";
import { declareTextInputs, gpt2, makeTextFeeds } from "../../model/gpt2.ts";
import { makeParameterLookup, type ParameterLookup } from "../../model/layers.ts";
import { nameHead } from "../../model/parameters.ts";
import { type HeadChunk, nameTeacherChunk, nameTeacherScales, STEP, type TeacherInput } from "../step/step-graph.ts";
import type { TrainSettings } from "../train-settings.ts";

export type TeacherPrecision = TrainSettings["teacherPrecision"];

export interface TeacherOptions extends SessionOptions {
  batch: number;
  length: number;
  /** The vocabulary's chunks in the student's step. */
  chunks: readonly HeadChunk[];
  /** Precision of the teacher's matrix products, the head's included; fp32 unless given. */
  precision?: TeacherPrecision | undefined;
}

/** A teacher, run or read from a cache, that a step learns from besides the labels. */
export interface TeacherSource {
  readonly input: TeacherInput;
  /** The teacher's feeds of the student's step for one micro-batch: inputs [B·T], windows' indices in the corpus [B]. */
  feeds(inputs: Int32Array, windows: Int32Array): Promise<Record<string, Operand>>;
  close(): Promise<void>;
}

/** Opens a frozen model whose distribution the student learns; its noise is at the mean. */
export async function openTeacher(checkpoint: Checkpoint, options: TeacherOptions) {
  const { config } = checkpoint;
  const { batch, length, precision = "fp32" } = options;
  const matrix = await checkpoint.readF32(nameHead(config)); // [V, C]
  const graph = new Graph();
  const inputs = declareTextInputs(graph, batch, length);
  const parameters = makeParameterLookup(graph, config);
  const embedding = config.tied_head && precision === "fp32" ? feedEmbedding(parameters, graph, matrix) : null;
  graph.output(gpt2(config, embedding?.parameters ?? parameters, inputs, { kind: "mean" }).hidden, "hidden");
  const head = makeHeadTensors(matrix, config.n_embd, options);
  const session = await openTeacherSession(graph, checkpoint, precision, options);
  const { n_embd } = config;
  const hidden = makeFloat32Tensor(new Float32Array(batch * length * n_embd), [batch * length, n_embd]);
  return {
    input: { kind: "hidden", n_embd, precision },
    async feeds(ids: Int32Array): Promise<Record<string, Tensor>> {
      await session.run({ ...makeTextFeeds(ids, [batch, length]), ...embedding?.feed }, { hidden });
      return { [STEP.teacherHidden]: hidden, ...head };
    },
    close: () => session.close(),
  } satisfies TeacherSource;
}

const EMBEDDING = "wte.weight";

/** Makes the token embedding an input, so that the session does not keep a copy of what is the head's matrix too. */
function feedEmbedding(parameters: ParameterLookup, graph: Graph, matrix: Float32Array) {
  const { shape } = parameters(EMBEDDING);
  const input = graph.input(`fed/${EMBEDDING}`, "float32", shape);
  const lookup = (name: string) => (name === EMBEDDING ? input : parameters(name));
  return {
    parameters: Object.assign(lookup, { has: parameters.has }),
    feed: { [input.name]: makeFloat32Tensor(matrix, shape as number[]) },
  };
}

/** The head's matrix [V, C] in chunks: [v, C], or in int8 [C, v] with its scales [v]. */
function makeHeadTensors(matrix: Float32Array, width: number, options: TeacherOptions): Record<string, Tensor> {
  const { chunks, precision = "fp32" } = options;
  const entries = chunks.flatMap(({ first, count }, c): [string, Tensor][] => {
    const rows = matrix.subarray(first * width, (first + count) * width);
    if (precision === "fp32") return [[nameTeacherChunk(c), makeFloat32Tensor(rows, [count, width])]];
    const { values, scales } = transposeMatrix(quantize(rows, [count, width], { byRow: true }));
    return [
      [nameTeacherChunk(c), { dtype: "int8", data: values, shape: [width, count] }],
      [nameTeacherScales(c), makeFloat32Tensor(scales, [count])],
    ];
  });
  return Object.fromEntries(entries);
}

/** Opens a session that owns the weights of a frozen model's graph; in int8 those that no product reads stay float32. */
export async function openTeacherSession(
  graph: Graph,
  checkpoint: Checkpoint,
  precision: TeacherPrecision,
  options: SessionOptions,
): Promise<Session> {
  const built: Int8Graph = precision === "int8" ? toInt8Graph(graph) : { graph, sources: new Map() };
  const weights = await quantizeWeights(built, (name) => checkpoint.readF32(name));
  const plain = pruneGraph(built.graph).parameters.filter(({ name }) => !weights.has(name));
  // One array for all goes back to the system as a whole, when the session has its copy: small ones would leave holes.
  const room = new Float32Array(plain.reduce((sum, { shape }) => sum + countElements(shape as number[]), 0));
  let start = 0;
  for (const { name } of plain) {
    const values = await checkpoint.readF32(name);
    room.set(values, start);
    weights.set(name, room.subarray(start, start + values.length));
    start += values.length;
  }
  return Session.withWeights(built.graph, ({ name }) => weights.get(name) as TensorArray, options);
}

type ModelSource = Pick<Checkpoint, "source" | "config">;

/**
 * The options with a teacher that is asked about the student's token ids: where the student's vocabulary was cut, the
 * teacher's is cut to the same tokens, and its distribution is that among them.
 * @throws NfcError "mismatch" as `matchTokens`
 */
export async function withMatchingTeacher<Options extends { teacher?: Checkpoint | null | undefined }>(
  student: Checkpoint,
  options: Options,
): Promise<Options> {
  return options.teacher ? { ...options, teacher: await matchTokens(student, options.teacher) } : options;
}

/**
 * Checks that a teacher can be asked about the student's token ids.
 * @throws NfcError "mismatch" for another vocabulary, or fewer positions than the `length` tokens that are read at a time
 */
export function checkTeacherFits(student: ModelSource, teacher: ModelSource, length: number): void {
  const [own, other] = [student.config, teacher.config];
  if (own.vocab_size !== other.vocab_size)
    throw new NfcError(
      "mismatch",
      `${student.source} has ${own.vocab_size} tokens, its teacher ${teacher.source} ${other.vocab_size}`,
      { hint: "the teacher must have the student's vocabulary" },
    );
  if (length > other.n_positions)
    throw new NfcError(
      "mismatch",
      `windows of ${length} tokens, but the teacher ${teacher.source} has ${other.n_positions} positions`,
      { hint: "give a smaller --length" },
    );
}
