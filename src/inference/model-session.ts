// A model as a session with the inputs and outputs of an export: an exported file, or a checkpoint in memory.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { describeError, NfcError } from "../errors.ts";
import { Session, type SessionOptions, type Tensors } from "../graph/session.ts";
import type { NoiseMode } from "../model/attention.ts";
import { refuseClassifier } from "../model/classifier.ts";
import type { ModelConfig } from "../model/config.ts";
import { buildDecoderGraph } from "../model/decoder-graph.ts";
import type { ExportedFile } from "./exported/exported-model.ts";

type FileDtypes = Pick<ExportedFile, "cacheDtype" | "logitsDtype">;
const FLOAT32: FileDtypes = { cacheDtype: "float32", logitsDtype: "float32" };

export interface CheckpointSessionOptions extends SessionOptions {
  noise?: NoiseMode | undefined;
}

export class ModelSession {
  /** What messages call the model. */
  readonly source: string;
  readonly config: ModelConfig;
  readonly cacheDtype: FileDtypes["cacheDtype"];
  readonly logitsDtype: FileDtypes["logitsDtype"];
  /** Whether it is told positions: without them, padded prompts go wrong. */
  readonly hasPositions: boolean;
  private readonly session: Session;

  private constructor(source: string, config: ModelConfig, dtypes: FileDtypes, session: Session) {
    this.source = source;
    this.config = config;
    this.cacheDtype = dtypes.cacheDtype;
    this.logitsDtype = dtypes.logitsDtype;
    this.hasPositions = session.inputNames.includes("position_ids");
    this.session = session;
  }

  /** @throws NfcError "invalid-file" when ONNX Runtime refuses the file */
  static async ofFile(file: ExportedFile, config: ModelConfig, options: SessionOptions = {}): Promise<ModelSession> {
    return new ModelSession(file.path, config, file, await Session.fromFile(file.path, options));
  }

  /** The stored weights, in float32. */
  static async ofCheckpoint(
    checkpoint: Checkpoint,
    { noise = { kind: "mean" }, ...options }: CheckpointSessionOptions = {},
  ): Promise<ModelSession> {
    refuseClassifier(checkpoint);
    const weights = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) weights.set(name, await checkpoint.readF32(name));
    const graph = buildDecoderGraph(checkpoint.config, noise);
    const session = await Session.withWeights(graph, ({ name }) => weights.get(name) as Float32Array, options);
    return new ModelSession(checkpoint.source, checkpoint.config, FLOAT32, session);
  }

  /**
   * As `Session.run`. A file without position_ids is not fed any.
   * @throws NfcError "invalid-file" when ONNX Runtime cannot run the file on this
   */
  async run(feeds: Tensors, into?: Tensors, outputs?: readonly string[]): Promise<Tensors> {
    const { position_ids, ...rest } = feeds;
    try {
      return await this.session.run(
        { ...rest, ...(position_ids && this.hasPositions && { position_ids }) },
        into,
        outputs,
      );
    } catch (cause) {
      throw new NfcError("invalid-file", `${this.source}: does not run: ${describeError(cause).split("\n")[0]}`, {
        hint: "export the model again",
        cause,
      });
    }
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
