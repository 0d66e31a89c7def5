// Reads the data of the page beyond the report: learned noise, training curves, and attention on one sentence.

import { join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { hasCompanion } from "../../checkpoint/companion-files.ts";
import { readVocabularyCut } from "../../checkpoint/kept-ids.ts";
import { matchTokens } from "../../checkpoint/match-tokens.ts";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { makeFloat32Tensor } from "../../graph/session.ts";
import { embedWindows, openLayerSession } from "../../inference/layerwise.ts";
import { readTextLines } from "../../io/text.ts";
import { hasDistanceMean, VARIANT_TRAITS } from "../../model/variants.ts";
import { findNotedTraining, isRecordedSource } from "../recorded-quality.ts";
import type { Report } from "../report-schema.ts";

/** A point of a curve: the optimizer's step, and the value measured there. */
export type Point = readonly [step: number, value: number];

export interface TrainingCurves {
  loss: Point[];
  /** Held-out perplexity, or a task's score. */
  heldOut: Point[];
  heldOutName: string;
  /** The same of the teacher; null without one, and for a task's score. */
  teacher: number | null;
}

export interface LearnedNoise {
  /** exp(log_std) by layer and head; one column where it is shared. */
  sigma: number[][];
  /** μ by layer, head and bucket of distance, for noise-distance. */
  means: number[][][] | null;
}

/** The attention of one head on the sentence, [T][T] lower triangles; `after` is the tied model's. */
export interface AttentionPair {
  layer: number;
  head: number;
  /** Its relative tie error; null where none is recorded. */
  error: number | null;
  before: number[][];
  after: number[][];
}

export interface PageData {
  report: Report;
  noise: LearnedNoise | null;
  training: TrainingCurves | null;
  attention: { tokens: string[]; pairs: AttentionPair[] } | null;
  /** Why there are no attention maps, where they were wanted. */
  missingAttention?: string | undefined;
}

const MAX_TOKENS = 14;
const HEADS_SHOWN = 4;
/** A curve of more points would look the same. */
const MAX_POINTS = 400;

/** exp(σ's logarithm) and μ of every layer; null for a model without noise. */
export async function readLearnedNoise(checkpoint: Checkpoint): Promise<LearnedNoise | null> {
  const { config } = checkpoint;
  if (!VARIANT_TRAITS[config.variant].noise) return null;
  const sigma: number[][] = [];
  const means: number[][][] = [];
  for (let layer = 0; layer < config.n_layer; layer++) {
    sigma.push(Array.from(await checkpoint.readF32(`h.${layer}.attn.noise_log_std`), Math.exp));
    const mean = Array.from(await checkpoint.readF32(`h.${layer}.attn.noise_mean`));
    const width = mean.length / (checkpoint.tensors.get(`h.${layer}.attn.noise_mean`)?.shape[0] ?? 1);
    means.push(Array.from({ length: mean.length / width }, (_, head) => mean.slice(head * width, (head + 1) * width)));
  }
  return { sigma, means: hasDistanceMean(config.variant) ? means : null };
}

/** Reads metrics.jsonl in the model's folder; null without one. Other lines are skipped. */
export async function readTrainingCurves(checkpoint: Checkpoint): Promise<TrainingCurves | null> {
  const { folder } = checkpoint;
  if (folder === null || !(await hasCompanion(folder, "metrics.jsonl"))) return null;
  const curves: TrainingCurves = { loss: [], heldOut: [], heldOutName: "perplexity", teacher: null };
  for await (const { text } of readTextLines(join(folder, "metrics.jsonl"))) {
    const entry = parseLine(text);
    if (typeof entry?.step !== "number" || !Number.isFinite(entry.step)) continue;
    if (typeof entry.loss === "number" && Number.isFinite(entry.loss) && entry.phase !== "transfer")
      curves.loss.push([entry.step, entry.loss]);
    for (const [name, value] of Object.entries(entry.eval ?? {})) {
      if (name === "loss" || typeof value !== "number" || !Number.isFinite(value)) continue;
      if (curves.heldOut.length > 0 && name !== curves.heldOutName) continue;
      curves.heldOutName = name;
      curves.heldOut.push([entry.step, value]);
    }
  }
  if (curves.loss.length + curves.heldOut.length === 0) return null;
  const noted = checkpoint.record && findNotedTraining(checkpoint.record);
  if (noted && curves.heldOutName === "perplexity") {
    // The start is scored as well, before the first line of the metrics.
    if (curves.heldOut[0]?.[0] !== 0) curves.heldOut.unshift([0, noted.before]);
    curves.teacher = noted.teacher;
  }
  return { ...curves, loss: thinPoints(curves.loss) };
}

function parseLine(line: string): { step?: unknown; loss?: unknown; phase?: unknown; eval?: object } | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" ? value : null;
  } catch {
    return null; // a line that a killed run left unfinished
  }
}

