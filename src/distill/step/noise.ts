// The attention noise ε of training: standard normal draws that depend on seed, step and layer alone.
import { countElements } from "../../formats/dtype.ts";
import { makeFloat32Tensor, type Tensor } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countDraws } from "../../model/variants.ts";
import { allocate, type Region } from "../kernels/memory.ts";
import type { TrainSettings } from "../train-settings.ts";

const TABLE_SIZE = 65_536;
/** Stream numbers: step · 2¹⁶ + index */
const STREAMS_PER_STEP = 65_536n;

/**
 * Has an array for each size, filled anew for every step. Draws are functions of (seed, step, array index): nothing is kept from
 * step to step, so that a resumed run draws as it would have, and no two arrays or steps begin with the same generator
 * state. How a draw is made: `normals` in kernels.as.ts.
 */
export class NoiseBuffers {
  readonly arrays: readonly Float32Array[];
  private readonly regions: readonly Region[];
  private readonly seed: bigint;

  /**
   * @param seed an integer
   * @param options `bankBytes`: the most that one memory holds
   * @throws NfcError "unsupported" if an array exceeds a memory, or memory lacks
   */
  constructor(sizes: readonly number[], seed: number, options: { bankBytes?: number | undefined } = {}) {
    const requests = sizes.map((size, index) => ({ name: `noise of layer ${index}`, lengths: [size] }));
    this.regions = allocate(requests, options.bankBytes, TABLE_SIZE);
    this.seed = BigInt(seed);
    this.arrays = this.regions.map((region) => region.arrays[0] as Float32Array);
    const table = this.regions.length === 0 ? new Float32Array(0) : buildNormalTable();
    for (const shared of new Set(this.regions.map((region) => region.shared))) shared.set(table);
  }

  /** Fills every array with N(0, 1) for this step (an integer from 0). */
  draw(step: number): void {
    for (const [index, { kernels, shared }] of this.regions.entries()) {
      const array = this.arrays[index] as Float32Array;
      const stream = BigInt(step) * STREAMS_PER_STEP + BigInt(index);
      kernels.normals(array.byteOffset, array.length, shared.byteOffset, this.seed, stream);
    }
  }
}

/**
 * Φ⁻¹((k + ½) / 65,536) for k = 0 … 65,535, ascending, scaled to variance ½: two that are drawn at random add up to
 * N(0, 1) within ±6.1, in 2³² combinations.
 */
export function buildNormalTable(): Float32Array {
  const half = TABLE_SIZE / 2;
  const quantiles = new Float64Array(half);
  let x = 0;
  let squares = 0;
  for (let k = 0; k < half; k++) {
    x = normalQuantile((k + 0.5) / TABLE_SIZE, x);
    quantiles[k] = x;
    squares += x * x;
  }
  const scale = Math.sqrt(half / squares / 2);
  return Float32Array.from({ length: TABLE_SIZE }, (_, k) =>
    k < half ? -scale * (quantiles[half - 1 - k] as number) : scale * (quantiles[k - half] as number),
  );
}

/**
 * The x with Φ(x) − ½ = p > 0, by Newton's method from below it, which approaches it monotonically (Φ is concave here).
 * Φ(x) − ½ = φ(x) · (x + x³/3 + x⁵/(3·5) + …), a sum of positive terms (Marsaglia 2004).
 */
function normalQuantile(p: number, below: number): number {
  let x = below;
  for (let round = 0; round < 30; round++) {
    let sum = x;
    for (let term = x, odd = 3; term > 1e-17 * sum; odd += 2) {
      term *= (x * x) / odd;
      sum += term;
    }
    const move = p * Math.sqrt(2 * Math.PI) * Math.exp((x * x) / 2) - sum;
    x += move;
    if (move < 1e-10) break;
  }
  return x;
}

export interface StepNoise {
  readonly mode: "fed" | "mean";
  /** Draws ε of every layer, for one micro-batch. */
  feeds(draw: number): Record<string, Tensor>;
}

/** Makes the noise of a run: nothing is fed where the variant has none, or the run is at its mean. */
export function makeStepNoise(
  config: ModelConfig,
  { noise, batchSize, length, seed }: Pick<TrainSettings, "noise" | "batchSize" | "length" | "seed">,
): StepNoise {
  const draws = countDraws(config.variant, config.n_head);
  const mode = noise === "sample" && draws > 0 ? "fed" : "mean";
  const shape = [batchSize, draws, length, length];
  const buffers = new NoiseBuffers(mode === "fed" ? Array(config.n_layer).fill(countElements(shape)) : [], seed);
  return {
    mode,
    feeds(draw) {
      buffers.draw(draw);
      return Object.fromEntries(buffers.arrays.map((data, layer) => [`eps.${layer}`, makeFloat32Tensor(data, shape)]));
    },
  };
}
