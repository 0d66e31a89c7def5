// Measures the perplexity of exported files on text, and their KL, top-1 agreement and logit error to a reference.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { TokenIds } from "../../checkpoint/encoding/encode-pool.ts";
import { throwIfAborted } from "../../errors.ts";
import {
  type Device,
  makeFloat32Tensor,
  Session,
  type SessionOptions,
  type Tensor,
  type Tensors,
} from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { Precision } from "../../model/precision.ts";
import type { LongCall } from "../../progress.ts";
import type { ExportedFile } from "../exported/exported-model.ts";
import { makePromptFeeds } from "../generate/decoder-feeds.ts";
import { type ModelSession, openCheckpointSession, openFileSession } from "../model-session.ts";
import {
  batchWindows,
  refuseInfinite,
  refuseShortText,
  resolveWindow,
  type Score,
  type ScoringBatch,
  Sums,
  type WindowOptions,
} from "./scored-text.ts";
import { buildComparisonGraph } from "./scoring-graph.ts";

/** Logits that are compared at once, V a position. */
const LOGITS_PER_COMPARISON = 2 ** 20;

export interface PrecisionScoreOptions extends WindowOptions, LongCall {
  /** Ids of the text, in pieces. */
  tokens: () => AsyncIterable<TokenIds>;
  /** Tokens of the text, as far as that is known by now. */
  countTokens?: (() => number | null) | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
}

export interface PrecisionScore extends Score {
  precision: Precision;
  /** Tokens scored. */
  tokens: number;
  windows: number;
  length: number;
  stride: number;
  /** Tokens through the file in a second; scoring them is not counted. */
  tokensPerSecond: number;
  /** Perplexity of the reference. The rest compares with it, and is null without one or for itself. */
  referencePerplexity: number | null;
  /** Mean KL(reference ‖ file) of a token, in nats. */
  kl: number | null;
  /** Share of positions where both models' most likely token is the same. */
  agreement: number | null;
  /** Root mean square of the logits' differences, less their mean at each position, which the softmax ignores. */
  logitError: number | null;
}

/**
 * Scores files of one model by the recipe of `evaluate`. All are open at once, so that each batch goes through the
 * reference once.
 * @param reference whose distribution theirs are compared with; it may be one of the files
 * @throws NfcError "usage" for a bad window, "mismatch" for ids past the vocabulary or a reference of another one,
 * "invalid-file" when a file does not load or run, or its loss is not finite; "aborted"
 */
export async function scorePrecisions(
  files: readonly ExportedFile[],
  config: ModelConfig,
  reference: Checkpoint | ExportedFile | null,
  options: PrecisionScoreOptions,
): Promise<PrecisionScore[]> {
  const { tokens, device, threads, signal, onProgress } = options;
  const subject = { config, source: files[0]?.path ?? "" };
  const against = reference && isCheckpoint(reference) ? reference : undefined;
  const size = resolveWindow(subject, { ...options, against });
  const panel = new PrecisionScorer(config, { arena: false, device, threads });
  const total = { tokens: 0, windows: 0 };
  try {
    await panel.open(files, reference, signal);
    for await (const batch of batchWindows(tokens(), subject, size)) {
      await panel.add(batch, signal);
      total.tokens += batch.rows.length;
      total.windows += batch.windows.length;
      onProgress?.({ phase: "scoring", done: total.tokens, total: options.countTokens?.() ?? null, unit: "tokens" });
    }
    refuseShortText(total.tokens);
    return panel.results().map(({ seconds, ...result }) => {
      return { ...result, ...total, ...size, tokensPerSecond: total.tokens / seconds };
    });
  } finally {
    await panel.close();
  }
}

function isCheckpoint(model: Checkpoint | ExportedFile): model is Checkpoint {
  return "config" in model;
}

const OVERFLOW = "export the model again; float16 has no room for values past 65504";
const COMPARED = ["nll", "nll_against", "kl", "agreement", "squared_error"] as const;

/** An open model, and how long it has run. */
interface ScoredModel {
  model: ModelSession;
  seconds: number;
}

/** A file, and its distance from the reference so far. */
interface ComparedModel extends ScoredModel {
  precision: Precision;
  comparison: Session;
  sums: Sums<(typeof COMPARED)[number]>;
  /** False without a reference, and for the reference itself. */
  compared: boolean;
}

/** The open models; each batch goes through all of them. */
class PrecisionScorer {
  private readonly config: ModelConfig;
  private readonly options: SessionOptions;
  private readonly sessions: { close(): Promise<void> }[] = [];
  private readonly candidates: ComparedModel[] = [];
  private reference: ScoredModel | null = null;
  private readonly memory = { reference: new LogitsMemory(), own: new LogitsMemory() };

  constructor(config: ModelConfig, options: SessionOptions) {
    this.config = config;
    this.options = options;
  }

