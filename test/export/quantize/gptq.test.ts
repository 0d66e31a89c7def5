// GPTQ: its factor against the definition, its loss against plain rounding and a search, and its layout.
import { describe, expect, test } from "vitest";
import { computeFeedback } from "../../../src/export/quantize/error-feedback.ts";
import { quantizeGptq } from "../../../src/export/quantize/gptq.ts";
import type { MatrixFormat } from "../../../src/graph/passes/quantized-blocks.ts";
import { dequantizeBlocks, quantizeBlocks } from "../../../src/graph/quantize/blocks.ts";
import { uniform } from "../../numeric/matrices.ts";

/** Inputs [T, K] of which neighbours are alike. */
function inputs(rows: number, inner: number, seed = 1): Float64Array {
  const random = uniform(seed);
  const x = new Float64Array(rows * inner);
  for (let t = 0; t < rows; t++)
    for (let k = 0, last = 0; k < inner; k++) {
      last = 0.8 * last + random();
      x[t * inner + k] = last;
    }
  return x;
}

/** Σ x xᵀ */
function gramOf(x: Float64Array, inner: number): Float64Array {
  const gram = new Float64Array(inner * inner);
  for (let t = 0; t < x.length; t += inner)
    for (let i = 0; i < inner; i++)
      for (let j = 0; j < inner; j++)
        gram[i * inner + j] = (gram[i * inner + j] as number) + (x[t + i] as number) * (x[t + j] as number);
  return gram;
}

/** Σ_t Σ_n (Σ_k x_tk (w_nk − ŵ_nk))² for W, Ŵ [N, K] */
function lossOf(x: Float64Array, weights: Float32Array, decoded: Float32Array, inner: number): number {
  let loss = 0;
  for (let t = 0; t < x.length; t += inner)
    for (let n = 0; n < weights.length; n += inner) {
      let sum = 0;
      for (let k = 0; k < inner; k++)
        sum += (x[t + k] as number) * ((weights[n + k] as number) - (decoded[n + k] as number));
      loss += sum ** 2;
    }
  return loss;
}

function weightsOf(count: number, seed = 2): Float32Array {
  const random = uniform(seed);
  return Float32Array.from({ length: count }, () => (random() + random() + random()) / 10);
}

const name = "w";

describe("computeFeedback", () => {
  test.each([5, 128, 300])(
    "the feedback factor satisfies tr(E H Eᵀ) = Σ_k d_k (e_k + Σ_{j>k} e_j a_kj)² at K = %i",
    (inner) => {
      const damping = 0.01;
      const gram = gramOf(inputs(inner + 20, inner), inner);
      const errors = weightsOf(inner);
      let mean = 0;
      for (let k = 0; k < inner; k++) mean += (gram[k * inner + k] as number) / inner;
      let expected = 0;
      for (let i = 0; i < inner; i++)
        for (let j = 0; j < inner; j++) {
          const h = (gram[i * inner + j] as number) + (i === j ? damping * mean : 0);
          expected += h * (errors[i] as number) * (errors[j] as number);
        }
      const { shares, costs } = computeFeedback(gram, inner, damping);
      let sum = 0;
      for (let k = 0; k < inner; k++) {
        let total = errors[k] as number;
        for (let j = k + 1; j < inner; j++) total += (errors[j] as number) * (shares[k * inner + j] as number);
        sum += (costs[k] as number) * total ** 2;
      }
      expect(sum / expected).toBeCloseTo(1, 10);
    },
  );

  test("inputs that are always zero leave the feedback factor finite", () => {
    const { shares, costs } = computeFeedback(new Float64Array(9), 3, 0.01);
    expect([...costs]).toEqual([1, 1, 1]);
    expect([...shares].every(Number.isFinite)).toBe(true);
  });
});

describe("the loss of quantizeGptq", () => {
  for (const bits of [4, 8] as const)
    for (const symmetric of [true, false])
      for (const [inner, block] of [
        [160, 32],
        [200, 64],
        [96, 128],
      ] as const)
        test(`the loss is at most half of plain rounding's: ${bits} bits, symmetric: ${symmetric}, K = ${inner}, block ${block}`, () => {
          const x = inputs(400, inner);
          const weights = weightsOf(7 * inner);
          const format: MatrixFormat = { bits, symmetric, block, shape: [7, inner], byRow: true };
          const plain = dequantizeBlocks(quantizeBlocks(weights, { ...format, name }), format);
          const gptq = dequantizeBlocks(quantizeGptq(weights, gramOf(x, inner), { ...format, name }), format);
          expect(lossOf(x, weights, gptq, inner)).toBeLessThan(0.5 * lossOf(x, weights, plain, inner));
          // The inputs of another text of the same kind gain as well.
          const other = inputs(400, inner, 3);
          expect(lossOf(other, weights, gptq, inner)).toBeLessThan(0.7 * lossOf(other, weights, plain, inner));
        });

  test("GPTQ with uncorrelated inputs is plain rounding", () => {
    const inner = 160;
    const gram = new Float64Array(inner * inner);
    for (let k = 0; k < inner; k++) gram[k * inner + k] = 1;
    const weights = weightsOf(3 * inner);
    for (const symmetric of [true, false]) {
      const options = { bits: 4, symmetric, block: 32, shape: [3, inner], byRow: true, name } as const;
      expect(quantizeGptq(weights, gram.slice(), options)).toEqual(quantizeBlocks(weights, options));
    }
  });
});

test("more damping keeps the decoded weights nearer to the originals", () => {
  const inner = 96;
  const x = inputs(200, inner);
  const weights = weightsOf(9 * inner);
  const options = { bits: 4, symmetric: true, block: 32, shape: [9, inner], byRow: true, name } as const;
  const errors = [0.01, 1, 1000].map((damping) => {
    const decoded = dequantizeBlocks(quantizeGptq(weights, gramOf(x, inner), { ...options, damping }), options);
    return weights.reduce((sum, w, i) => sum + (w - (decoded[i] as number)) ** 2, 0);
  }) as [number, number, number];
  expect(errors[1]).toBeLessThan(0.9 * errors[0]);
  expect(errors[2]).toBeLessThan(errors[1]);
});

test("GPTQ gives the same bytes for [K, N] and [N, K], over more channels than one batch holds", () => {
  const [inner, channels] = [48, 1030];
  const byRow = weightsOf(inner * channels);
  const byColumn = Float32Array.from(byRow, (_, i) => byRow[(i % channels) * inner + Math.floor(i / channels)] ?? 0);
  const gram = gramOf(inputs(100, inner), inner);
  const options = { bits: 4, symmetric: false, block: 32, name } as const;
  const rows = quantizeGptq(byRow, gram.slice(), { ...options, shape: [channels, inner], byRow: true });
  expect(quantizeGptq(byColumn, gram, { ...options, shape: [inner, channels], byRow: false })).toEqual(rows);
  // Channels do not touch one another: the last ones alone are the same.
  const tail = byRow.slice(1024 * inner);
  const alone = quantizeGptq(tail, gramOf(inputs(100, inner), inner), { ...options, shape: [6, inner], byRow: true });
  expect([...rows.scales.slice(-12)]).toEqual([...alone.scales]);
  expect([...rows.values.slice(-6 * 32)]).toEqual([...alone.values]);
});
