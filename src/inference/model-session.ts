// Opens an exported file, or a checkpoint in memory, as a session with the inputs and outputs of an export.

import { type Checkpoint, readWeights } from "../checkpoint/checkpoint.ts";
import { describeBriefly, NfcError } from "../errors.ts";
import { Session, type SessionOptions, type Tensors } from "../graph/session.ts";
import type { NoiseMode } from "../model/attention.ts";
import { refuseClassifier } from "../model/classifier.ts";
import type { ModelConfig } from "../model/config.ts";
import { buildDecoderGraph } from "../model/decoder-graph.ts";
import { listCacheParts } from "../model/head-widths.ts";
import type { ExportedFile } from "./exported/exported-model.ts";

type FileDtypes = Pick<ExportedFile, "cacheDtype" | "logitsDtype">;
const FLOAT32: FileDtypes = { cacheDtype: "float32", logitsDtype: "float32" };

export interface CheckpointSessionOptions extends SessionOptions {
  noise?: NoiseMode | undefined;
}

export interface ModelSession extends FileDtypes {
  /** The model's name in messages. */
  readonly source: string;
  readonly config: ModelConfig;
  /** Whether it is told positions: without them, padded prompts go wrong. */
  readonly hasPositions: boolean;
  /**
   * Runs the model as `Session.run` does. A file without position_ids is not fed any.
   * @throws NfcError "invalid-file" when ONNX Runtime cannot run the file on this
   */
  run(feeds: Tensors, into?: Tensors, outputs?: readonly string[]): Promise<Tensors>;
  close(): Promise<void>;
}

/** @throws NfcError "invalid-file" when ONNX Runtime refuses the file */
export async function openFileSession(
  file: ExportedFile,
  config: ModelConfig,
  options: SessionOptions = {},
): Promise<ModelSession> {
  return makeModelSession(file.path, config, file, await Session.fromFile(file.path, options), checkOutputs);
}

/** Opens a session on the stored weights, in float32. */
export async function openCheckpointSession(
  checkpoint: Checkpoint,
  { noise = { kind: "mean" }, ...options }: CheckpointSessionOptions = {},
): Promise<ModelSession> {
  refuseClassifier(checkpoint);
  const weights = await readWeights(checkpoint);
  const graph = buildDecoderGraph(checkpoint.config, noise);
  const session = await Session.withWeights(graph, ({ name }) => weights.get(name) as Float32Array, options);
  return makeModelSession(checkpoint.source, checkpoint.config, FLOAT32, session);
}

function makeModelSession(
  source: string,
  config: ModelConfig,
  { cacheDtype, logitsDtype }: FileDtypes,
  session: Session,
  check: typeof checkOutputs = () => {},
): ModelSession {
  const hasPositions = session.inputNames.includes("position_ids");
  return {
    ...{ source, config, cacheDtype, logitsDtype, hasPositions },
    async run({ position_ids, ...feeds }, into, outputs) {
      const known = position_ids && hasPositions ? { ...feeds, position_ids } : feeds;
      const results = await session.run(known, into, outputs).catch((cause: unknown) => {
        if (cause instanceof NfcError) throw cause; // a fault of the device
        throw new NfcError("invalid-file", `${source}: does not run: ${describeBriefly(cause)}`, {
          hint: "export the model again",
          cause,
        });
      });
      check(source, config, feeds, results);
      return results;
    },
    close: () => session.close(),
  };
}

/** What a file declares is not what its graph must compute: logits [B, T, V], present [B, H, P + T, D]. */
function checkOutputs(source: string, config: ModelConfig, feeds: Tensors, results: Tensors): void {
  const [batch, length] = feeds.input_ids?.shape ?? [];
  const total = feeds.attention_mask?.shape[1];
  for (const [name, { shape }] of Object.entries(results)) {
    const [, layer, part] = name.split(".");
    const width = listCacheParts(config, Number(layer)).find((own) => own.part === part)?.width;
    const cache = [batch, config.n_head, total, width];
    const expected = name === "logits" ? [batch, length, config.vocab_size] : cache;
    if (String(shape) === String(expected) || !/^(logits$|present\.)/.test(name)) continue;
    const fact = `its graph computes ${name} [${shape.join(", ")}], not [${expected.join(", ")}]`;
    throw new NfcError("invalid-file", `${source}: ${fact}`, { hint: "export the model again" });
  }
}
