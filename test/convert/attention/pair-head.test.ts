// Pairwise forms of one head: what they can represent, and that they are no worse than either of their starts.
import { Matrix } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { findClosestPair } from "../../../src/convert/attention/pair-head.ts";
import { findClosestForm, measureTieError, projectFromSpan } from "../../../src/convert/attention/tie-head.ts";
import {
  type DenseHead,
  fromFlat,
  randomHead,
  randomMatrix,
  spanOf,
  uniform,
  visibleLoss,
} from "../../numeric/matrices.ts";

function paired(head: DenseHead) {
  const span = spanOf(head);
  const { whitened, pair, error } = findClosestPair(span);
  const [rows, D] = [head.query.rows, head.query.columns];
  const s = fromFlat(projectFromSpan(span, whitened), rows, D);
  return { span, error, form: s.mmul(fromFlat(pair, D, D)).mmul(s.transpose()) };
}

const whole = (head: DenseHead) => visibleLoss(head, Matrix.zeros(head.query.rows, head.query.rows));

describe("the pairwise form of a head", () => {
  test.each([
    [true, 4],
    [false, 4],
    [true, 3],
    [true, 1],
  ])("the error that is told is that of S A Sᵀ in full matrices: constant %s, width %i", (constant, headDim) => {
    const head = randomHead(headDim, { constant, headDim });
    const { error, form } = paired(head);
    expect(error).toBeCloseTo(Math.sqrt(visibleLoss(head, form) / whole(head)), 6);
    expect(error).toBeLessThan(1);
  });

  test.each([1, 2, 3, 4, 5])("a random head loses less than by the symmetric tie: %i", (seed) => {
    const { span, error } = paired(randomHead(seed, { headDim: 4 }));
    expect(error).toBeLessThan(measureTieError(span, findClosestForm(span)));
  });

  test("a form of half the rank is kept, however asymmetric", () => {
    const head = randomHead(6, { headDim: 4, constant: false });
    const random = uniform(6);
    head.query = head.query.subMatrix(0, 7, 0, 1).mmul(randomMatrix(2, 4, random));
    const { error, form } = paired(head);
    expect(error).toBeLessThan(1e-5);
    const before = head.query.mmul(head.key.transpose());
    expect(Matrix.sub(form, before).norm()).toBeLessThan(1e-4 * before.norm());
  });

  test("a symmetric form of full rank is kept", () => {
    const head = randomHead(7, { headDim: 4 });
    head.key = head.query.clone();
    expect(paired(head).error).toBeLessThan(1e-5);
  });

  test("a head without keys has the form 0", () => {
    const head = randomHead(8, { headDim: 4 });
    head.key.mul(0);
    const { error, form } = paired(head);
    expect([error, form.norm()]).toEqual([0, 0]);
  });
});
