// Random layers to tie.
import type { LayerTieInput } from "../../src/convert/tie.ts";
import { flat, randomSigma, uniform } from "../numeric/matrices.ts";

export interface LayerOptions extends Partial<LayerTieInput> {
  seed?: number;
  /** Without biases. */
  bare?: boolean;
}

/** Four heads of three columns unless told otherwise, with a Σ that fits. */
export function randomLayer({ seed = 1, bare = false, ...changes }: LayerOptions = {}): LayerTieInput {
  const { n_embd = 12, n_head = 4 } = changes;
  const random = uniform(seed);
  const values = (count: number) => Float32Array.from({ length: count }, random);
  return {
    n_embd,
    n_head,
    qWeight: values(n_embd * n_embd),
    kWeight: values(n_embd * n_embd),
    qBias: bare ? null : values(n_embd),
    kBias: bare ? null : values(n_embd),
    sigma: flat(randomSigma(bare ? n_embd : n_embd + 1, !bare, random)),
    strategy: "calibrated",
    ...changes,
  };
}
