// The eigensolver against ml-matrix's and against what defines an eigendecomposition.
import fc from "fast-check";
import { EVD, Matrix } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { decomposeSymmetric } from "../../src/numeric/symmetric-eigen.ts";
import { flat, fromFlat, randomMatrix, uniform } from "./matrices.ts";

/** Rounding of a backward stable method on up to a few hundred rows. */
const TOLERANCE = 1e-13;

function randomSymmetric(n: number, seed: number): Matrix {
  const half = randomMatrix(n, n, uniform(seed));
  return Matrix.add(half, half.transpose());
}

/** Checks everything that is promised of the decomposition of `matrix`, entries of which are at most `unit`. */
function checkDecomposition(matrix: Matrix, unit = 1): void {
  const n = matrix.rows;
  const { values, vectors } = decomposeSymmetric(flat(matrix), n);
  expect([values.length, vectors.length]).toEqual([n, n * n]);
  expect([...values]).toEqual([...values].sort((a, b) => b - a));
  const v = fromFlat(vectors, n, n);
  const lambda = Matrix.diag([...values].map((value) => value / unit));
  const scaled = matrix.clone().div(unit);
  const residual = Matrix.sub(scaled, v.transpose().mmul(lambda).mmul(v)).norm();
  expect(residual).toBeLessThanOrEqual(TOLERANCE * scaled.norm());
  expect(Matrix.sub(v.mmul(v.transpose()), Matrix.eye(n)).abs().max()).toBeLessThan(TOLERANCE);
  for (let i = 0; i < n; i++) {
    const row = v.getRow(i);
    const [top, bottom] = [Math.max(...row), -Math.min(...row)];
    expect(top).toBeGreaterThanOrEqual(bottom);
  }
}

describe("eigenvalues of random matrices", () => {
  test.each([1, 2, 3, 4, 7, 16, 33, 129, 257])("a random matrix of %i rows is decomposed", (n) => {
    checkDecomposition(randomSymmetric(n, n));
  });

  test.each([2, 3, 9, 40, 129])("a random matrix of %i rows has the eigenvalues that ml-matrix finds", (n) => {
    const matrix = randomSymmetric(n, 100 + n);
    const expected = new EVD(matrix, { assumeSymmetric: true }).realEigenvalues.sort((a, b) => b - a);
    const { values } = decomposeSymmetric(flat(matrix), n);
    for (let i = 0; i < n; i++)
      expect(Math.abs((values[i] as number) - (expected[i] as number))).toBeLessThan(TOLERANCE * matrix.norm());
  });

  test("a random matrix has the eigenvectors that ml-matrix finds, up to the sign", () => {
    const matrix = randomSymmetric(10, 3);
    const { realEigenvalues, eigenvectorMatrix } = new EVD(matrix, { assumeSymmetric: true });
    const order = [...realEigenvalues.keys()].sort(
      (a, b) => (realEigenvalues[b] as number) - (realEigenvalues[a] as number),
    );
    const vectors = fromFlat(decomposeSymmetric(flat(matrix), 10).vectors, 10, 10);
    for (const [row, column] of order.entries())
      expect(Math.abs(vectors.getRowVector(row).mmul(eigenvectorMatrix.getColumnVector(column)).get(0, 0))).toBeCloseTo(
        1,
        10,
      );
  });
});

describe("eigenvalues of special matrices", () => {
  test("an empty matrix has no eigenvalues", () => {
    expect(decomposeSymmetric(new Float64Array(0), 0)).toEqual({
      values: new Float64Array(0),
      vectors: new Float64Array(0),
    });
  });

  test("one number is its own eigenvalue", () => {
    expect(decomposeSymmetric(Float64Array.of(-3), 1)).toEqual({
      values: Float64Array.of(-3),
      vectors: Float64Array.of(1),
    });
  });

  test("the identity and its multiples have one repeated eigenvalue", () => {
    checkDecomposition(Matrix.eye(7));
    checkDecomposition(Matrix.eye(7).mul(-2.5));
    expect([...decomposeSymmetric(flat(Matrix.eye(5)), 5).values]).toEqual([1, 1, 1, 1, 1]);
  });

  test("a zero matrix has only zero eigenvalues", () => {
    checkDecomposition(Matrix.zeros(6, 6));
    expect([...decomposeSymmetric(new Float64Array(16), 4).values].every((value) => value === 0)).toBe(true);
  });

  test("a diagonal matrix gives its diagonal in order, exactly", () => {
    const matrix = Matrix.diag([2, -1, 7, 0, 3]);
    checkDecomposition(matrix);
    expect([...decomposeSymmetric(flat(matrix), 5).values]).toEqual([7, 3, 2, 0, -1]);
  });

  test("a repeated eigenvalue in a rotated frame is found", () => {
    const { eigenvectorMatrix: q } = new EVD(randomSymmetric(12, 5), { assumeSymmetric: true });
    const values = [4, 4, 4, 4, 1, 1, 1, 0, 0, -2, -2, -2];
    const matrix = q.mmul(Matrix.diag(values)).mmul(q.transpose());
    checkDecomposition(matrix);
    const found = decomposeSymmetric(flat(matrix), 12).values;
    for (const [i, value] of values.entries()) expect(found[i]).toBeCloseTo(value, 12);
  });

  test("a matrix of rank 3 has three eigenvalues that are not 0", () => {
    const half = randomMatrix(20, 3, uniform(8));
    const matrix = half.mmul(half.transpose());
    checkDecomposition(matrix);
    const { values } = decomposeSymmetric(flat(matrix), 20);
    expect(values[2]).toBeGreaterThan(0.1);
    for (const value of values.subarray(3)) expect(Math.abs(value)).toBeLessThan(TOLERANCE * matrix.norm());
  });

  test("a matrix of ones, which has rank 1, has one eigenvalue that is not 0", () => {
    const { values } = decomposeSymmetric(new Float64Array(64).fill(1), 8);
    expect(values[0]).toBeCloseTo(8, 12);
    checkDecomposition(Matrix.ones(8, 8));
  });
});

