// The metrics against scikit-learn's and SciPy's definitions, on ordinary answers and where one class or value is all.
import { describe, expect, it } from "vitest";
import { bootstrap, computeMetric, countConfusion, meanAndSpread } from "../../src/tasks/metrics.ts";

const answers = (actual: number[], predicted: number[]) => ({ actual, predicted });
const A = answers([0, 1, 1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 1, 1, 1, 0, 0, 0]);

describe("metrics of classes", () => {
  it("accuracy, F1 and Matthews of ordinary answers are those of their formulas", () => {
    // TP 3, FP 1, FN 2, TN 4
    expect(computeMetric("accuracy", A)).toBe(0.7);
    expect(computeMetric("f1", A)).toBeCloseTo((2 * 3) / (2 * 3 + 1 + 2), 12);
    expect(computeMetric("matthews", A)).toBeCloseTo((3 * 4 - 1 * 2) / Math.sqrt(4 * 5 * 5 * 6), 12);
    expect(countConfusion(A, 2)).toEqual([
      [4, 1],
      [2, 3],
    ]);
  });

  it.each<[string, number[], number[], number, number]>([
    ["all predicted as one", [0, 1, 1, 0], [1, 1, 1, 1], 4 / 6, 0],
    ["none of class 1 predicted", [0, 1, 1, 0], [0, 0, 0, 0], 0, 0],
    ["class 1 neither there nor predicted", [0, 0, 0], [0, 0, 0], 0, 0],
    ["all right", [0, 1, 1], [0, 1, 1], 1, 1],
    ["all wrong", [0, 1, 1, 0], [1, 0, 0, 1], 0, -1],
  ])("F1 and Matthews are defined for %s", (_, actual, predicted, f1, matthews) => {
    expect(computeMetric("f1", answers(actual, predicted))).toBeCloseTo(f1, 12);
    expect(computeMetric("matthews", answers(actual, predicted))).toBeCloseTo(matthews, 12);
  });

  it("Matthews of three classes is scikit-learn's", () => {
    // scikit-learn: matthews_corrcoef([0, 1, 2, 2, 1, 0], [0, 2, 2, 2, 1, 1]) = 0.522232967867094
    expect(computeMetric("matthews", answers([0, 1, 2, 2, 1, 0], [0, 2, 2, 2, 1, 1]))).toBeCloseTo(
      0.522232967867094,
      12,
    );
  });
});

describe("metrics of numbers", () => {
  const x = [1, 2, 3, 4, 5];
  it("Pearson and Spearman are those of published examples", () => {
    expect(computeMetric("pearson", answers(x, [2, 4, 6, 8, 10]))).toBeCloseTo(1, 12);
    expect(computeMetric("pearson", answers(x, [5, 6, 7, 8, 7]))).toBeCloseTo(0.8320502943378437, 12); // 6/√52
    expect(computeMetric("spearman", answers(x, [5, 6, 7, 8, 7]))).toBeCloseTo(0.8207826816681233, 12); // scipy.stats.spearmanr's example
    expect(computeMetric("spearman", answers(x, [1, 4, 9, 16, 25]))).toBeCloseTo(1, 12);
    expect(computeMetric("spearman", answers([1, 1, 2, 2], [1, 2, 1, 2]))).toBeCloseTo(0, 12);
  });

  it("Pearson and Spearman are not defined for a constant", () => {
    for (const name of ["pearson", "spearman"] as const) {
      expect(computeMetric(name, answers(x, [3, 3, 3, 3, 3]))).toBeNaN();
      expect(computeMetric(name, answers([3, 3], [1, 2]))).toBeNaN();
    }
    // The mean of these is not exact.
    for (const [value, count] of [
      [0.1, 3],
      [2.6, 1500],
      [3.8, 40],
    ] as const)
      expect(
        computeMetric(
          "pearson",
          answers(
            Array(count).fill(value),
            Array.from({ length: count }, (_, i) => i),
          ),
        ),
      ).toBeNaN();
    expect(bootstrap("pearson", answers(x, [3, 3, 3, 3, 3]))).toBeNull();
  });
});

describe("confidence intervals", () => {
  const actual = Array.from({ length: 400 }, (_, i) => i % 2);
  const predicted = actual.map((label, i) => (i % 5 === 0 ? 1 - label : label)); // 80 % right

  it("an interval holds the value, is near the normal approximation, and is the same when computed again", () => {
    const interval = bootstrap("accuracy", { actual, predicted });
    const half = 1.96 * Math.sqrt((0.8 * 0.2) / 400);
    expect(interval?.[0]).toBeCloseTo(0.8 - half, 1.7);
    expect(interval?.[1]).toBeCloseTo(0.8 + half, 1.7);
    expect(bootstrap("accuracy", { actual, predicted })).toEqual(interval);
  });

  it("an interval is one point where all answers are right", () => {
    expect(bootstrap("accuracy", { actual, predicted: actual })).toEqual([1, 1]);
  });
});

it("the mean and the sample deviation over seeds are computed, with no deviation for one seed", () => {
  expect(meanAndSpread([1, 2, 3, 4])).toEqual({ mean: 2.5, spread: Math.sqrt(5 / 3) });
  expect(meanAndSpread([7])).toEqual({ mean: 7, spread: null });
});
