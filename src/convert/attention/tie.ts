// Ties Q and K of one layer, head by head, by one of five strategies.
import { makeNotFiniteError } from "../../errors.ts";
import { getDefaultRank } from "../../model/head-widths.ts";
import { transpose } from "../../numeric/linalg.ts";
import { RIDGE } from "../statistics/moments.ts";
import { measureRankError } from "./factor-form.ts";
import { areFinite, putHeadColumns, requireFiniteHead, requireFloat32 } from "./heads.ts";
import { findScoreSpectrum, takeFormGrams } from "./low-rank.ts";
import { findClosestPair } from "./pair-head.ts";
import {
  buildHeadSpan,
  combineWeights,
  findClosestForm,
  type HeadSpan,
  measureTieError,
  projectFromSpan,
  type SpanOptions,
} from "./tie-head.ts";

export const TIE_STRATEGIES = ["calibrated", "spectral", "mean", "query", "key"] as const;
export type TieStrategy = (typeof TIE_STRATEGIES)[number];

/** What the tie of a layer needs to know of Σ. */
export interface InputMoments {
  /** BᵀΣB of each head, E[zᵀz] with z = [q, k, 1] ([q, k] without biases): H times [n, n] */
  heads: readonly Float64Array[];
  /** The mean diagonal of Σ, which a ridge is relative to. */
  level: number;
}

export interface LayerTieInput {
  n_embd: number;
  n_head: number;
  /** [C, C] row-major, [in, out]; head h has the columns h·D … (h + 1)·D − 1. */
  qWeight: Float32Array;
  kWeight: Float32Array;
  /** [C], or null in a model without biases: its inputs then have no constant. */
  qBias: Float32Array | null;
  kBias: Float32Array | null;
  /** Moments of the inputs, before the ridge; null: Σ = E[x̃ᵀx̃] of the rows x̃ = [x, 1] (x without biases) is the identity. */
  inputs: InputMoments | null;
  /** Γ of each head (`SpanOptions.keyMoments`): H times [2D, 2D]; all keys count alike without it. */
  keyMoments?: readonly Float64Array[] | null | undefined;
  /** E[qᵀq] of each head, for the error of low-rank attention: H times [D, D]; all inputs count alike without it. */
  queryMoments?: readonly Float64Array[] | null | undefined;
  /** Share of Σ and Γ in the metric, as `computeTrust` gives it; the rest is the identity. 1 unless given. */
  trust?: number | undefined;
  strategy: TieStrategy;
  /** Whether each head has a form A of its own besides S. */
  paired?: boolean | undefined;
}

export interface LayerTie {
  weight: Float32Array; // [C, C]
  bias: Float32Array | null; // [C]
  /** A of each head, [H, D, D]; null unless paired. */
  pair: Float32Array | null;
  /** Relative error of each head, as `measureTieError` defines it. */
  errors: number[];
  /** The same of low-rank attention with as many parameters. */
  lowRankErrors: number[];
}

/** S of one head, A where it has one, and its error. */
interface Tie {
  s: Float64Array; // [C + 1 or C, D]
  pair?: Float64Array | undefined; // [D, D]
  error: number;
}

/** What a layer is put together from; low-rank attention of as many parameters has an error of its own. */
export interface HeadTie extends Tie {
  lowRankError: number;
}

/** Ties all heads of a layer. @throws NfcError "invalid-file" when the input is not finite */
export function tieLayer(input: LayerTieInput): LayerTie {
  const heads = Array.from({ length: input.n_head }, (_, head) => head);
  return assembleLayer(input, tieHeads(input, heads));
}