describe("eigenvalues at all scales", () => {
  test.each([1e150, 1e155, 1e300, 1e-100, 1e-150, 1e-160, 1e-200, 1e-300])(
    "entries of %f are neither too large nor too small",
    (unit) => {
      checkDecomposition(randomSymmetric(12, 7).mul(unit), unit);
    },
  );

  test("entries that shrink by hundreds of orders of magnitude, downwards and upwards, are decomposed", () => {
    const base = randomSymmetric(20, 9);
    const graded = (grade: (i: number) => number) =>
      new Matrix(Array.from({ length: 20 }, (_, i) => base.getRow(i).map((value, j) => value * grade(i) * grade(j))));
    checkDecomposition(graded((i) => 10 ** (-8 * i)));
    checkDecomposition(graded((i) => 10 ** (-6 * i)));
    checkDecomposition(graded((i) => 10 ** (-8 * (19 - i))));
  });

  test("entries close to the smallest number stay finite", () => {
    const { values, vectors } = decomposeSymmetric(Float64Array.of(5e-324, 0, 0, 5e-323), 2);
    expect([...values]).toEqual([5e-323, 5e-324]);
    expect([...vectors]).toEqual([0, 1, 1, 0]);
  });
});

describe("the input of the eigenvalue solver", () => {
  test("the input is left as it was", () => {
    const matrix = flat(randomSymmetric(6, 1));
    const before = matrix.slice();
    decomposeSymmetric(matrix, 6);
    expect(matrix).toEqual(before);
  });

  test("only the lower triangle of the input counts", () => {
    const matrix = flat(randomSymmetric(6, 2));
    const lower = matrix.map((value, at) => (at % 6 > Math.floor(at / 6) ? Number.NaN : value));
    expect(decomposeSymmetric(lower, 6)).toEqual(decomposeSymmetric(matrix, 6));
  });

  test("the same input gives the same bits each time", () => {
    const matrix = flat(randomSymmetric(30, 4));
    expect(decomposeSymmetric(matrix, 30)).toEqual(decomposeSymmetric(matrix.slice(), 30));
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "an input with %f in any place is refused, not iterated on",
    (bad) => {
      for (const [n, at] of [
        [1, 0],
        [2, 2],
        [5, 0],
        [5, 24],
        [5, 15],
      ] as const) {
        const matrix = flat(randomSymmetric(n, 6));
        matrix[at] = bad;
        expect(() => decomposeSymmetric(matrix, n)).toThrow("symmetricEigen: the matrix is not finite");
      }
    },
  );
});

test("any symmetric matrix of finite numbers is decomposed", () => {
  const entry = fc.oneof(
    fc.double({ min: -1, max: 1, noNaN: true }),
    fc.constantFrom(0, 1, -1, 1e-8, 1e-170, 1e-300),
    fc.integer({ min: -3, max: 3 }),
  );
  const symmetric = fc
    .integer({ min: 1, max: 9 })
    .chain((n) => fc.array(entry, { minLength: n * n, maxLength: n * n }));
  fc.assert(
    fc.property(symmetric, (entries) => {
      const n = Math.sqrt(entries.length);
      const matrix = fromFlat(entries, n, n);
      for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) matrix.set(j, i, matrix.get(i, j));
      checkDecomposition(matrix);
    }),
    { numRuns: 150, seed: 1 },
  );
});
