// The transfer: every layer of a student learns the teacher's on the teacher's own hidden states, layer by layer.
import { countElements } from "../../formats/dtype.ts";
import type { DeviceMemory } from "../../graph/device-memory.ts";
import { DeviceTensor } from "../../graph/device-tensor.ts";
import type { Graph } from "../../graph/ir.ts";
import { makeFloat32Tensor, type Operand, type Operands, Session, type SessionOptions } from "../../graph/session.ts";
import { type Keep, openAll } from "../../io/open-all.ts";
import { computeScoreScale } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { makeTextFeeds } from "../../model/gpt2.ts";
import { getHeadWidths } from "../../model/head-widths.ts";
import { listParameters } from "../../model/parameters.ts";
import { listLayers, type TransferKind } from "../transfer-match.ts";
import type { ParameterState } from "./parameter-state.ts";
import { nameGradient } from "./step-graph.ts";
import {
  buildAttentionGraph,
  buildEmbeddingGraph,
  buildStreamGraph,
  buildTeacherGraph,
  listLayerTargets,
  listLearned,
  STUDENT,
  TEACHER,
  type TransferModels,
} from "./transfer-graphs.ts";
import { planTransfer, type TransferStage } from "./transfer-plan.ts";

export interface TransferOptions extends SessionOptions, TransferModels {
  /** By name: arrays, or tensors on the device that the student's parameters are on. */
  teacherWeights: ReadonlyMap<string, Float32Array | DeviceTensor>;
  /** Where the streams are kept; in the host's memory unless given. */
  memory?: DeviceMemory | undefined;
  kind: TransferKind;
  /** The teacher's layer of each of the student's, ascending. */
  layers: readonly number[];
}

export interface TransferStep {
  /** Names of the parameters that get a gradient. */
  readonly targets: readonly string[];
  /** Computes the gradients of one micro-batch [B·T], times `weight`; gives the loss summed over the student's layers. */
  run(inputs: Int32Array, weight: number): Promise<number>;
  close(): Promise<void>;
}

/**
 * L = Σ over the student's layers of what transfer-graphs.ts says of each, noise at the mean. A session serves all
 * layers that are alike: a layer's weights are fed, so that memory holds one layer's activations.
 */
export async function openTransferStep(given: TransferOptions, store: ParameterState): Promise<TransferStep> {
  const { student, teacher, batch, length, kind, layers } = given;
  const options = { ...given, isTrained: (name: string) => store.trained.includes(`h.0.${name}`) }; // in all layers alike
  const shape = [batch * length, teacher.n_embd];
  const makeStream = async () =>
    options.memory?.zeros(shape) ?? makeFloat32Tensor(new Float32Array(countElements(shape)), shape);
  const { embedding, stages, streams } = await openAll(async (keep) => ({
    embedding: keep(await Session.withInputs(buildEmbeddingGraph(options), options)),
    stages: await openStages(planTransfer(kind, layers, teacher.n_layer), options, keep),
    streams: [await makeStream(), await makeStream(), await makeStream()], // of the teacher: [N, C] each
  }));
  const readParameters = makeParameterReader(options, store);
  const targets = listLearned(options, kind);
  return {
    targets: spreadOverLayers(student, targets),
    async run(inputs, weight) {
      const [first] = streams as [Operand];
      await embedding.run(
        { ...makeTextFeeds(inputs, [batch, length]), ...readParameters(embedding, (name) => name) },
        { output: first },
      );
      const factor = makeFloat32Tensor(new Float32Array([weight]), []);
      let [start, now, total] = [first, first, 0];
      for (const { session, stage, named } of stages) {
        const next = streams.find((stream) => stream !== start && stream !== now) as Operand;
        const into = "learned" in stage ? makeGradients(store, stage.learned, targets) : {};
        const feeds = stage.kind === "match" ? { x: start, target: now } : { x: now };
        const output = await session.run(
          { ...feeds, ...("learned" in stage && { weight: factor }), ...readParameters(session, named) },
          { ...into, ...(stage.kind !== "match" && { output: next }) },
        );
        if (output.loss) total += (output.loss.data as Float32Array)[0] as number;
        if (stage.kind !== "match") now = next;
        if (stage.kind !== "teach") start = now;
      }
      return total;
    },
    async close() {
      for (const session of new Set([embedding, ...stages.map((stage) => stage.session)])) await session.close();
      for (const stream of streams) if (stream instanceof DeviceTensor) options.memory?.dispose(stream);
    },
  };
}

