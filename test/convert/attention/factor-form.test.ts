// The closed form of a head at a lower rank against the same mathematics in full matrices.
import { Matrix, SVD } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { applyFactor, factorForm, measureRankError } from "../../../src/convert/attention/factor-form.ts";
import { mixMoments } from "../../../src/convert/statistics/moments.ts";
import { flat, fromFlat, power, randomMatrix, randomSigma, uniform } from "../../numeric/matrices.ts";

const ROWS = 9;
const D = 4;

/** A head with moments of its inputs on both sides; `left` and `right` are [ROWS, D]. */
function randomForm(seed: number) {
  const random = uniform(seed);
  const [left, right] = [randomMatrix(ROWS, D, random), randomMatrix(ROWS, D, random)];
  return { left, right, x: randomSigma(ROWS, true, random), y: randomSigma(ROWS, false, random) };
}

type Form = ReturnType<typeof randomForm>;

const gram = (weight: Matrix, moments: Matrix) => flat(weight.transpose().mmul(moments).mmul(weight));

/** The form of rank r that `factorForm` gives: [ROWS, ROWS] */
function lowered({ left, right, x, y }: Form, r: number): Matrix {
  const factors = factorForm(gram(left, x), gram(right, y), D);
  const a = fromFlat(applyFactor(flat(left), factors.left, ROWS, D, r), ROWS, r);
  const b = fromFlat(applyFactor(flat(right), factors.right, ROWS, D, r), ROWS, r);
  return a.mmul(b.transpose());
}

/** X^½ F Y^½ */
function whiten({ x, y }: Form, form: Matrix): Matrix {
  return power(x, 0.5).mmul(form).mmul(power(y, 0.5));
}

describe("a form of a lower rank", () => {
  test.each([1, 2, 3, 4])("the form of rank %i is the truncated decomposition of the whole form", (r) => {
    const form = randomForm(r);
    const whole = whiten(form, form.left.mmul(form.right.transpose()));
    const { leftSingularVectors: u, rightSingularVectors: v, diagonal } = new SVD(whole);
    const first = (matrix: Matrix) => matrix.subMatrix(0, ROWS - 1, 0, r - 1);
    const best = first(u)
      .mmul(Matrix.diag(diagonal.slice(0, r)))
      .mmul(first(v).transpose());
    expect(Matrix.sub(whiten(form, lowered(form, r)), best).norm()).toBeLessThan(1e-9 * whole.norm());
    const { values } = factorForm(gram(form.left, form.x), gram(form.right, form.y), D);
    expect(values.length).toBe(D);
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(diagonal[i] as number, 9);
    const error = Matrix.sub(whole, best).norm() / whole.norm();
    expect(measureRankError(values, r)).toBeCloseTo(error, 7);
  });

  test("the form of full rank is the form itself", () => {
    const form = randomForm(11);
    const whole = form.left.mmul(form.right.transpose());
    expect(Matrix.sub(lowered(form, D), whole).norm()).toBeLessThan(1e-10 * whole.norm());
  });

  test("columns that depend on one another, and a side that is 0, are no harm", () => {
    const form = randomForm(12);
    form.left.setColumn(2, form.left.getColumn(0));
    const whole = form.left.mmul(form.right.transpose());
    expect(Matrix.sub(lowered(form, D), whole).norm()).toBeLessThan(1e-5 * whole.norm());
    form.left.mul(0);
    expect(lowered(form, 2).norm()).toBe(0);
    const { values } = factorForm(gram(form.left, form.x), gram(form.right, form.y), D);
    expect(measureRankError(values, 1)).toBe(0);
  });
});

describe("the moments of a text", () => {
  const identity = Float64Array.of(2, 1, 1, 2);
  const moments = Float64Array.of(6, 0, 0, 2);

  test("the moments of a text have the share that it is trusted, and a ridge", () => {
    const plain = (level: number) => [...identity].map((value) => value * level);
    const expected = (trust: number) =>
      plain((1 - trust + 1e-4) * 2).map((value, at) => value + trust * (moments[at] as number));
    for (const trust of [1, 0.25, 0])
      for (const [at, value] of mixMoments(moments, identity, 2, trust).entries())
        expect(value).toBeCloseTo(expected(trust)[at] as number, 12);
  });

  test("where the moments of a text are 0, all directions count alike", () => {
    expect(mixMoments(new Float64Array(4), identity, 2, 1)).toEqual(identity);
  });
});
