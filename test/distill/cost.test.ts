// Costs by arithmetic: operations against the products of the real graphs, sizes against what was counted by hand.
import { describe, expect, it, test } from "vitest";
import {
  computeRate,
  countForwardFlops,
  countTokenFlops,
  estimateMemory,
  estimateSeconds,
  type MeasuredStep,
} from "../../src/distill/cost.ts";
import { buildStepGraph } from "../../src/distill/step/step-graph.ts";
import { type Graph, pruneGraph } from "../../src/graph/ir.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { listParameters } from "../../src/model/parameters.ts";
import type { Variant } from "../../src/model/variants.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const [BATCH, LENGTH] = [2, 32];

function makeConfig(variant: Variant, more: Partial<ModelConfig> = {}): ModelConfig {
  const sizes = { layers: 3, heads: 4, width: 64, positions: LENGTH, vocab: 500 };
  return { ...tinyModelConfig({ ...sizes, variant }), ...more };
}

/** Operations of all products of a graph: 2 · elements of the result · length of the sums. */
function countProducts(graph: Graph): number {
  let flops = 0;
  for (const { op, inputs, outputs, attributes } of pruneGraph(graph).nodes) {
    if (op !== "MatMul" && op !== "Gemm") continue;
    const [rows, columns] = (inputs[0]?.shape ?? []).slice(-2) as number[];
    const isTurned = attributes.transA !== undefined && "int" in attributes.transA && attributes.transA.int === 1;
    const result = ((outputs[0]?.shape ?? []) as number[]).reduce((a, b) => a * b, 1);
    flops += 2 * result * ((isTurned ? rows : columns) as number);
  }
  return flops;
}

describe("operations of a token", () => {
  it.each<[string, ModelConfig]>([
    ["dense", makeConfig("dense")],
    ["symmetric", makeConfig("symmetric")],
    ["noise-distance", makeConfig("noise-distance")],
    ["low-rank", makeConfig("low-rank", { qk_ranks: [8, 8, 4] })],
    ["dense with narrow values", makeConfig("dense", { vo_ranks: [16, 8, 4] })],
    ["a head of its own", makeConfig("dense", { tied_head: false })],
  ])("a training step of %s has the products that are counted", (_, config) => {
    const trained = new Set(listParameters(config).map(({ name }) => name));
    const teacher = { kind: "hidden", n_embd: 64, precision: "fp32" } as const;
    const { graph } = buildStepGraph({ config, batch: BATCH, length: LENGTH, trained, noise: "mean", teacher });
    const counted = countTokenFlops({ student: config, teacher: null, length: LENGTH }).student;
    // The student's graph makes the teacher's logits.
    const expected = BATCH * LENGTH * (counted + 2 * 500 * 64);
    expect(countProducts(graph) / expected).toBeGreaterThan(0.97);
    expect(countProducts(graph) / expected).toBeLessThan(1.03);
  });

  test("GPT-2 small's forward pass is 2·W and the attention to 1,024 tokens", () => {
    const config = tinyModelConfig({ layers: 12, heads: 12, width: 768, positions: 1024, vocab: 50_257 });
    const weights = 12 * 12 * 768 ** 2 + 50_257 * 768;
    const forward = 2 * weights + 4 * 1024 * 768 * 12;
    expect(countForwardFlops(config, 1024)).toBe(forward);
    expect(countTokenFlops({ student: config, teacher: config, length: 1024 })).toEqual({
      student: 3 * forward,
      teacher: forward,
    });
  });
});

describe("time and memory from a measured step", () => {
  const student = makeConfig("symmetric");
  const measured: MeasuredStep = {
    ...{ student, teacher: makeConfig("dense"), length: LENGTH },
    ...{ batch: 4, seconds: 2, peakBytes: 50e6, stateBytes: 20 },
  };

  test("the measured step itself takes the time and the memory that were measured", () => {
    const tokens = 4 * LENGTH;
    expect(estimateSeconds(tokens, countTokenFlops(measured), computeRate(measured))).toBeCloseTo(2, 9);
    expect(estimateMemory(measured, measured)).toBeCloseTo(50e6, 3);
  });

  test("twice the tokens take twice the time, and a larger batch more memory beside the same state", () => {
    const flops = countTokenFlops(measured);
    const rate = computeRate(measured);
    expect(estimateSeconds(2e6, flops, rate)).toBeCloseTo(2 * estimateSeconds(1e6, flops, rate), 6);
    const [four, eight, twelve] = [4, 8, 12].map((batch) => estimateMemory({ ...measured, batch }, measured)) as [
      number,
      number,
      number,
    ];
    expect(twelve - eight).toBeCloseTo(eight - four, 3);
    expect(eight).toBeLessThan(2 * four);
    // Without a teacher, its weights are gone.
    const alone = estimateMemory({ ...measured, teacher: null }, measured);
    const weights = listParameters(makeConfig("dense")).reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b),
      0,
    );
    expect(four - alone).toBeCloseTo(4 * weights, 3);
  });
});