/** The parameters that a kind of transfer trains where all are trained, by their full names. */
export function listTransferTargets(config: ModelConfig, kind: TransferKind): string[] {
  return spreadOverLayers(config, listLayerTargets(config, kind));
}

function spreadOverLayers({ n_layer }: ModelConfig, names: readonly string[]): string[] {
  return listLayers(n_layer).flatMap((layer) => names.map((name) => `h.${layer}.${name}`));
}

/** The arrays of a layer's gradients, which a session writes. */
function makeGradients(store: ParameterState, layer: number, names: readonly string[]): Operands {
  return Object.fromEntries(names.map((name) => [nameGradient(name), store.gradient(`h.${layer}.${name}`)]));
}

interface OpenStage {
  session: Session;
  stage: TransferStage;
  /** The parameter of this stage that an input of the session stands for: sessions are made for a stage like it. */
  named: (input: string) => string;
}

/** A session for each stage: one serves all whose layers have the same factor on the scores, and heads as wide. */
async function openStages(plan: readonly TransferStage[], options: TransferOptions, keep: Keep): Promise<OpenStage[]> {
  const alike = new Map<string, OpenStage>();
  const stages: OpenStage[] = [];
  for (const stage of plan) {
    const key = JSON.stringify([stage.kind, ...describeLayers(stage, options)]);
    const known = alike.get(key);
    const session = known?.session ?? keep(await Session.withInputs(buildStageGraph(stage, options), options));
    const opened = { session, stage, named: makeNaming(known?.stage ?? stage, stage) };
    if (!known) alike.set(key, opened);
    stages.push(opened);
  }
  return stages;
}

/** What the graph of a stage depends on, besides its kind. */
function describeLayers(stage: TransferStage, { student, teacher }: TransferOptions): unknown[] {
  const describe = (config: ModelConfig, layer: number) => [
    computeScoreScale(config, layer),
    getHeadWidths(config, layer),
  ];
  return [
    ...("taught" in stage ? describe(teacher, stage.taught) : []),
    ...("learned" in stage ? describe(student, stage.learned) : []),
  ];
}

function buildStageGraph(stage: TransferStage, options: TransferOptions): Graph {
  if (stage.kind === "teach") return buildTeacherGraph(options, stage.taught);
  if (stage.kind === "match") return buildStreamGraph(options, stage.learned);
  if (options.kind === "hidden") throw new Error("hidden states are matched, not attended");
  return buildAttentionGraph(options, stage, options.kind);
}

/** Renames a parameter with its model's prefix from the layers that a session was built for to those of a stage. */
function makeNaming(builtFor: TransferStage, stage: TransferStage): (input: string) => string {
  return (input) => {
    const part = input.startsWith(STUDENT) ? "learned" : "taught";
    const layerOf = (of: TransferStage) => (of as { taught?: number; learned?: number })[part];
    return input.replace(`/h.${layerOf(builtFor)}.`, `/h.${layerOf(stage)}.`);
  };
}

/** Makes a function that feeds a session the parameters that it asks for; `named` gives their names in this stage. */
function makeParameterReader({ teacher, teacherWeights }: TransferOptions, store: ParameterState) {
  const shapes = new Map(listParameters(teacher).map(({ name, shape }) => [name, shape]));
  return (session: Session, named: (input: string) => string): Operands => {
    const feeds: Record<string, Operand> = {};
    for (const input of session.inputNames) {
      const name = named(input);
      if (name.startsWith(STUDENT)) feeds[input] = store.parameter(name.slice(STUDENT.length));
      if (!name.startsWith(TEACHER)) continue;
      const own = name.slice(TEACHER.length);
      const weight = teacherWeights.get(own) as Float32Array | DeviceTensor;
      const shape = shapes.get(own) as readonly number[];
      feeds[input] = weight instanceof DeviceTensor ? weight : makeFloat32Tensor(weight, shape);
    }
    return feeds;
  };
}