/** Replaces points by means of pieces, as many as can be told apart. */
function thinPoints(points: readonly Point[]): Point[] {
  const size = Math.ceil(points.length / MAX_POINTS);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const piece = points.slice(i * size, (i + 1) * size);
    return [mean(piece.map(([step]) => step)), mean(piece.map(([, value]) => value))] as const;
  });
}

/**
 * The attention of some heads of both models on a sentence, noise at its mean: heads whose tie errors spread from the
 * least to the largest. Runs both models, a layer at a time.
 */
export async function readAttentionPairs(
  source: Checkpoint,
  after: Checkpoint,
  tokenizer: Tokenizer,
  sentence: string,
): Promise<PageData["attention"]> {
  const before = await findSameTokens(source, after);
  if (before === null) return null;
  const [a, b] = [before.config, after.config];
  if (a.n_layer !== b.n_layer || a.n_head !== b.n_head || a.vocab_size !== b.vocab_size) return null;
  const ids = tokenizer.encode(sentence).slice(0, Math.min(MAX_TOKENS, a.n_positions, b.n_positions));
  if (ids.length < 2) return null;
  const chosen = chooseHeads(after);
  const maps = await Promise.all(
    [before, after].map((model) => computeAttentionMaps(model, Int32Array.from(ids), chosen)),
  );
  const pairs = chosen.map(({ layer, head, error }, i) => ({
    ...{ layer, head, error },
    before: maps[0]?.[i] as number[][],
    after: maps[1]?.[i] as number[][],
  }));
  return { tokens: ids.map((id) => tokenizer.decode([id])), pairs };
}

/** The source with the token ids of `after`, where these are some of its own; null where they are others. */
async function findSameTokens(source: Checkpoint, after: Checkpoint): Promise<Checkpoint | null> {
  if (isRecordedSource(source, after)) return matchTokens(after, source);
  const [a, b] = [source, after].map((model) => readVocabularyCut(model.record, model.source)?.kept.format());
  return a === b ? source : null;
}

function chooseHeads({ config, record }: Checkpoint): { layer: number; head: number; error: number | null }[] {
  const errors = (record?.tie?.errors ?? [])
    .flatMap((heads, layer) => heads.map((error, head) => ({ layer, head, error })))
    .filter(({ layer, head }) => layer < config.n_layer && head < config.n_head)
    .sort((x, y) => x.error - y.error);
  const all = Array.from({ length: config.n_layer }, (_, layer) => ({ layer, head: 0, error: null }));
  const pool = errors.length > 0 ? errors : all;
  const count = Math.min(HEADS_SHOWN, pool.length);
  const at = (i: number) => Math.round((i * (pool.length - 1)) / Math.max(1, count - 1));
  return Array.from({ length: count }, (_, i) => pool[at(i)] as (typeof pool)[number]);
}

/** P [T][T] of the chosen heads, in their order. */
async function computeAttentionMaps(
  checkpoint: Checkpoint,
  window: Int32Array,
  chosen: readonly { layer: number; head: number }[],
): Promise<number[][][]> {
  const { config } = checkpoint;
  const T = window.length;
  const maps: number[][][] = [];
  let hidden = await embedWindows(checkpoint, [window]);
  const last = Math.max(...chosen.map(({ layer }) => layer));
  for (let layer = 0; layer <= last; layer++) {
    const session = await openLayerSession(checkpoint, layer, {
      outputs: (graph, { attention, output }) => {
        graph.output(attention.probabilities, "probabilities"); // [1, H, T, T]
        graph.output(output, "output");
      },
    });
    const into = {
      probabilities: makeFloat32Tensor(new Float32Array(config.n_head * T * T), [1, config.n_head, T, T]),
    };
    const { output } = await session.run(hidden, into);
    const data = into.probabilities.data as Float32Array;
    for (const [i, { layer: wanted, head }] of chosen.entries())
      if (wanted === layer)
        maps[i] = Array.from({ length: T }, (_, row) => {
          const start = (head * T + row) * T;
          return Array.from(data.subarray(start, start + row + 1));
        });
    hidden = { ...hidden, x: Float32Array.from(output?.data as Float32Array) };
    await session.close();
  }
  return maps;
}
