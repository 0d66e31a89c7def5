// The attention noise ε of training: standard normal draws that depend on seed, step and layer alone.
import { countElements } from "../../formats/dtype.ts";
import { makeFloat32Tensor, type Operands } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countDraws } from "../../model/variants.ts";
import { allocate, type Region } from "../kernels/memory.ts";
import type { TrainSettings } from "../train-settings.ts";

/** Entries of the table, two for each size of a quantile */
export const TABLE_SIZE = 65_536;
/** What `normals` in kernels.as.ts shares between the arrays of a memory: half of the table and its words */
const SHARED_FLOATS = TABLE_SIZE / 2 + 1536;
/** Stream numbers: draw · 2¹⁶ + index */
const STREAMS_PER_DRAW = 65_536n;
/** The words of an array's key */
export const KEY_WORDS = 4;

/**
 * Has an array for each size, filled anew for every step. Draws are functions of (seed, step, array index, position):
 * nothing is kept from step to step, so that a resumed run draws as it would have. How a draw is made: `normals` in
 * kernels.as.ts.
 */
export class NoiseBuffers {
  readonly arrays: readonly Float32Array[];
  private readonly regions: readonly Region[];
  private readonly seed: number;

  /**
   * @param seed an integer
   * @param options `bankBytes`: the most that one memory holds
   * @throws NfcError "unsupported" if an array exceeds a memory, or memory lacks
   */
  constructor(sizes: readonly number[], seed: number, options: { bankBytes?: number | undefined } = {}) {
    const requests = sizes.map((size, index) => ({ name: `noise of layer ${index}`, lengths: [size] }));
    this.regions = allocate(requests, options.bankBytes, SHARED_FLOATS);
    this.seed = seed;
    this.arrays = this.regions.map((region) => region.arrays[0] as Float32Array);
    const table = this.regions.length === 0 ? new Float32Array(0) : buildNormalTable().subarray(0, TABLE_SIZE / 2);
    for (const shared of new Set(this.regions.map((region) => region.shared))) shared.set(table);
  }

  /** Fills every array with N(0, 1) for this step (an integer from 0). */
  draw(step: number): void {
    const keys = deriveNoiseKeys(this.seed, step, this.arrays.length);
    for (const [index, { kernels }] of this.regions.entries()) {
      const array = this.arrays[index] as Float32Array;
      const key = keys.subarray(index * KEY_WORDS, (index + 1) * KEY_WORDS);
      kernels.normals(array.byteOffset, array.length, ...(key as unknown as [number, number, number, number]));
    }
  }
}

/**
 * The keys of a draw's arrays, for the kernel and for the input of the noise graph: int32 [arrays, 4]. A key is
 * (seed, stream) through four Feistel rounds, a bijection: no two (seed, draw, array) have the same one.
 * @param seed an integer, as `draw`
 */
export function deriveNoiseKeys(seed: number, draw: number, arrays: number): Int32Array {
  const keys = new BigUint64Array(2 * arrays);
  for (let index = 0; index < arrays; index++) {
    let a = BigInt.asUintN(64, BigInt(seed));
    let b = BigInt.asUintN(64, BigInt(draw) * STREAMS_PER_DRAW + BigInt(index));
    for (const round of [1n, 3n]) {
      a ^= mixBits64(b + GOLDEN * round);
      b ^= mixBits64(a + GOLDEN * (round + 1n));
    }
    keys.set([a, b], 2 * index);
  }
  return new Int32Array(keys.buffer);
}

const GOLDEN = 0x9e3779b97f4a7c15n;

/** The finalizer of splitmix64 (Steele, Lea and Flood 2014) */
function mixBits64(value: bigint): bigint {
  let z = BigInt.asUintN(64, value);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

/** Table entries are multiples of 2⁻²¹, so that the sum of two is exact, however a device rounds. */
const GRID = 2 ** 21;

/**
 * 65,536 quantiles of N(0, ½), two of which add up to N(0, 1) within ±6.1. Entry k & 65535 is Φ⁻¹(½ + (|k| + ½)/65,536)/√2
 * with the sign of k, for k = −32,767 … 32,767, scaled to variance ½; but 0 for k = 0, which a truncated quotient is
 * twice as often as any other k. −32,768 is no truncated quotient of an odd number, and has the entry of −32,767.
 */
export function buildNormalTable(): Float32Array {
  const half = TABLE_SIZE / 2;
  const quantiles = new Float64Array(half);
  let squares = 0;
  for (let k = 0, x = 0; k < half; k++) {
    x = normalQuantile((k + 0.5) / TABLE_SIZE, x);
    if (k > 0) quantiles[k] = x;
    if (k > 0) squares += x * x;
  }
  const scale = Math.sqrt(half / squares / 2);
  const table = new Float32Array(TABLE_SIZE);
  for (let k = 1; k < half; k++) {
    table[k] = Math.round(scale * (quantiles[k] as number) * GRID) / GRID;
    table[TABLE_SIZE - k] = -(table[k] as number);
  }
  table[half] = table[half + 1] as number;
  return table;
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
  feeds(draw: number): Operands | Promise<Operands>;
}

export type NoiseSettings = Pick<TrainSettings, "noise" | "batchSize" | "length" | "seed">;

/** Whether noise is fed, and the shapes of its arrays, one a layer; none where the variant has none, or it is at its mean. */
export function planNoise(
  { variant, n_head, n_layer }: ModelConfig,
  { noise, batchSize, length }: NoiseSettings,
): { mode: StepNoise["mode"]; shapes: number[][] } {
  const draws = countDraws(variant, n_head);
  const mode = noise === "sample" && draws > 0 ? "fed" : "mean";
  const shape = [batchSize, draws, length, length];
  return { mode, shapes: mode === "fed" ? Array.from({ length: n_layer }, () => shape) : [] };
}

/** Makes the noise of a run in the host's memory. */
export function makeStepNoise(config: ModelConfig, settings: NoiseSettings): StepNoise {
  const { mode, shapes } = planNoise(config, settings);
  const buffers = new NoiseBuffers(shapes.map(countElements), settings.seed);
  return {
    mode,
    feeds(draw) {
      buffers.draw(draw);
      const tensors = shapes.map((shape, layer) => makeFloat32Tensor(buffers.arrays[layer] as Float32Array, shape));
      return Object.fromEntries(tensors.map((tensor, layer) => [`eps.${layer}`, tensor]));
    },
  };
}
