// The teacher in a session of its own: its final hidden states and its head are what the student's step is fed.
import { Graph, type Value } from "../graph/ir.ts";
import { float32Tensor, int64Tensor, Session, type SessionOptions, type Tensor } from "../graph/session.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { gpt2, textInputs } from "../model/gpt2.ts";
import { parametersOf } from "../model/layers.ts";
import { type HeadChunk, STEP, type TeacherInput, teacherChunkName } from "./step-graph.ts";

export interface TeacherOptions extends SessionOptions {
  batch: number;
  length: number;
  /** The vocabulary's chunks in the student's step. */
  chunks: readonly HeadChunk[];
}

/** A frozen model whose distribution the student learns; its noise is at the mean. */
export class Teacher {
  readonly input: TeacherInput;
  private readonly session: Session;
  private readonly shape: readonly [number, number];
  private readonly hidden: Tensor;
  private readonly head: Record<string, Tensor>;

  private constructor(
    session: Session,
    hidden: Tensor,
    head: Record<string, Tensor>,
    shape: readonly [number, number],
  ) {
    this.session = session;
    this.hidden = hidden;
    this.head = head;
    this.shape = shape;
    this.input = { kind: "hidden", n_embd: hidden.shape[1] as number };
  }

  static async open(checkpoint: Checkpoint, options: TeacherOptions): Promise<Teacher> {
    const { config } = checkpoint;
    const { batch, length, chunks } = options;
    const graph = new Graph();
    const { hidden } = gpt2(config, parametersOf(graph, config), textInputs(graph, batch, length), { kind: "mean" });
    graph.output(hidden, "hidden");
    const weights = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) weights.set(name, await checkpoint.readF32(name));
    const weightOf = ({ name }: Value) => weights.get(name) as Float32Array;
    const session = await Session.withWeights(graph, weightOf, options);
    const matrix = weights.get(config.tied_head ? "wte.weight" : "lm_head.weight") as Float32Array;
    const width = config.n_embd;
    const head = Object.fromEntries(
      chunks.map(({ first, count }, c) => [
        teacherChunkName(c),
        float32Tensor(matrix.subarray(first * width, (first + count) * width), [count, width]),
      ]),
    );
    const rows = batch * length;
    return new Teacher(session, float32Tensor(new Float32Array(rows * width), [rows, width]), head, [batch, length]);
  }

  /** What the student's step needs of the teacher for one micro-batch, inputs [B·T]. */
  async feeds(inputs: Int32Array): Promise<Record<string, Tensor>> {
    const [batch, length] = this.shape;
    const positions = inputs.map((_, i) => i % length);
    const ids = {
      input_ids: int64Tensor(inputs, [batch, length]),
      position_ids: int64Tensor(positions, [batch, length]),
    };
    await this.session.run(ids, { hidden: this.hidden });
    return { [STEP.teacherHidden]: this.hidden, ...this.head };
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
