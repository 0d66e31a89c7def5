// Random layers to tie.

import { putHeadColumns } from "../../../src/convert/attention/heads.ts";
import type { LayerTieInput } from "../../../src/convert/attention/tie.ts";
import { flat, fromFlat, headMoments, randomSigma, uniform } from "../../numeric/matrices.ts";

export interface LayerOptions extends Partial<LayerTieInput> {
  /** In place of the one that is drawn. */
  sigma?: Float64Array;
  seed?: number;
  /** Without biases. */
  bare?: boolean;
}

export interface RandomLayer extends LayerTieInput {
  /** Σ, of which `inputs` are made. */
  sigma: Float64Array;
}

/** Four heads of three columns unless told otherwise, with a Σ that fits. */
export function randomLayer({ seed = 1, bare = false, sigma, ...changes }: LayerOptions = {}): RandomLayer {
  const { n_embd = 12, n_head = 4 } = changes;
  const random = uniform(seed);
  const values = (count: number) => Float32Array.from({ length: count }, random);
  const layer = {
    n_embd,
    n_head,
    qWeight: values(n_embd * n_embd),
    kWeight: values(n_embd * n_embd),
    qBias: bare ? null : values(n_embd),
    kBias: bare ? null : values(n_embd),
    strategy: "calibrated" as const,
  };
  const drawn = sigma ?? flat(randomSigma(bare ? n_embd : n_embd + 1, !bare, random));
  return { ...withSigma({ ...layer, inputs: null }, drawn), ...changes };
}

/** The layer with the moments that its heads have under Σ. */
export function withSigma(layer: LayerTieInput, sigma: Float64Array): RandomLayer {
  const { n_embd, n_head, qWeight, kWeight, qBias, kBias } = layer;
  const D = n_embd / n_head;
  const rows = Math.sqrt(sigma.length);
  const matrix = fromFlat(sigma, rows, rows);
  const heads = Array.from({ length: n_head }, (_, head) => {
    const columns = new Float64Array((2 * D + (qBias ? 1 : 0)) * rows);
    putHeadColumns(columns, qWeight, qBias, head, layer);
    putHeadColumns(columns.subarray(D * rows), kWeight, kBias, head, layer);
    if (qBias) columns[columns.length - 1] = 1;
    return headMoments(columns, matrix);
  });
  return { ...layer, sigma, inputs: { heads, level: matrix.trace() / rows } };
}
