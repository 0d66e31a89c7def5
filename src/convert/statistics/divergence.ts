// Measures how far models are from a reference whose final norm and head they share, by their last hidden states.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeNotFiniteError, NfcError, throwIfAborted } from "../../errors.ts";
import { type Dim, multiplyDims } from "../../graph/dims.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { exp, logSoftmax, mul, reduceSum, scale, sub } from "../../graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session } from "../../graph/session.ts";
import { pick, reshape, slice } from "../../graph/shape-ops.ts";
import type { Hidden } from "../../inference/layerwise.ts";
import type { ModelConfig } from "../../model/config.ts";
import { lmHead } from "../../model/gpt2.ts";
import { makeParameterLookup, norm } from "../../model/layers.ts";
import { nameHead } from "../../model/parameters.ts";
import type { CutTools } from "../cut.ts";

/** Logits that are held at once: 64 MiB in float32, and some three times that on the way. */
const MAX_LOGITS = 2 ** 24;

/** Means over the scored positions, in nats. */
export interface Divergence {
  /** KL(reference ‖ model) */
  kl: number;
  /** Negative log-likelihood of the next token. */
  nll: number;
}

/** The final norm and the head of a model, ready to score hidden states. */
export class DivergenceMeter {
  private readonly checkpoint: Checkpoint;
  private readonly session: Session;
  private readonly signal: AbortSignal | undefined;

  private constructor(checkpoint: Checkpoint, session: Session, signal: AbortSignal | undefined) {
    this.checkpoint = checkpoint;
    this.session = session;
    this.signal = signal;
  }

  static async open(
    checkpoint: Checkpoint,
    { device, threads, signal }: Pick<CutTools, "device" | "threads" | "signal">,
  ): Promise<DivergenceMeter> {
    const { config } = checkpoint;
    const weights = new Map<string, Float32Array>();
    for (const name of ["ln_f.weight", "ln_f.bias", nameHead(config)])
      if (checkpoint.tensors.has(name))
        weights.set(name, await checkpoint.readF32(requireTensor(checkpoint, name).name));
    const weightOf = ({ name }: Value) => weights.get(name) as Float32Array;
    return new DivergenceMeter(
      checkpoint,
      await Session.withWeights(buildGraph(config), weightOf, { device, threads }),
      signal,
    );
  }

  /**
   * Compares each model with the reference on all positions but the last of each window.
   * @param windows token ids, [T] each
   * @param reference the stream after the last block, one entry a window: [T, C] each
   * @param models the same of each model
   * @throws NfcError "usage" for windows of one token, "invalid-file" where a loss is not finite; "aborted"
   */
  async measure(
    windows: readonly Int32Array[],
    reference: readonly Hidden[],
    models: readonly (readonly Hidden[])[],
  ): Promise<Divergence[]> {
    const streams = [reference, ...models];
    const sums = streams.map(() => ({ kl: 0, nll: 0 }));
    const step = Math.max(1, Math.floor(MAX_LOGITS / (streams.length * this.checkpoint.config.vocab_size)));
    let count = 0;
    for (const [w, ids] of windows.entries())
      for (let from = 0; from < ids.length - 1; from += step) {
        const to = Math.min(ids.length - 1, from + step);
        throwIfAborted(this.signal);
        const parts = streams.map((stream) => (stream[w] as Hidden).x);
        await this.addRows(parts, ids, { from, to }, sums);
        count += to - from;
      }
    if (count === 0)
      throw new NfcError("usage", "windows of one token have no next token to measure the loss of", {
        hint: "give longer text, or more --calibration-tokens",
      });
    if (!sums.every(({ kl, nll }) => Number.isFinite(kl + nll)))
      throw makeNotFiniteError(`${this.checkpoint.source}: the loss on the calibration text is not finite`);
    return sums.slice(1).map(({ kl, nll }) => ({ kl: kl / count, nll: nll / count }));
  }

  private async addRows(
    streams: readonly Float32Array[],
    ids: Int32Array,
    { from, to }: { from: number; to: number },
    sums: Divergence[],
  ): Promise<void> {
    const { n_embd: width } = this.checkpoint.config;
    const rows = to - from;
    const x = new Float32Array(streams.length * rows * width);
    const labels = new Int32Array(streams.length * rows);
    for (const [m, stream] of streams.entries()) {
      x.set(stream.subarray(from * width, to * width), m * rows * width);
      labels.set(ids.subarray(from + 1, to + 1), m * rows);
    }
    const outputs = await this.session.run({
      x: makeFloat32Tensor(x, [streams.length, rows, width]),
      labels: makeInt64Tensor(labels, [streams.length * rows]),
    });
    const [kl, nll] = [outputs.kl, outputs.nll].map((output) => output?.data as Float32Array) as [
      Float32Array,
      Float32Array,
    ];
    for (const [m, sum] of sums.entries())
      for (let r = m * rows; r < (m + 1) * rows; r++) {
        sum.kl += kl[r] as number;
        sum.nll += nll[r] as number;
      }
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

/** Inputs: x [M, N, C], the reference first; labels [M·N]. Outputs: kl [M, N] and nll [M·N]. */
function buildGraph(config: ModelConfig): Graph {
  const graph = new Graph();
  const [models, positions]: [Dim, Dim] = ["models", "positions"];
  const x = graph.input("x", "float32", [models, positions, config.n_embd]);
  const rows = multiplyDims(models, positions);
  const labels = graph.input("labels", "int64", [rows]);
  const parameters = makeParameterLookup(graph, config);
  const normed = norm(reshape(x, [rows, config.n_embd]), "ln_f", parameters, config);
  const flat = logSoftmax(lmHead(normed, config, parameters)); // [M·N, V]
  graph.output(scale(pick(flat, labels), -1), "nll");
  const sources = new Map([
    [models, { value: x, axis: 0 }],
    [positions, { value: x, axis: 1 }],
  ] as [string, { value: Value; axis: number }][]);
  const all = reshape(flat, [models, positions, config.vocab_size], sources); // [M, N, V]
  const reference = slice(all, 0, 0, 1); // [1, N, V]
  graph.output(reduceSum(mul(exp(reference), sub(reference, all)), [2]), "kl");
  return graph;
}