  async open(
    files: readonly ExportedFile[],
    reference: Checkpoint | ExportedFile | null,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (reference && isCheckpoint(reference))
      this.reference = { model: this.keep(await openCheckpointSession(reference, this.options)), seconds: 0 };
    else if (reference) this.reference = { model: await this.openFile(reference), seconds: 0 };
    for (const file of files) {
      throwIfAborted(signal);
      const same = this.reference?.model.source === file.path;
      const model = same ? (this.reference as ScoredModel).model : await this.openFile(file);
      const against = same ? null : (this.reference?.model.logitsDtype ?? null);
      const graph = buildComparisonGraph(this.config.vocab_size, model.logitsDtype, against);
      this.candidates.push({
        precision: file.precision,
        model,
        seconds: 0,
        comparison: this.keep(await Session.withInputs(graph, this.options)),
        sums: new Sums(against ? COMPARED : COMPARED.slice(0, 1)),
        compared: against !== null,
      });
    }
  }

  async add(batch: ScoringBatch, signal: AbortSignal | undefined): Promise<void> {
    const reference = this.reference && (await this.memory.reference.logits(this.reference, batch));
    for (const candidate of this.candidates) {
      throwIfAborted(signal);
      const same = candidate.model === this.reference?.model;
      const logits = same ? (reference as Tensor) : await this.memory.own.logits(candidate, batch);
      const outputs = await compare(candidate.comparison, batch, {
        logits,
        ...(candidate.compared && reference && { reference }),
      });
      if (this.reference) refuseInfinite(this.reference.model, toNumbers(outputs.nll_against), OVERFLOW);
      refuseInfinite(candidate.model, toNumbers(outputs.nll), OVERFLOW);
      candidate.sums.add(batch, outputs);
    }
  }

  results(): (Pick<PrecisionScore, "precision" | "referencePerplexity" | "kl" | "agreement" | "logitError"> &
    Score & { seconds: number })[] {
    return this.candidates.map(({ precision, model, sums, compared, seconds }) => ({
      precision,
      ...sums.score("nll"),
      referencePerplexity: compared ? sums.score("nll_against").perplexity : null,
      kl: compared ? sums.mean("kl") : null,
      agreement: compared ? sums.mean("agreement") : null,
      logitError: compared ? Math.sqrt(sums.mean("squared_error")) : null,
      seconds: model === this.reference?.model ? this.reference.seconds : seconds,
    }));
  }

  async close(): Promise<void> {
    for (const session of this.sessions) await session.close();
  }

  private async openFile(file: ExportedFile): Promise<ModelSession> {
    return this.keep(await openFileSession(file, this.config, this.options));
  }

  private keep<T extends { close(): Promise<void> }>(session: T): T {
    this.sessions.push(session);
    return session;
  }
}

/** The numbers of a float32 output; none where the graph does not have it. */
const toNumbers = (output: Tensor | undefined) => (output?.data ?? new Float32Array(0)) as Float32Array;

/** Memory that the logits of batch after batch are written to: ONNX Runtime's own would pile up. */
class LogitsMemory {
  private memory = new ArrayBuffer(0);

  /** Runs the windows of a batch: [B·T, V] */
  async logits(member: ScoredModel, { windows, length }: ScoringBatch): Promise<Tensor> {
    const { model } = member;
    const { vocab_size: vocabulary } = model.config;
    const size = windows.length * length * vocabulary;
    if (this.memory.byteLength < 4 * size) this.memory = new ArrayBuffer(4 * size);
    const dtype = model.logitsDtype;
    const data = dtype === "float32" ? new Float32Array(this.memory, 0, size) : new Uint16Array(this.memory, 0, size);
    const prompts = windows.map(({ ids }) => [...ids]);
    const feeds = makePromptFeeds(prompts, model.config, { cacheDtype: model.cacheDtype });
    const started = performance.now();
    await model.run(feeds, { logits: { dtype, data, shape: [windows.length, length, vocabulary] } }, ["logits"]);
    member.seconds += (performance.now() - started) / 1000;
    return { dtype, data, shape: [windows.length * length, vocabulary] };
  }
}

/** Runs the comparison over all scored positions, some at a time: every quantity, [M]. */
async function compare(session: Session, batch: ScoringBatch, logits: Tensors): Promise<Tensors> {
  const { rows } = batch;
  const step = Math.max(1, Math.floor(LOGITS_PER_COMPARISON / ((logits.logits as Tensor).shape[1] as number)));
  const all = new Map(session.outputNames.map((name) => [name, new Float32Array(rows.length)]));
  for (let from = 0; from < rows.length; from += step) {
    const outputs = await session.run({ ...logits, ...batch.scored(from, Math.min(from + step, rows.length)) });
    for (const [name, values] of all) values.set(outputs[name]?.data as Float32Array, from);
  }
  return Object.fromEntries([...all].map(([name, data]) => [name, makeFloat32Tensor(data, [rows.length])]));
}
