// The standard error of a weighted mean against arithmetic by hand.
import { expect, it } from "vitest";
import { computeStandardError } from "../../src/numeric/standard-error.ts";

const errorOf = (...windows: readonly { weight: number; x: number }[]) => computeStandardError(windows, ({ x }) => x);

it("windows of equal weight have the standard error of a plain mean", () => {
  const windows = [1, 2, 3, 6].map((x) => ({ weight: 1, x }));
  // Sample variance 14/3 of 4 values.
  expect(errorOf(...windows)).toBeCloseTo(Math.sqrt(14 / 3 / 4), 12);
});

it("a heavy window moves the mean and counts for more in its standard error", () => {
  // Mean (2 + 10 + 33) / 6 = 7.5; squares (5.5 · 1)² + (2.5 · 2)² + (3.5 · 3)² = 165.5.
  const windows = [
    { weight: 1, x: 2 },
    { weight: 2, x: 5 },
    { weight: 3, x: 11 },
  ];
  expect(errorOf(...windows)).toBeCloseTo(Math.sqrt((3 / 2) * 165.5) / 6, 12);
});

it("a single window tells no standard error", () => {
  expect(errorOf({ weight: 3, x: 7 })).toBe(0);
});
