// Products, blocks, ridge, Cholesky factor and triangular solve against ml-matrix.
import { CholeskyDecomposition, Matrix, solve } from "ml-matrix";
import { describe, expect, test } from "vitest";
import {
  addRidge,
  cholesky,
  multiply,
  multiplyRows,
  multiplyTransposed,
  solveTransposed,
  takeBlock,
} from "../../src/numeric/linalg.ts";
import { flat, fromFlat, randomMatrix, uniform } from "./matrices.ts";

const FLOOR = 1e-12;

function expectClose(found: Float64Array, expected: Matrix, tolerance = 1e-13): void {
  expect(found.length).toBe(expected.rows * expected.columns);
  const difference = Matrix.sub(fromFlat(found, expected.rows, expected.columns), expected);
  expect(difference.norm()).toBeLessThanOrEqual(tolerance * expected.norm());
}

/** A positive definite matrix. */
function positive(n: number, seed: number): Matrix {
  const half = randomMatrix(n + 3, n, uniform(seed));
  return half.transpose().mmul(half);
}

describe("matrix products", () => {
  // Every remainder of the tile of 2 × 4 sums, and vectors.
  const shapes = [1, 2, 3, 5, 8].flatMap((n) =>
    [1, 2, 3, 4, 5, 6, 7, 9].map((m) => [n, 1 + ((n * m) % 6), m] as const),
  );

  test.each(shapes)("the product of [%i, %i] and %i columns or rows is ml-matrix's", (n, k, m) => {
    const random = uniform(n * 100 + m);
    const [a, b] = [randomMatrix(n, k, random), randomMatrix(k, m, random)];
    expectClose(multiply(flat(a), flat(b), n, k, m), a.mmul(b));
    expectClose(multiplyTransposed(flat(a.transpose()), flat(b), n, k, m), a.mmul(b));
    expectClose(multiplyRows(flat(a), flat(b.transpose()), n, k, m), a.mmul(b));
  });

  test.each([1, 2, 3, 4, 5, 6, 9, 13])(
    "the product of a matrix of %i rows with itself is symmetric to the bit",
    (n) => {
      const a = randomMatrix(n, 5, uniform(n));
      const rows = flat(a);
      const columns = flat(a.transpose());
      const expected = a.mmul(a.transpose());
      expectClose(multiplyRows(rows, rows, n, 5, n), expected);
      const product = multiplyTransposed(columns, columns, n, 5, n);
      expectClose(product, expected);
      for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) expect(product[i * n + j]).toBe(product[j * n + i]);
    },
  );

  // Edges of the kernel's blocks and tiles; sums in order, which the kernel keeps, have one result to the bit.
  test.each([
    [4, 1024, 4],
    [5, 321, 161],
    [129, 320, 160],
    [131, 641, 7],
    [33, 65, 323],
  ])("a large product of [%i, %i] and %i rows has the bits of the textbook loop", (n, k, m) => {
    const random = uniform(n * 1000 + m);
    const [a, b] = [flat(randomMatrix(n, k, random)), flat(randomMatrix(m, k, random))];
    const expected = new Float64Array(n * m);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < m; j++)
        for (let t = 0; t < k; t++)
          expected[i * m + j] = (expected[i * m + j] as number) + (a[i * k + t] as number) * (b[j * k + t] as number);
    expect(multiplyRows(a, b, n, k, m)).toEqual(expected);
  });

  test("a large product with itself has the bits of the product with a copy", () => {
    const a = flat(randomMatrix(131, 333, uniform(9)));
    expect(multiplyRows(a, a, 131, 333, 131)).toEqual(multiplyRows(a, a.slice(), 131, 333, 131));
  });

  test("a product leaves its factors as they were", () => {
    const [a, b] = [flat(randomMatrix(3, 4, uniform(1))), flat(randomMatrix(4, 5, uniform(2)))];
    const before = [a.slice(), b.slice()];
    multiply(a, b, 3, 4, 5);
    expect([a, b]).toEqual(before);
  });
});

