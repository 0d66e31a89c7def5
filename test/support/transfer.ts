// Random weights for tests of the transfer, and the comparison of its gradients with finite differences.
import { expect } from "vitest";
import type { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { countElements } from "../../src/formats/dtype.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { tinyValues } from "./make-checkpoint.ts";

/** Weights of norms are near 1, the others near 0. */
export function randomWeights(config: ModelConfig, seed: number): Map<string, Float32Array> {
  const entries = listParameters(config).map(({ name, shape }): [string, Float32Array] => {
    const isGain = name.includes("ln_") && name.endsWith("weight");
    return [name, tinyValues(name, countElements(shape), seed).map((x) => (isGain ? 1 + x / 4 : x / 2))];
  });
  return new Map(entries);
}

export interface DifferenceOptions {
  names: readonly string[];
  /** The student's values, which the loss depends on. */
  weights: ReadonlyMap<string, Float64Array | Float32Array>;
  store: ParameterStore;
  loss: () => number;
  /** What the gradients were multiplied by. */
  weight: number;
  /** The entries that are looked at: from `first` of a name on, every `stride`-th. */
  first?: (name: string) => number;
  stride: number;
  tolerance: number;
}

/** Holds each gradient against (L(x + h) − L(x − h)) / 2h; gives the largest of these. */
export function compareWithDifferences(options: DifferenceOptions): number {
  const { names, weights, store, loss, weight, first = () => 0, stride, tolerance } = options;
  let largest = 0;
  for (const name of names) {
    const values = weights.get(name) as Float64Array;
    const { gradient } = store.slot(name);
    for (let i = first(name); i < values.length; i += stride) {
      const value = values[i] as number;
      const [up, down] = [1e-5, -1e-5].map((move) => {
        values[i] = value + move;
        return loss();
      }) as [number, number];
      values[i] = value;
      const expected = (weight * (up - down)) / 2e-5;
      largest = Math.max(largest, Math.abs(expected));
      expect(Math.abs((gradient[i] as number) - expected), `${name}[${i}]`).toBeLessThan(tolerance);
    }
  }
  return largest;
}
