// Lowers the rank of the scores of one layer: q and k of each head with r numbers in place of D.
import { multiplyTransposed, takeBlock } from "../../numeric/linalg.ts";
import { mixMoments } from "../statistics/moments.ts";
import {
  applyFactor,
  type FormFactors,
  type FormGrams,
  factorHeads,
  findSpectrum,
  measureRankError,
} from "./factor-form.ts";
import { requireFiniteHead, requireFloat32, takeHeadColumns } from "./heads.ts";
import type { LayerProjections } from "./tied-attention.ts";

export interface ScoreLayer extends LayerProjections {
  n_embd: number;
  n_head: number;
  /** E[qᵀq] of each head: H times [D, D]. Null: all inputs count alike. */
  queryMoments: readonly Float64Array[] | null;
  /** Γ of each head, of z = [q, k] (`LayerStatistics`): H times [2D, 2D]. */
  keyMoments: readonly Float64Array[] | null;
  /** Share of the moments in the metric, as `computeTrust` gives it. */
  trust: number;
}

export interface NarrowScores {
  /** q and k side by side, each with all heads' columns: [C, 2·H·r] */
  weight: Float32Array;
  bias: Float32Array | null; // [2·H·r]
  /** Relative error of each head (`measureRankError`). */
  errors: number[];
}

/** Factors the scores of each head (`factor-form.ts`). @throws NfcError as `measureGrams` */
export function factorScores(layer: ScoreLayer): FormFactors[] {
  return factorHeads(layer, (head) => measureGrams(layer, head, measureWeights(layer, head)));
}

/**
 * The spectrum of a head's scores (`findSpectrum`): [D]
 * @param plain the Gram matrices of the head's weights, where they are known
 * @throws NfcError as `measureGrams`
 */
export function findScoreSpectrum(
  layer: ScoreLayer,
  head: number,
  plain: FormGrams = measureWeights(layer, head),
): Float64Array {
  const { left, right } = measureGrams(layer, head, plain);
  return findSpectrum(left, right, layer.n_embd / layer.n_head);
}

/** The moments of q and k of a head where all inputs count alike, those of k without its bias. @throws as `takeHead` */
function measureWeights(layer: ScoreLayer, head: number): FormGrams {
  const { n_embd: C, n_head } = layer;
  const D = C / n_head;
  const { query, key } = takeHead(layer, head);
  const weight = key.subarray(0, C * D);
  return {
    left: multiplyTransposed(query, query, D, query.length / D, D),
    right: multiplyTransposed(weight, weight, D, C, D),
  };
}

/**
 * The same from the Gram matrix of the columns of Q and K without their biases. Sums run in the same order.
 * @param gram [2D, 2D] @param bias of Q: [D], null in a model without biases
 */
export function takeFormGrams(gram: Float64Array, bias: Float64Array | null, D: number): FormGrams {
  const [left, right] = [new Float64Array(D * D), takeBlock(gram, 2 * D, D, D)];
  for (let i = 0; i < D; i++)
    for (let j = 0; j < D; j++)
      left[i * D + j] = (gram[i * 2 * D + j] as number) + (bias ? (bias[i] as number) * (bias[j] as number) : 0);
  return { left, right };
}

/**
 * The moments of q and k of a head. The moments of the queries are those of the text. Those of the keys
 * are their covariance under the attention of one query, averaged over the queries: the divergence of the softmax to second
 * order, which is blind to what is the same for all keys, such as the bias of k.
 * @param plain the moments where all inputs count alike, taken without a text
 * @throws NfcError "invalid-file" when weights or attention are not finite
 */
function measureGrams(
  { n_embd, n_head, queryMoments, keyMoments, trust }: ScoreLayer,
  head: number,
  plain: FormGrams,
): FormGrams {
  const D = n_embd / n_head;
  const [queries, spread] = [queryMoments?.[head], keyMoments?.[head]];
  if (!queries || !spread) return plain;
  requireFiniteHead(head, "attention", [queries, spread]);
  const keys = takeBlock(spread, 2 * D, D, D);
  return { left: mixMoments(queries, plain.left, D, trust), right: mixMoments(keys, plain.right, D, trust) };
}

/** q and k of all heads at rank r. @throws NfcError "unsupported" where they are beyond float32 */
export function narrowScores(layer: ScoreLayer, factors: readonly FormFactors[], r: number): NarrowScores {
  const { n_embd: C, n_head } = layer;
  const D = C / n_head;
  const width = 2 * n_head * r;
  const weight = new Float32Array(C * width);
  const bias = layer.qBias ? new Float32Array(width) : null;
  for (const [head, { left, right }] of factors.entries()) {
    const { query, key } = takeHead(layer, head);
    for (const [part, columns, factor] of [
      [0, query, left],
      [1, key, right],
    ] as const) {
      const narrow = applyFactor(columns, factor, columns.length / D, D, r); // [C + 1 or C, r]
      const hint = "convert without --calibration, or to another variant";
      requireFloat32([narrow], `head ${head}: the weights of rank ${r}`, hint);
      const first = (part * n_head + head) * r;
      for (let row = 0; row < C; row++) weight.set(narrow.subarray(row * r, (row + 1) * r), row * width + first);
      bias?.set(narrow.subarray(C * r), first);
    }
  }
  return { weight, bias, errors: factors.map(({ values }) => measureRankError(values, r)) };
}

function takeHead(layer: ScoreLayer, head: number): { query: Float64Array; key: Float64Array } {
  const query = takeHeadColumns(layer.qWeight, layer.qBias, head, layer);
  const key = takeHeadColumns(layer.kWeight, layer.kBias, head, layer);
  requireFiniteHead(head, "Q or K", [query, key]);
  return { query, key };
}
