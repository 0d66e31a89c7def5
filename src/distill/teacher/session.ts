// A teacher's session in float32, or with all its matrix products in int8.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { type Graph, pruneGraph } from "../../graph/ir.ts";
import { type Int8Graph, quantizeWeights, toInt8Graph } from "../../graph/passes/int8.ts";
import { Session, type SessionOptions, type TensorArray } from "../../graph/session.ts";
import { nameHead } from "../../model/parameters.ts";
import type { TrainSettings } from "../settings.ts";

export type TeacherPrecision = TrainSettings["teacherPrecision"];

/** A session that owns the weights of a frozen model's graph; in int8 only what no product reads stays float32. */
export async function openTeacherSession(
  graph: Graph,
  checkpoint: Checkpoint,
  precision: TeacherPrecision,
  options: SessionOptions,
): Promise<Session> {
  const built: Int8Graph = precision === "int8" ? toInt8Graph(graph) : { graph, sources: new Map() };
  const weights = await quantizeWeights(built, (name) => checkpoint.readF32(name));
  for (const { name } of pruneGraph(built.graph).parameters)
    if (!weights.has(name)) weights.set(name, await checkpoint.readF32(name));
  return Session.withWeights(built.graph, ({ name }) => weights.get(name) as TensorArray, options);
}

/** The matrix of the head: [V, C] */
export function readHeadMatrix(checkpoint: Checkpoint): Promise<Float32Array> {
  return checkpoint.readF32(nameHead(checkpoint.config));
}
