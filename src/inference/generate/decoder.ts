// Feeds a model prompts and then one token a row at a time; the model keeps its KV cache.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import type { SessionOptions } from "../../graph/session.ts";
import { timePhase } from "../../io/timings.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { ExportedFile } from "../exported/exported-model.ts";
import {
  type CheckpointSessionOptions,
  type ModelSession,
  openCheckpointSession,
  openFileSession,
} from "../model-session.ts";
import { type CachedModel, GrowingModel } from "./cached-model.ts";
import { padLeft } from "./decoder-feeds.ts";
import { PlaceModel } from "./place-model.ts";

/** Logits are views, [V] a row: use them before the next call. No row may pass n_positions: the caller counts. */
export class Decoder {
  readonly config: ModelConfig;
  /** The model's name in messages. */
  readonly source: string;
  private readonly model: CachedModel;

  constructor(model: CachedModel | ModelSession) {
    this.model = "countPiece" in model ? model : new GrowingModel(model);
    this.config = model.config;
    this.source = model.source;
  }

  /** @throws NfcError "invalid-file" when ONNX Runtime refuses the file */
  static async ofFile(file: ExportedFile, config: ModelConfig, options: SessionOptions = {}): Promise<Decoder> {
    const own = isCpu(options) ? await PlaceModel.ofFile(file, config, options) : null;
    return new Decoder(own ?? (await openFileSession(file, config, options)));
  }

  /** The stored weights, in float32. */
  static async ofCheckpoint(checkpoint: Checkpoint, options: CheckpointSessionOptions = {}): Promise<Decoder> {
    const { noise = { kind: "mean" }, ...session } = options;
    if (isCpu(options) && noise.kind === "mean") return new Decoder(await PlaceModel.ofCheckpoint(checkpoint, session));
    return new Decoder(await openCheckpointSession(checkpoint, options));
  }

  /**
   * Starts anew with these prompts as one batch, padded on the left. Gives the logits after each prompt's last token.
   * @throws NfcError "aborted"; "unsupported" for prompts of several lengths if the model has no position_ids
   */
  async prompt(prompts: readonly (readonly number[])[], signal?: AbortSignal): Promise<Float32Array[]> {
    const { ids, pads } = padLeft(prompts);
    if (pads.some((pad) => pad > 0) && !this.model.hasPositions)
      throw new NfcError("unsupported", `${this.source}: has no position_ids, so it cannot run padded prompts`, {
        hint: "give one prompt at a time (--batch-size 1)",
      });
    const length = ids[0]?.length as number;
    this.model.start(pads, length);
    const piece = this.model.countPiece(prompts.length);
    let logits: Float32Array[] = [];
    for (let start = 0; start < length; start += piece) {
      throwIfAborted(signal);
      const next = ids.map((row) => row.slice(start, start + piece));
      logits = await timePhase("running the prompt", () => this.model.run(next));
    }
    return logits;
  }

  /** One more token a row; gives the logits after it. */
  step(ids: readonly number[]): Promise<Float32Array[]> {
    return timePhase("running tokens", () => this.model.run(ids.map((id) => [id])));
  }

  /** Several more tokens of a batch of one row; gives the logits after each of them. */
  extend(ids: readonly number[]): Promise<Float32Array[]> {
    return timePhase("running tokens", () => this.model.run([ids], true));
  }

  /** Forgets all but the first `length` positions of each row. */
  truncate(length: number): void {
    this.model.truncate(length);
  }

  /** Goes on with some of the rows only, in the order given. */
  keep(rows: readonly number[]): void {
    this.model.keep(rows);
  }

  close(): Promise<void> {
    return this.model.close();
  }
}

/** Other devices keep tensors of their own, for which a cache in the host's memory is copied either way. */
const isCpu = ({ device = "cpu" }: SessionOptions): boolean => device === "cpu";
