// The refit of output weights against ml-matrix's arithmetic.
import { Matrix, solve } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { fitChange } from "../../../src/convert/repair/repair-fit.ts";
import type { HalfMoments } from "../../../src/convert/repair/repair-moments.ts";
import { flat, fromFlat, randomMatrix, uniform } from "../../numeric/matrices.ts";
import { finish } from "../../support/pieces.ts";

const [SIZE, WIDTH, POSITIONS] = [9, 4, 60];
/** Relative to the mean diagonal, as in repair-fit.ts. */
const RIDGE = 1e-2;

function momentsOf(inputs: Matrix, missing: Matrix): HalfMoments {
  const gram = flat(inputs.transpose().mmul(inputs));
  return { gram, cross: flat(inputs.transpose().mmul(missing)), size: SIZE, positions: POSITIONS };
}

/** Inputs, and what is missing after them: a change of the weights that is the same everywhere, and noise. */
function sample(seed: number, change: Matrix, noise: number): [Matrix, Matrix] {
  const random = uniform(seed);
  const inputs = randomMatrix(POSITIONS, SIZE, random);
  return [inputs, inputs.mmul(change).add(randomMatrix(POSITIONS, WIDTH, random).mul(noise))];
}

const change = randomMatrix(SIZE, WIDTH, uniform(1));
const weight = randomMatrix(SIZE, WIDTH, uniform(2));
const ridgeSolution = (inputs: Matrix, missing: Matrix) => {
  const gram = inputs.transpose().mmul(inputs);
  const ridge = Matrix.eye(SIZE).mul((RIDGE * gram.trace()) / SIZE);
  return solve(gram.add(ridge), inputs.transpose().mmul(missing));
};

describe("fitChange", () => {
  it("the change is the ridge regression, as far along it as is best on the held-out text", () => {
    const [inputs, missing] = sample(3, change, 0.5);
    const [heldInputs, heldMissing] = sample(4, change, 0.5);
    const found = finish(fitChange(flat(weight), momentsOf(inputs, missing), momentsOf(heldInputs, heldMissing)));
    const direction = ridgeSolution(inputs, missing);
    const reached = heldInputs.mmul(direction);
    const t = Matrix.mul(reached, heldMissing).sum() / Matrix.mul(reached, reached).sum();
    expect(t).toBeGreaterThan(0);
    const expected = Matrix.add(weight, Matrix.mul(direction, Math.min(1, t)));
    expect(Matrix.sub(fromFlat(found, SIZE, WIDTH), expected).norm()).toBeLessThan(1e-9);
  });

  it("weights stay as they are where the held-out text wants the opposite", () => {
    const [inputs, missing] = sample(3, change, 0);
    const [heldInputs, heldMissing] = sample(4, Matrix.mul(change, -1), 0);
    const found = finish(fitChange(flat(weight), momentsOf(inputs, missing), momentsOf(heldInputs, heldMissing)));
    expect(found).toEqual(flat(weight));
  });

  it("weights stay as they are where nothing is missing", () => {
    const [inputs, missing] = sample(3, Matrix.zeros(SIZE, WIDTH), 0);
    const found = finish(fitChange(flat(weight), momentsOf(inputs, missing), momentsOf(inputs, missing)));
    expect(found).toEqual(flat(weight));
  });
});
