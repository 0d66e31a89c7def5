// The singular value decomposition against ml-matrix's and against what defines one.
import { Matrix, SVD } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { decomposeSingular } from "../../src/numeric/singular-values.ts";
import { findSingularValues } from "../../src/numeric/spectrum.ts";
import { flat, fromFlat, randomMatrix, uniform } from "./matrices.ts";

/** Rounding of a backward stable method on up to a few hundred rows. */
const TOLERANCE = 1e-13;

/** Checks everything that is promised of the decomposition of `matrix`, entries of which are at most `unit`. */
function checkDecomposition(matrix: Matrix, unit = 1): Float64Array {
  const n = matrix.rows;
  const { values, left, right } = decomposeSingular(flat(matrix), n);
  expect([values.length, left.length, right.length]).toEqual([n, n * n, n * n]);
  expect([...values]).toEqual([...values].sort((a, b) => b - a));
  expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
  const alone = findSingularValues(flat(matrix), n);
  expect([...alone]).toEqual([...alone].sort((a, b) => b - a));
  for (const [i, value] of values.entries())
    expect(Math.abs((alone[i] as number) - value)).toBeLessThanOrEqual(TOLERANCE * (values[0] as number));
  const [u, v] = [fromFlat(left, n, n), fromFlat(right, n, n)];
  const sigma = Matrix.diag([...values].map((value) => value / unit));
  const scaled = matrix.clone().div(unit);
  expect(Matrix.sub(scaled, u.transpose().mmul(sigma).mmul(v)).norm()).toBeLessThanOrEqual(TOLERANCE * scaled.norm());
  expect(Matrix.sub(u.mmul(u.transpose()), Matrix.eye(n)).abs().max()).toBeLessThan(TOLERANCE);
  const known = Matrix.diag([...values].map((value) => (value > 0 ? 1 : 0)));
  expect(Matrix.sub(v.mmul(v.transpose()), known).abs().max()).toBeLessThan(TOLERANCE);
  return values;
}

describe("singular values of random matrices", () => {
  test.each([1, 2, 3, 4, 7, 16, 33, 96])("a random matrix of %i rows is decomposed", (n) => {
    checkDecomposition(randomMatrix(n, n, uniform(n)));
  });

  test.each([2, 3, 9, 40])("a random matrix of %i rows has the singular values that ml-matrix finds", (n) => {
    const matrix = randomMatrix(n, n, uniform(100 + n));
    const expected = new SVD(matrix).diagonal;
    const { values } = decomposeSingular(flat(matrix), n);
    for (let i = 0; i < n; i++)
      expect(Math.abs((values[i] as number) - (expected[i] as number))).toBeLessThan(TOLERANCE * matrix.norm());
  });
});

describe("singular values of special matrices", () => {
  test("equal singular values, and a matrix that is orthogonal already, keep their vectors", () => {
    expect([...checkDecomposition(Matrix.eye(5))]).toEqual([1, 1, 1, 1, 1]);
    checkDecomposition(Matrix.ones(6, 6));
  });

  test("values far apart keep their digits", () => {
    const values = checkDecomposition(
      new Matrix([
        [1e-12, 0, 0],
        [0, 1, 0],
        [0, 1e-9, 1e-6],
      ]),
    );
    expect(values[2]).toBeCloseTo(1e-12, 20);
    expect(values[1]).toBeCloseTo(1e-6, 14);
  });

  test("a matrix of 0, and one with a row of 0, has values of 0", () => {
    expect([...checkDecomposition(Matrix.zeros(4, 4))]).toEqual([0, 0, 0, 0]);
    const matrix = randomMatrix(4, 4, uniform(7)).setRow(1, [0, 0, 0, 0]);
    expect(checkDecomposition(matrix)[3]).toBe(0);
  });

  test.each([1e-300, 1e300])("entries of about %f neither vanish nor overflow", (unit) => {
    checkDecomposition(randomMatrix(6, 6, uniform(8)).mul(unit), unit);
  });

  test("a matrix that is not finite is refused", () => {
    expect(() => decomposeSingular(Float64Array.of(1, Number.NaN, 0, 1), 2)).toThrow("not finite");
  });
});
