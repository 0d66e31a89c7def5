// Ties Q and K of one layer, head by head, by one of five strategies.
import { NfcError } from "../errors.ts";
import { requireFiniteHead } from "./head-check.ts";
import { findClosestPair } from "./pair-head.ts";
import {
  buildHeadSpan,
  combineWeights,
  findClosestForm,
  type HeadSpan,
  measureTieError,
  projectFromSpan,
} from "./tie-head.ts";

export const TIE_STRATEGIES = ["calibrated", "spectral", "mean", "query", "key"] as const;
export type TieStrategy = (typeof TIE_STRATEGIES)[number];

/** The ridge on Σ's diagonal, relative to its mean: it bounds S̃ in directions that the text never takes. */
export const RIDGE = 1e-4;

/** Positions at which text and identity have equal shares in the metric (docs/decisions/0036-calibration-trust.md). */
const TRUST_TOKENS = 128;

/**
 * The share of the moments of a text in the metric of a tie. A few positions say that errors in all other directions
 * cost nothing, so that the rest of the metric is the identity, as without text.
 */
export function computeTrust(positions: number): number {
  return positions ** 2 / (positions ** 2 + TRUST_TOKENS ** 2);
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
  /** Σ = E[x̃ᵀx̃] of the rows x̃ = [x, 1] (x without biases), before the ridge; null is the identity. */
  sigma: Float64Array | null;
  /** Γ of each head (`SpanOptions.keyMoments`): H times [2D, 2D]; all keys count alike without it. */
  keyMoments?: readonly Float64Array[] | null | undefined;
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
}

/** S of one head, A where it has one, and its error. */
export interface HeadTie {
  s: Float64Array; // [C + 1 or C, D]
  pair?: Float64Array | undefined; // [D, D]
  error: number;
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
  const { trust = 1 } = input;
  const sigma = input.sigma ? addRidge(input.sigma, rows, trust) : null;
  return heads.map((head) => {
    const query = takeHeadColumns(input.qWeight, qBias, head, input);
    const key = takeHeadColumns(input.kWeight, kBias, head, input);
    requireFiniteHead(head, "Q or K", [query, key]);
    const keyMoments = input.keyMoments?.[head] ?? null;
    requireFiniteHead(head, "attention", [keyMoments]);
    const span = buildHeadSpan(query, key, { rows, headDim: C / n_head, constant, sigma, keyMoments, trust });
    return input.paired ? pairOne(span) : tieOne(span, input.strategy, query, key);
  });
}

function tieOne(span: HeadSpan, strategy: TieStrategy, query: Float64Array, key: Float64Array): HeadTie {
  switch (strategy) {
    case "query":
      return { s: query, error: measureTieError(span, combineWeights(span, 1, 0)) };
    case "key":
      return { s: key, error: measureTieError(span, combineWeights(span, 0, 1)) };
    case "mean": {
      const s = query.map((value, i) => (value + (key[i] as number)) / 2);
      return { s, error: measureTieError(span, combineWeights(span, 0.5, 0.5)) };
    }
    default: {
      const whitened = findClosestForm(span);
      return { s: projectFromSpan(span, whitened), error: measureTieError(span, whitened) };
    }
  }
}

function pairOne(span: HeadSpan): HeadTie {
  const { whitened, pair, error } = findClosestPair(span);
  return { s: projectFromSpan(span, whitened), pair, error };
}

/** The largest number of float32, in which S is stored. */
export const MAX_FLOAT32 = 3.4028234663852886e38;

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
    if (![s, pair ?? []].every((part) => part.every((value) => Math.abs(value) <= MAX_FLOAT32)))
      throw new NfcError("unsupported", `head ${head}: the tied weights exceed float32`, {
        hint: "take --tie query or --tie key, which keep weights as they are",
      });
    for (let row = 0; row < C; row++) weight.set(s.subarray(row * D, (row + 1) * D), row * C + head * D);
    bias?.set(s.subarray(C * D, (C + 1) * D), head * D);
    if (pair) forms?.set(pair, head * D * D);
  }
  return { weight, bias, pair: forms, errors: ties.map(({ error }) => error) };
}

/** Gives W̃ of one head: its columns of the weight, and the bias as one more row. */
export function takeHeadColumns(
  weight: Float32Array,
  bias: Float32Array | null,
  head: number,
  { n_embd: C, n_head }: Pick<LayerTieInput, "n_embd" | "n_head">,
): Float64Array {
  const D = C / n_head;
  const out = new Float64Array((bias ? C + 1 : C) * D);
  for (let row = 0; row < C; row++) out.set(weight.subarray(row * C + head * D, row * C + (head + 1) * D), row * D);
  if (bias) out.set(bias.subarray(head * D, (head + 1) * D), C * D);
  return out;
}

/** trust · Σ + (1 − trust + ridge) · (tr Σ / n) · I */
function addRidge(sigma: Float64Array, n: number, trust: number): Float64Array {
  const out = sigma.map((value) => trust * value);
  if (!out.every(Number.isFinite))
    throw new NfcError("invalid-file", "the layer's inputs are not finite", { hint: "the checkpoint is damaged" });
  let trace = 0;
  for (let i = 0; i < n; i++) trace += sigma[i * n + i] as number;
  const added = ((1 - trust + RIDGE) * trace) / n;
  for (let i = 0; i < n; i++) out[i * n + i] = (out[i * n + i] as number) + added;
  return out;
}
