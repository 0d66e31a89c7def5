// The closed form of the tie against plain alternation, random search and dense arithmetic.
import { Matrix } from "ml-matrix";
import { describe, expect, test } from "vitest";
import {
  combineWeights,
  findClosestForm,
  measureTieError,
  projectFromSpan,
} from "../../../src/convert/attention/tie-head.ts";
import {
  type DenseHead,
  flat,
  freeTerm,
  fromFlat,
  type HeadOptions,
  nearestPositive,
  power,
  randomHead,
  randomMatrix,
  spanOf,
  uniform,
  visibleLoss,
} from "../../numeric/matrices.ts";

/** As in the code under test: τ over the norm of what is seen of the form. */
const CONSTANT_SCALE = 10;

function formOf({ query, key }: DenseHead): Matrix {
  return query.mmul(key.transpose());
}

/** S̃ and its error by the code under test. */
function tied(head: DenseHead): { s: Matrix; error: number } {
  const span = spanOf(head);
  const whitened = findClosestForm(span);
  const s = fromFlat(projectFromSpan(span, whitened), head.query.rows, head.query.columns);
  return { s, error: measureTieError(span, whitened) };
}

/** √J(S̃S̃ᵀ)/√J(0) in dense matrices. */
function denseError(head: DenseHead, s: Matrix): number {
  const nothing = Matrix.zeros(s.rows, s.rows);
  return Math.sqrt(visibleLoss(head, s.mmul(s.transpose())) / visibleLoss(head, nothing));
}

/** The lowest relative error on the way of: a = −(M − P) Σe / (eᵀΣe), then P = the projection of M + a eᵀ. */
function alternation(head: DenseHead, rounds: number): number {
  const form = formOf(head);
  const [root, inverse] = [power(head.sigma, 0.5), power(head.sigma, -0.5)];
  let p = Matrix.zeros(form.rows, form.rows);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const target = head.constant ? Matrix.add(form, freeTerm(Matrix.sub(form, p), head.sigma)) : form;
    p = inverse.mmul(nearestPositive(root.mmul(target).mmul(root), head.query.columns)).mmul(inverse);
    best = Math.min(best, visibleLoss(head, p));
  }
  return Math.sqrt(best / visibleLoss(head, Matrix.zeros(form.rows, form.rows)));
}

describe("the closed form against 200 rounds of alternation", () => {
  const heads = Array.from({ length: 24 }, (_, i) => ({
    seed: i + 1,
    width: 6 + (i % 7),
    identity: i % 3 === 0,
  }));

  // With two columns it matters most whether one of them goes to the constant input.
  test.each([
    [2, 1.05],
    [3, 1.02],
    [4, 1.02],
  ])(
    "the closed form with %i columns is at most %f times as far off as alternation, and nearer for most heads",
    (headDim, limit) => {
      const ratios = heads.map(({ seed, ...options }) => {
        const head = randomHead(seed, { ...options, headDim });
        return tied(head).error / alternation(head, 200);
      });
      expect(Math.max(...ratios)).toBeLessThan(limit);
      expect(ratios.filter((ratio) => ratio < 1).length).toBeGreaterThan(heads.length / 2);
    },
  );

  test("the closed form without a constant input is alternation's result, where one projection is exact", () => {
    for (const { seed, ...options } of heads) {
      const head = randomHead(seed, { ...options, headDim: 2, constant: false });
      expect(tied(head).error).toBeCloseTo(alternation(head, 1), 9);
    }
  });
});

describe("the objective of a tied head", () => {
  /** J(P) + ¼(τ − π)², in dense matrices; J(P) without a constant input. */
  function objective(head: DenseHead): (s: Matrix) => number {
    const { sigma, constant } = head;
    const loss = (s: Matrix) => visibleLoss(head, s.mmul(s.transpose()));
    if (!constant) return loss;
    const last = sigma.rows - 1;
    const column = sigma.getColumnVector(last); // Σe
    const u = power(sigma, 0.5)
      .getColumnVector(last)
      .div(Math.sqrt(sigma.get(last, last)));
    const n = Matrix.eye(sigma.rows).sub(u.mmul(u.transpose()));
    const whitened = power(sigma, 0.5).mmul(formOf(head)).mmul(power(sigma, 0.5));
    const symmetric = n.mmul(Matrix.add(whitened, whitened.transpose()).div(2)).mmul(n);
    const free = n.mmul(whitened.transpose()).mmul(u);
    const tau = CONSTANT_SCALE * Math.hypot(symmetric.norm(), free.norm());
    return (s) => {
      const pi = s.transpose().mmul(column).norm() ** 2 / sigma.get(last, last); // uᵀPu
      return loss(s) + (tau - pi) ** 2 / 4;
    };
  }

  const cases: (HeadOptions & { seed: number })[] = [
    { seed: 1 },
    { seed: 2, headDim: 2, width: 6 },
    { seed: 3, identity: true },
    { seed: 4, constant: false },
    { seed: 5, width: 12, headDim: 4 },
    { seed: 6, constant: false, identity: true },
  ];

  test.each(cases)("the objective does not fall by any change of S̃: %o", ({ seed, ...options }) => {
    const head = randomHead(seed, options);
    const value = objective(head);
    const { s } = tied(head);
    const least = value(s);
    const random = uniform(seed + 50);
    for (const size of [1e-4, 1e-3, 1e-2, 0.1, 1])
      for (let trial = 0; trial < 40; trial++) {
        const change = randomMatrix(s.rows, s.columns, random).mul(size * Matrix.abs(s).max());
        expect(value(Matrix.add(s, change))).toBeGreaterThanOrEqual(least * (1 - 1e-9));
      }
  });
});

