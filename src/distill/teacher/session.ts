// A teacher's session in float32, or with all its matrix products in int8.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { type Graph, liveGraph } from "../../graph/ir.ts";
import { type Int8Graph, int8Graph, int8Weights } from "../../graph/passes/int8.ts";
import { Session, type SessionOptions, type TensorArray } from "../../graph/session.ts";
import type { TrainSettings } from "../settings.ts";

export type Precision = TrainSettings["teacherPrecision"];

/** A session that owns the weights of a frozen model's graph; in int8 only what no product reads stays float32. */
export async function teacherSession(
  graph: Graph,
  checkpoint: Checkpoint,
  precision: Precision,
  options: SessionOptions,
): Promise<Session> {
  const built: Int8Graph = precision === "int8" ? int8Graph(graph) : { graph, sources: new Map() };
  const weights = await int8Weights(built, (name) => checkpoint.readF32(name));
  for (const { name } of liveGraph(built.graph).parameters)
    if (!weights.has(name)) weights.set(name, await checkpoint.readF32(name));
  return Session.withWeights(built.graph, ({ name }) => weights.get(name) as TensorArray, options);
}

/** The matrix of the head: [V, C] */
export function headMatrix(checkpoint: Checkpoint): Promise<Float32Array> {
  return checkpoint.readF32(headName(checkpoint));
}

function headName({ config }: Checkpoint): string {
  return config.tied_head ? "wte.weight" : "lm_head.weight";
}