describe("the Cholesky factor", () => {
  test.each([1, 2, 3, 10, 40])("the Cholesky factor of a positive definite matrix of %i rows is ml-matrix's", (n) => {
    const matrix = positive(n, n);
    const before = flat(matrix);
    const values = flat(matrix);
    const factor = cholesky(values, n, FLOOR);
    expectClose(factor, new CholeskyDecomposition(matrix).lowerTriangularMatrix, 1e-10);
    expect(values).toEqual(before);
    const l = fromFlat(factor, n, n);
    expect(Matrix.sub(l.mmul(l.transpose()), matrix).norm()).toBeLessThan(1e-13 * matrix.norm());
  });

  test.each([
    [10, 3],
    [129, 65],
    [400, 130], // in panels
  ])("the Cholesky factor of %i rows of rank %i has 0 for dependent columns, and multiplies back", (n, rank) => {
    const half = randomMatrix(n, rank, uniform(5));
    const matrix = half.mmul(half.transpose());
    const l = fromFlat(cholesky(flat(matrix), n, FLOOR), n, n);
    for (let i = rank; i < n; i++) expect(l.getColumn(i)).toEqual(Array.from({ length: n }, () => 0));
    expect(l.get(rank - 1, rank - 1)).toBeGreaterThan(0);
    expect(Matrix.sub(l.mmul(l.transpose()), matrix).norm()).toBeLessThan(1e-10 * matrix.norm());
  });

  test("the Cholesky factor of sums in float32 does not grow where columns are dependent", () => {
    const half = randomMatrix(129, 65, uniform(5));
    const matrix = fromFlat(Float64Array.from(Float32Array.from(flat(half.mmul(half.transpose())))), 129, 129);
    const l = fromFlat(cholesky(flat(matrix), 129, FLOOR), 129, 129);
    expect(Matrix.sub(l.mmul(l.transpose()), matrix).norm()).toBeLessThan(1e-4 * matrix.norm());
  });

  test("the Cholesky factor of a matrix with a zero row has that row, and those of zero and one are 0 and 1", () => {
    const withZero = positive(4, 1);
    for (let i = 0; i < 4; i++) withZero.set(i, 2, 0).set(2, i, 0);
    const factor = cholesky(flat(withZero), 4, FLOOR);
    expect(Array.from(factor.subarray(8, 12))).toEqual([0, 0, 0, 0]);
    expect(factor[15]).toBeGreaterThan(0);
    expect(cholesky(new Float64Array(9), 3, FLOOR)).toEqual(new Float64Array(9));
    expect(cholesky(Float64Array.of(1), 1, FLOOR)).toEqual(Float64Array.of(1));
  });

  test("the Cholesky factor does not depend on the scale of a column", () => {
    const matrix = positive(5, 3);
    const grade = [1, 2 ** -60, 1, 2 ** 40, 1];
    const graded = new Matrix(
      matrix.to2DArray().map((row, i) => row.map((value, j) => value * (grade[i] as number) * (grade[j] as number))),
    );
    const plain = cholesky(flat(matrix), 5, FLOOR);
    const expected = plain.map((value, at) => value * (grade[Math.floor(at / 5)] as number));
    expect(cholesky(flat(graded), 5, FLOOR)).toEqual(expected); // powers of two round nothing
  });
});

describe("the triangular solve", () => {
  test.each([
    [1, 1],
    [4, 1],
    [7, 3],
    [30, 8],
  ])("the triangular solve of %i rows and %i right-hand sides is ml-matrix's", (n, m) => {
    const factor = new CholeskyDecomposition(positive(n, n + m)).lowerTriangularMatrix;
    const right = randomMatrix(n, m, uniform(m));
    const solution = flat(right);
    solveTransposed(flat(factor), solution, n, m);
    expectClose(solution, solve(factor.transpose(), right), 1e-9);
    expectClose(flat(factor.transpose().mmul(fromFlat(solution, n, m))), right, 1e-12);
  });

  test("the triangular solve with the factor of a singular matrix is finite", () => {
    const half = randomMatrix(6, 2, uniform(6));
    const factor = cholesky(flat(half.mmul(half.transpose())), 6, FLOOR);
    const solution = flat(randomMatrix(6, 2, uniform(7)));
    solveTransposed(factor, solution, 6, 2);
    expect(solution.every(Number.isFinite)).toBe(true);
    expect(Array.from(solution.subarray(4))).toEqual(Array.from({ length: 8 }, () => 0));
  });
});

test.each([
  [0, 5],
  [0, 2],
  [2, 3],
  [4, 1],
])("a block from row %i on with %i rows and columns is ml-matrix's", (first, size) => {
  const matrix = randomMatrix(5, 5, uniform(8));
  const last = first + size - 1;
  expect(takeBlock(flat(matrix), 5, first, size)).toEqual(flat(matrix.subMatrix(first, last, first, last)));
});

test("a ridge adds a share of the mean diagonal to the diagonal, and 1 where that is 0", () => {
  const matrix = positive(4, 5);
  const values = flat(matrix);
  addRidge(values, 4, 0.125);
  expectClose(values, Matrix.add(matrix, Matrix.eye(4).mul((0.125 * matrix.trace()) / 4)));
  const nothing = new Float64Array(9);
  addRidge(nothing, 3, 0.125);
  expect(nothing).toEqual(flat(Matrix.eye(3)));
});