/** Ties the heads named. @throws NfcError "invalid-file" when the input is not finite */
export function tieHeads(input: LayerTieInput, heads: readonly number[]): HeadTie[] {
  const { n_embd: C, n_head, qBias, kBias } = input;
  const constant = qBias !== null && kBias !== null;
  const rows = constant ? C + 1 : C;
  const { trust = 1, keyMoments: spreads = null, queryMoments = null } = input;
  const scores = { ...input, keyMoments: spreads, queryMoments, trust };
  const D = C / n_head;
  const n = 2 * D + (constant ? 1 : 0);
  const columns = new Float64Array(n * rows); // of one head after another
  if (constant) columns[n * rows - 1] = 1;
  return heads.map((head) => {
    putHeadColumns(columns, input.qWeight, qBias, head, input);
    putHeadColumns(columns.subarray(D * rows), input.kWeight, kBias, head, input);
    requireFiniteHead(head, "Q or K", [columns]);
    const keyMoments = spreads?.[head] ?? null;
    requireFiniteHead(head, "attention", [keyMoments]);
    const inputs = input.inputs && weighInputs(input.inputs, head, trust);
    const span = buildHeadSpan(columns, { rows, headDim: D, constant, inputs, keyMoments, trust });
    const tie = input.paired ? pairOne(span) : tieOne(span, input.strategy);
    const bias = constant ? Float64Array.from(qBias.subarray(head * D, (head + 1) * D)) : null;
    const plain = takeFormGrams(span.weightGram, bias, D);
    const spectrum = findScoreSpectrum(scores, head, plain);
    return { ...tie, lowRankError: measureRankError(spectrum, getDefaultRank(input)) };
  });
}

function tieOne(span: HeadSpan, strategy: TieStrategy): Tie {
  const { columns, rows, headDim: D } = span;
  const take = (part: number) => transpose(columns.slice(part * D * rows, (part + 1) * D * rows), D, rows);
  switch (strategy) {
    case "query":
      return { s: take(0), error: measureTieError(span, combineWeights(span, 1, 0)) };
    case "key":
      return { s: take(1), error: measureTieError(span, combineWeights(span, 0, 1)) };
    case "mean": {
      const [s, key] = [take(0), take(1)];
      for (let i = 0; i < s.length; i++) s[i] = ((s[i] as number) + (key[i] as number)) / 2;
      return { s, error: measureTieError(span, combineWeights(span, 0.5, 0.5)) };
    }
    default: {
      const whitened = findClosestForm(span);
      return { s: projectFromSpan(span, whitened), error: measureTieError(span, whitened) };
    }
  }
}

function pairOne(span: HeadSpan): Tie {
  const { whitened, pair, error } = findClosestPair(span);
  return { s: projectFromSpan(span, whitened), pair, error };
}

/**
 * Puts heads side by side: weight [C, C] and bias [C]; A of all heads [H, D, D].
 * @throws NfcError "unsupported" where S is beyond float32: the weights were within a small factor of its limit
 */
export function assembleLayer({ n_embd: C, n_head, qBias, paired }: LayerTieInput, ties: readonly HeadTie[]): LayerTie {
  const D = C / n_head;
  const weight = new Float32Array(C * C);
  const bias = qBias ? new Float32Array(C) : null;
  const forms = paired ? new Float32Array(n_head * D * D) : null;
  for (const [head, { s, pair }] of ties.entries()) {
    const hint = "take --tie query or --tie key, which keep weights as they are";
    requireFloat32([s, pair], `head ${head}: the tied weights`, hint);
    for (let row = 0; row < C; row++) weight.set(s.subarray(row * D, (row + 1) * D), row * C + head * D);
    bias?.set(s.subarray(C * D, (C + 1) * D), head * D);
    if (pair) forms?.set(pair, head * D * D);
  }
  const errors = ties.map(({ error }) => error);
  return { weight, bias, pair: forms, errors, lowRankErrors: ties.map(({ lowRankError }) => lowRankError) };
}

/** trust · Σ + (1 − trust + ridge) · (tr Σ / rows) · I, as a head sees it */
function weighInputs({ heads, level }: InputMoments, head: number, trust: number): SpanOptions["inputs"] {
  const moments = heads[head] as Float64Array;
  if (!Number.isFinite(level) || !areFinite(moments)) throw makeNotFiniteError("the layer's inputs are not finite");
  return { moments, share: trust, rest: (1 - trust + RIDGE) * level };
}
