// Which hidden units go, and that what stays is the ridge regression that makes up for them.
import { Matrix, solve } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { removeUnits } from "../../../src/convert/cuts/mlp-units.ts";
import { flat, fromFlat, randomMatrix, uniform } from "../../numeric/matrices.ts";
import { finish } from "../../support/pieces.ts";

const [UNITS, WIDTH, POSITIONS] = [12, 5, 200];
/** Relative to the mean diagonal, as in mlp-units.ts. */
const RIDGE = 1e-2;

/** Hidden units [N, n] that are correlated, with the constant as the last column where there is one, and weights. */
function sample(constant: boolean) {
  const random = uniform(7);
  const units = randomMatrix(POSITIONS, UNITS, random).mmul(randomMatrix(UNITS, UNITS, random));
  const inputs = constant ? units.clone().addColumn(UNITS, new Array<number>(POSITIONS).fill(1)) : units;
  return { inputs, weight: randomMatrix(inputs.columns, WIDTH, random) };
}

function remove({ inputs, weight }: { inputs: Matrix; weight: Matrix }, keep: number) {
  const gram = inputs.transpose().mmul(inputs);
  const refitted = flat(weight);
  const result = finish(removeUnits({ gram: flat(gram), weight: refitted, units: UNITS, size: inputs.columns }, keep));
  return { ...result, gram, refitted: fromFlat(refitted, inputs.columns, WIDTH) };
}

describe.each([true, false])("with a constant input: %s", (constant) => {
  it("the weights of what stays solve the ridge regression on what the units that go had given", () => {
    const { inputs, weight } = sample(constant);
    const { kept, cost, gram, refitted } = remove({ inputs, weight }, 7);
    expect(kept).toHaveLength(7);
    const rows = constant ? [...kept, UNITS] : kept;
    const gone = Array.from({ length: UNITS }, (_, j) => j).filter((j) => !kept.includes(j));
    const columns = Array.from({ length: WIDTH }, (_, c) => c);
    // (G_KK + ridge) D = G_KS W_S
    const ridge = (RIDGE * gram.trace()) / gram.rows;
    const left = gram.selection(rows, rows).add(Matrix.eye(rows.length).mul(ridge));
    const change = solve(left, gram.selection(rows, gone).mmul(weight.selection(gone, columns)));
    const expected = weight.selection(rows, columns).add(change);
    expect(Matrix.sub(refitted.selection(rows, columns), expected).norm()).toBeLessThan(1e-8 * expected.norm());
    expect(refitted.selection(gone, columns).norm()).toBe(0);
    const full = Matrix.sub(refitted, weight);
    const error = full
      .transpose()
      .mmul(gram.clone().add(Matrix.eye(gram.rows).mul(ridge)))
      .mmul(full)
      .trace();
    expect(cost).toBeCloseTo(error, 6 - Math.ceil(Math.log10(error)));
  });
});

describe("the choice", () => {
  it("a unit that another one repeats goes first, and nearly without cost", () => {
    const { inputs, weight } = sample(true);
    for (let r = 0; r < POSITIONS; r++) inputs.set(r, 4, 2 * inputs.get(r, 9));
    const { kept, cost, gram } = remove({ inputs, weight }, UNITS - 1);
    expect([4, 9].filter((unit) => !kept.includes(unit))).toHaveLength(1);
    expect(cost).toBeLessThan(0.01 * weight.transpose().mmul(gram).mmul(weight).trace());
  });

  it("a unit without weight goes first", () => {
    const { inputs, weight } = sample(true);
    weight.setRow(3, new Array<number>(WIDTH).fill(0));
    expect(remove({ inputs, weight }, UNITS - 1).kept).not.toContain(3);
  });

  it("removing one after another costs less than removing those of the least own contribution", () => {
    const { inputs, weight } = sample(true);
    const { cost, gram } = remove({ inputs, weight }, 4);
    const own = (j: number) => gram.get(j, j) * weight.getRowVector(j).norm() ** 2;
    const order = Array.from({ length: UNITS }, (_, j) => j).sort((a, b) => own(a) - own(b));
    const naive = order.slice(0, UNITS - 4);
    const ridge = Matrix.eye(gram.rows).mul((RIDGE * gram.trace()) / gram.rows);
    const inverseGram = solve(Matrix.add(gram, ridge), Matrix.eye(gram.rows));
    const lost = weight.selection(naive, [0, 1, 2, 3, 4]);
    const naiveCost = lost
      .transpose()
      .mmul(solve(inverseGram.selection(naive, naive), lost))
      .trace();
    expect(cost).toBeLessThan(naiveCost);
  });
});