describe("the error of a tied head", () => {
  test("the error of any S̃ is that of dense arithmetic", () => {
    for (const options of [{}, { constant: false }, { identity: true }]) {
      const head = randomHead(11, options);
      const { s, error } = tied(head);
      expect(error).toBeCloseTo(denseError(head, s), 9);
      expect(measureTieError(spanOf(head), combineWeights(spanOf(head), 1, 0))).toBeCloseTo(
        denseError(head, head.query),
        9,
      );
    }
  });

  test("the error of S̃ = 0 is 1", () => {
    const span = spanOf(randomHead(12));
    expect(measureTieError(span, new Float64Array(7 * 3))).toBe(1);
  });

  test.each(["query", "key", "both"])("the error and S̃ are 0 for a head whose %s is 0", (part) => {
    const head = randomHead(13);
    if (part !== "key") head.query = Matrix.zeros(9, 3);
    if (part !== "query") head.key = Matrix.zeros(9, 3);
    const { s, error } = tied(head);
    expect(error).toBe(0);
    expect(s.norm()).toBe(0);
  });

  test("the error of a head that only adds terms constant along the keys is at most 1", () => {
    const head = randomHead(14);
    const key = Matrix.zeros(9, 3).setRow(8, [1, -2, 0.5]); // the key is its bias, whatever the input
    expect(visibleLoss({ ...head, key }, Matrix.zeros(9, 9))).toBeLessThan(1e-9);
    expect(tied({ ...head, key }).error).toBeLessThanOrEqual(1);
  });

  test("the error and S̃S̃ᵀ stay when a term constant along the keys is added: W̃q (W̃k + e cᵀ)ᵀ = M + (W̃q c) eᵀ", () => {
    for (const identity of [false, true]) {
      const head = randomHead(15, { identity });
      const key = head.key.clone().setRow(8, [5, -7, 2]);
      const [before, after] = [tied(head), tied({ ...head, key })];
      expect(after.error).toBeCloseTo(before.error, 9);
      const [p, q] = [before, after].map(({ s }) => s.mmul(s.transpose())) as [Matrix, Matrix];
      expect(Matrix.sub(p, q).norm()).toBeLessThan(1e-8 * p.norm());
    }
  });
});

describe("heads with q = k", () => {
  test.each([{}, { constant: false }, { identity: true }, { constant: false, identity: true }])(
    "a head with q = k is reproduced: %o",
    (options) => {
      const head = randomHead(21, options);
      const same = { ...head, key: head.query };
      expect(tied(same).error).toBeLessThan(1e-5);
      expect(measureTieError(spanOf(same), combineWeights(spanOf(same), 0.5, 0.5))).toBeLessThan(1e-5);
    },
  );
});

describe("the strategies mean, query and key", () => {
  test("mean, query and key are their combinations of W̃q and W̃k, and of nothing else", () => {
    for (const options of [{}, { constant: false }]) {
      const head = randomHead(31, options);
      const span = spanOf(head);
      for (const [q, k] of [
        [1, 0],
        [0, 1],
        [0.5, 0.5],
        [-2, 3],
      ] as const) {
        const expected = Matrix.add(head.query.clone().mul(q), head.key.clone().mul(k));
        const found = fromFlat(projectFromSpan(span, combineWeights(span, q, k)), expected.rows, expected.columns);
        expect(Matrix.sub(found, expected).norm()).toBeLessThan(1e-11 * expected.norm());
      }
    }
  });
});

describe("hard heads", () => {
  const base = randomHead(41);
  const repeated = new Matrix(base.query.to2DArray().map(([a = 0, b = 0]) => [a, a, b]));
  const heads: Record<string, DenseHead> = {
    "no query": { ...base, query: Matrix.zeros(9, 3) },
    "no key": { ...base, key: Matrix.zeros(9, 3) },
    "repeated columns": { ...base, query: repeated },
    "repeated columns on both sides": { ...base, query: repeated, key: repeated.clone().mul(-1) },
    "k = −q": { ...base, key: base.query.clone().mul(-1) },
    "a head of biases": { ...base, query: Matrix.zeros(9, 3).setRow(8, [1, 2, 3]) },
    "a Σ of rank 1": { ...base, sigma: Matrix.ones(9, 9) },
    "a Σ that is 0 but for the constant": { ...base, sigma: Matrix.zeros(9, 9).set(8, 8, 1) },
    "huge weights": { ...base, query: base.query.clone().mul(1e30), key: base.key.clone().mul(1e30) },
    "tiny weights": { ...base, query: base.query.clone().mul(1e-30), key: base.key.clone().mul(1e-30) },
    "a huge query and a tiny key": { ...base, query: base.query.clone().mul(1e20), key: base.key.clone().mul(1e-20) },
    "a huge Σ": { ...base, sigma: base.sigma.clone().mul(1e30) },
    "more columns than inputs": randomHead(42, { width: 2, headDim: 4 }),
  };

  test.each(Object.entries(heads))(
    "the tie of a hard head is finite, with an error of at most about 1: %s",
    (_, head) => {
      const { s, error } = tied(head);
      expect(flat(s).every(Number.isFinite)).toBe(true);
      expect(error).toBeGreaterThanOrEqual(0);
      expect(error).toBeLessThan(1 + 1e-3);
    },
  );

  test.each([1e-30, 1e30])("a head scaled by %f has the same tie, scaled alike", (factor) => {
    const scaled = { ...base, query: base.query.clone().mul(factor), key: base.key.clone().mul(factor) };
    const [plain, result] = [tied(base), tied(scaled)];
    expect(result.error).toBeCloseTo(plain.error, 9);
    expect(Matrix.sub(result.s.clone().div(factor), plain.s).norm()).toBeLessThan(1e-9 * plain.s.norm());
  });
});
