// Lowers the rank of the scores of one layer: q and k of each head with r numbers in place of D.
import { multiplyTransposed } from "../numeric/linalg.ts";
import {
  applyFactor,
  type FormFactors,
  type FormGrams,
  factorHeads,
  findSpectrum,
  measureRankError,
} from "./factor-form.ts";
import { requireFiniteHead, requireFloat32, takeHeadColumns } from "./heads.ts";
import { mixMoments } from "./moments.ts";
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
  return factorHeads(layer, (head) => measureGrams(layer, head));
}

/** The spectrum of a head's scores (`findSpectrum`): [D] @throws NfcError as `measureGrams` */
export function findScoreSpectrum(layer: ScoreLayer, head: number): Float64Array {
  const { left, right } = measureGrams(layer, head);
  return findSpectrum(left, right, layer.n_embd / layer.n_head);
}

/**
 * The moments of q and k of a head. The moments of the queries are those of the text. Those of the keys
 * are their covariance under the attention of one query, averaged over the queries: the divergence of the softmax to second
 * order, which is blind to what is the same for all keys, such as the bias of k.
 * @throws NfcError "invalid-file" when weights or attention are not finite
 */
function measureGrams(layer: ScoreLayer, head: number): FormGrams {
  const { n_embd: C, n_head, queryMoments, keyMoments, trust } = layer;
  const D = C / n_head;
  const { query, key } = takeHead(layer, head);
  const rows = query.length / D;
  const weight = key.subarray(0, C * D); // without the bias
  const plain = {
    left: multiplyTransposed(query, query, D, rows, D),
    right: multiplyTransposed(weight, weight, D, C, D),
  };
  const [queries, spread] = [queryMoments?.[head], keyMoments?.[head]];
  if (!queries || !spread) return plain;
  requireFiniteHead(head, "attention", [queries, spread]);
  const keys = takeKeyBlock(spread, D);
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

/** The moments of the keys, the last block of those of z = [q, k]: [2D, 2D] → [D, D] */
function takeKeyBlock(moments: Float64Array, D: number): Float64Array {
  const out = new Float64Array(D * D);
  for (let i = 0; i < D; i++) out.set(moments.subarray((D + i) * 2 * D + D, (D + i + 1) * 2 * D), i * D);
  return out;
}
