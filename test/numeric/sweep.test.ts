// The sweep operator and inverses against ml-matrix.
import { inverse, Matrix } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { invertInPlace, sweep } from "../../src/numeric/sweep.ts";
import { finish } from "../support/pieces.ts";
import { flat, fromFlat, randomMatrix, uniform } from "./matrices.ts";

/** A positive definite matrix. */
function positive(n: number): Matrix {
  const half = randomMatrix(n + 3, n, uniform(n));
  return half.transpose().mmul(half);
}

const far = (found: Float64Array, expected: Matrix) =>
  Matrix.sub(fromFlat(found, expected.rows, expected.columns), expected).norm() / expected.norm();

describe("invertInPlace", () => {
  // Below, at and past a block of 64 pivots.
  it.each([1, 2, 5, 63, 64, 65, 130])("the inverse of a matrix of %i rows is ml-matrix's", (n) => {
    const matrix = positive(n);
    const found = flat(matrix);
    finish(invertInPlace(found, n));
    expect(far(found, inverse(matrix))).toBeLessThan(1e-9);
  });
});

describe("sweep", () => {
  it("the blocks after a sweep are those of its definition, whatever the order of the pivots", () => {
    const n = 7;
    const [pivots, others] = [
      [5, 0, 2],
      [1, 3, 4, 6],
    ] as const;
    const matrix = positive(n);
    const found = flat(matrix);
    const shares = sweep(found, n, pivots);
    const pick = (a: Matrix, rows: readonly number[], columns: readonly number[]) =>
      a.selection([...rows], [...columns]);
    const swept = fromFlat(found, n, n);
    const block = inverse(pick(matrix, pivots, pivots));
    const expectEqual = (a: Matrix, b: Matrix) => expect(Matrix.sub(a, b).norm()).toBeLessThan(1e-10 * b.norm());
    expectEqual(pick(swept, pivots, pivots), Matrix.mul(block, -1));
    const ratio = pick(matrix, others, pivots).mmul(block);
    expectEqual(pick(swept, others, pivots), ratio);
    expectEqual(pick(swept, pivots, others), ratio.transpose());
    const rest = Matrix.sub(pick(matrix, others, others), ratio.mmul(pick(matrix, pivots, others)));
    expectEqual(pick(swept, others, others), rest);
    expectEqual(pick(fromFlat(shares, n, pivots.length), others, [0, 1, 2]), ratio);
  });
});
