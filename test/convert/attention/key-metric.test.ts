// The attention-weighted metric on the keys: what it measures, and that ties follow it.
import { Matrix } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { tieHeads } from "../../../src/convert/attention/tie.ts";
import {
  buildHeadSpan,
  combineWeights,
  findClosestForm,
  type HeadSpan,
  measureTieError,
  projectFromSpan,
} from "../../../src/convert/attention/tie-head.ts";
import { NfcError } from "../../../src/errors.ts";
import {
  columnsOf,
  type DenseHead,
  flat,
  inputsOf,
  randomHead,
  randomMatrix,
  uniform,
} from "../../numeric/matrices.ts";

/** Moments of [q, k] under random attention over random inputs: E_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ. */
function momentsOf({ query, key, constant }: DenseHead, seed: number): Matrix {
  const random = uniform(seed);
  const [inputs, queries] = [40, 12];
  const x = randomMatrix(inputs, query.rows, random);
  if (constant) for (let i = 0; i < inputs; i++) x.set(i, query.rows - 1, 1);
  const z = Matrix.zeros(inputs, 2 * query.columns);
  z.setSubMatrix(x.mmul(query), 0, 0);
  z.setSubMatrix(x.mmul(key), 0, query.columns);
  const out = Matrix.zeros(z.columns, z.columns);
  for (let i = 0; i < queries; i++) {
    // Sharp: each query looks at a few keys, as trained heads do.
    const weights = Array.from({ length: inputs }, () => Math.exp(6 * random()));
    const total = weights.reduce((a, b) => a + b, 0);
    const p = Matrix.rowVector(weights.map((weight) => weight / total));
    const centered = z.clone().subRowVector(p.mmul(z).to1DArray());
    out.add(centered.transpose().mmul(Matrix.diag(p.to1DArray())).mmul(centered).div(queries));
  }
  return out;
}

function spanWith(head: DenseHead, keyMoments: Matrix | null): HeadSpan {
  const { query, key, sigma, constant } = head;
  const columns = columnsOf(query, key, constant);
  const options = { rows: query.rows, headDim: query.columns, constant, inputs: inputsOf(columns, sigma) };
  return buildHeadSpan(columns, { ...options, keyMoments: keyMoments && flat(keyMoments) });
}

/** tr(EᵀΣE Γ) with E = W̃q W̃kᵀ − S̃S̃ᵀ between queries x̃ and keys seen through z = [q, k] of the same inputs. */
function loss({ query, key, sigma, constant }: DenseHead, moments: Matrix, qPart: number, kPart: number): number {
  const D = query.columns;
  const size = 2 * D + (constant ? 1 : 0);
  const basis = Matrix.zeros(query.rows, size);
  basis.setSubMatrix(query, 0, 0);
  basis.setSubMatrix(key, 0, D);
  if (constant) basis.set(query.rows - 1, size - 1, 1);
  const rest = Matrix.zeros(size, size); // K − TTᵀ with S̃ = B T
  for (let d = 0; d < D; d++) {
    rest.set(d, D + d, 1 - qPart * kPart);
    rest.set(D + d, d, -qPart * kPart);
    rest.set(d, d, -qPart * qPart);
    rest.set(D + d, D + d, -kPart * kPart);
  }
  const padded = Matrix.zeros(size, size);
  padded.setSubMatrix(moments, 0, 0);
  const gram = basis.transpose().mmul(sigma).mmul(basis);
  return rest.transpose().mmul(gram).mmul(rest).mmul(padded).trace();
}

const seeds = Array.from({ length: 16 }, (_, i) => i + 1);

describe("the metric of a head's keys", () => {
  test.each([true, false])("the error of a tie is the weighted loss of the scores (constant input: %s)", (constant) => {
    const head = randomHead(3, { width: 10, headDim: 3, constant });
    const moments = momentsOf(head, 5);
    const span = spanWith(head, moments);
    for (const [q, k] of [
      [1, 0],
      [0, 1],
      [0.5, 0.5],
    ] as const) {
      const expected = Math.sqrt(loss(head, moments, q, k) / loss(head, moments, 0, 0));
      expect(measureTieError(span, combineWeights(span, q, k))).toBeCloseTo(expected, 6);
    }
  });

  test("a tie made in the key metric loses less of it than a tie that weighs all keys alike", () => {
    const ratios = seeds.map((seed) => {
      const head = randomHead(seed, { width: 16, headDim: 4 });
      const span = spanWith(head, momentsOf(head, seed + 100));
      return (
        measureTieError(span, findClosestForm(span)) / measureTieError(span, findClosestForm(spanWith(head, null)))
      );
    });
    expect(Math.max(...ratios)).toBeLessThan(1.02);
    expect(ratios.reduce((a, b) => a + b, 0) / ratios.length).toBeLessThan(0.95);
  });

  test.each([true, false])("a head that is tied already is kept (constant input: %s)", (constant) => {
    const head = randomHead(7, { width: 12, headDim: 3, constant });
    const same = { ...head, key: head.query };
    const span = spanWith(same, momentsOf(same, 9));
    expect(measureTieError(span, findClosestForm(span))).toBeLessThan(1e-3);
  });

  test("attention that never weighs different keys leaves the plain tie", () => {
    const head = randomHead(2, { width: 9, headDim: 3 });
    const nothing = spanWith(head, Matrix.zeros(6, 6));
    const plain = spanWith(head, null);
    expect(projectFromSpan(nothing, findClosestForm(nothing))).toEqual(projectFromSpan(plain, findClosestForm(plain)));
  });

  test("key moments of rank one still give a finite tie", () => {
    const head = randomHead(4, { width: 9, headDim: 3 });
    const v = randomMatrix(6, 1, uniform(1));
    const span = spanWith(head, v.mmul(v.transpose()));
    expect(projectFromSpan(span, findClosestForm(span)).every(Number.isFinite)).toBe(true);
  });
});

test("key moments that are not finite are refused with their head", () => {
  const weight = Float32Array.from({ length: 16 }, (_, i) => Math.sin(i));
  const bias = new Float32Array(4);
  const layer = { n_embd: 4, n_head: 2, qWeight: weight, kWeight: weight, qBias: bias, kBias: bias, inputs: null };
  const keyMoments = [new Float64Array(16), new Float64Array(16).fill(Number.NaN)];
  const tie = () => tieHeads({ ...layer, keyMoments, strategy: "calibrated" }, [0, 1]);
  expect(tie).toThrow(NfcError);
  expect(tie).toThrow("head 1: attention is not finite");
});
