// The fit of distance means on residuals with a known answer, and against dense least squares.
import { Matrix, solve } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { DistanceFit } from "../../../src/convert/attention/distance-mean.ts";
import { uniform } from "../../numeric/matrices.ts";
import { failureOf } from "../../support/failure.ts";

/** Distances 0, 1, 2, 3–4, 5–8, 9– : six buckets. */
const TABLE = [0, 1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5];
const BUCKETS = 6;

interface Sample {
  residual: Float32Array; // [H, T, T]
  weight: Float32Array; // [H, T, T]
}

/** Values of `residual` and `weight` at head, i, j ≤ i; above the diagonal lies what must not be read. */
function sampleOf(heads: number, T: number, at: (head: number, i: number, j: number) => [number, number]): Sample {
  const residual = new Float32Array(heads * T * T).fill(Number.NaN);
  const weight = new Float32Array(heads * T * T).fill(1e9);
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < T; i++)
      for (let j = 0; j <= i; j++)
        [residual[(head * T + i) * T + j], weight[(head * T + i) * T + j]] = at(head, i, j) as [number, number];
  return { residual, weight };
}

function fitted(heads: number, T: number, samples: readonly Sample[], factor = 1): number[][] {
  const fit = new DistanceFit(heads, BUCKETS, TABLE);
  for (const { residual, weight } of samples) fit.add(residual, weight, { first: 0, end: T });
  const values = [...fit.solve(factor)];
  return Array.from({ length: heads }, (_, head) => values.slice(head * BUCKETS, (head + 1) * BUCKETS));
}

/** The values less their mean: the softmax sees no more. */
function centered(values: readonly number[]): number[] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.map((value) => value - mean);
}

function expectNear(found: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(found.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(Math.abs((found[i] as number) - value)).toBeLessThan(tolerance);
}

const MEANS = [
  [0.5, -1, 2, 0.25, 3, -0.5],
  [-2, 0, 1, 1, -1, 4],
];

describe("fitting residuals of the form μ[bucket] plus a constant per row", () => {
  const random = uniform(3);
  const shifts = Array.from({ length: 64 }, () => 5 * random());
  const exact = () =>
    sampleOf(2, 16, (head, i, j) => [
      (MEANS[head]?.[TABLE[i - j] as number] as number) + (shifts[head * 16 + i] as number),
      0.1 + Math.abs(random()),
    ]);

  test("the fit gives μ back, up to a constant", () => {
    for (const [head, found] of fitted(2, 16, [exact()]).entries())
      expectNear(centered(found), centered(MEANS[head] as number[]), 1e-4);
  });

  test("the fit of many windows gives μ back, scaled by the factor", () => {
    for (const [head, found] of fitted(2, 16, [exact(), exact(), exact()], 8).entries())
      expectNear(
        centered(found),
        centered(MEANS[head] as number[]).map((value) => 8 * value),
        1e-3,
      );
  });

  test("the fit gives the smallest μ of all that differ by a constant", () => {
    for (const found of fitted(2, 16, [exact()])) expectNear([found.reduce((a, b) => a + b, 0)], [0], 1e-3);
  });

  test("the fit is 0 where residuals differ only from row to row", () => {
    const flat = sampleOf(1, 16, (_, i) => [shifts[i] as number, 0.5]);
    expectNear(fitted(1, 16, [flat])[0] as number[], new Array<number>(BUCKETS).fill(0), 1e-5);
  });
});

describe("buckets without data", () => {
  test("buckets beyond the longest window take the value of the farthest bucket that was seen", () => {
    const T = 5; // distances 0 to 4: buckets 0 to 3
    const [found = []] = fitted(1, T, [
      sampleOf(1, T, (_, i, j) => [MEANS[0]?.[TABLE[i - j] as number] as number, 0.5]),
    ]);
    expectNear(centered(found.slice(0, 4)), centered(MEANS[0]?.slice(0, 4) as number[]), 1e-4);
    expect(found.slice(4)).toEqual([found[3], found[3]]);
  });

  test("buckets without weight between others stay 0", () => {
    const [found = []] = fitted(1, 16, [
      sampleOf(1, 16, (_, i, j) => [MEANS[0]?.[TABLE[i - j] as number] as number, TABLE[i - j] === 2 ? 0 : 1]),
    ]);
    expect(found[2]).toBe(0);
    expect(found[4]).not.toBe(0);
  });

  test("buckets are all 0 without a window, and where nothing has weight", () => {
    expect(fitted(1, 16, [])).toEqual([new Array(BUCKETS).fill(0)]);
    expect(fitted(1, 16, [sampleOf(1, 16, () => [1, 0])])).toEqual([new Array(BUCKETS).fill(0)]);
  });
});

describe("fitting noisy residuals", () => {
  /** Rows √w·([bucket = b] …, [row = i] …) and √w·r of one head, solved densely with a small ridge on μ. */
  function leastSquares(T: number, { residual, weight }: Sample): number[] {
    const normal = Matrix.zeros(BUCKETS + T, BUCKETS + T);
    const right = Matrix.zeros(BUCKETS + T, 1);
    for (let i = 0; i < T; i++)
      for (let j = 0; j <= i; j++) {
        const [r, w] = [residual[i * T + j] as number, weight[i * T + j] as number];
        const places = [TABLE[i - j] as number, BUCKETS + i];
        for (const a of places) {
          right.set(a, 0, right.get(a, 0) + w * r);
          for (const b of places) normal.set(a, b, normal.get(a, b) + w);
        }
      }
    for (let b = 0; b < BUCKETS; b++) normal.set(b, b, normal.get(b, b) + 1e-9);
    return solve(normal, right).to1DArray().slice(0, BUCKETS);
  }

  test("the fit of noisy residuals is that of dense weighted least squares", () => {
    const random = uniform(9);
    const sample = sampleOf(1, 16, (_, i, j) => [random() * (1 + (i % 3)), Math.abs(random()) ** 3 / (1 + j)]);
    const [found = []] = fitted(1, 16, [sample]);
    expectNear(centered(found), centered(leastSquares(16, sample)), 1e-4);
  });

  test("the fit of noisy residuals depends on their weights", () => {
    const random = uniform(10);
    const noise = Array.from({ length: 256 }, random);
    const weighted = (heavy: number) =>
      fitted(1, 16, [sampleOf(1, 16, (_, i, j) => [noise[i * 16 + j] as number, i > 12 ? heavy : 1])])[0] as number[];
    const [light, even, heavy] = [weighted(0), weighted(1), weighted(1e4)];
    const far = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))));
    expect(far(centered(light), centered(even))).toBeGreaterThan(0.01);
    expect(far(centered(heavy), centered(even))).toBeGreaterThan(0.01);
  });

  test("the fit of noisy residuals does not change with the scale of all weights", () => {
    const sample = sampleOf(1, 16, (_, i, j) => [Math.sin(i * 7 + j), 1 / (1 + j)]);
    const scaled = { ...sample, weight: sample.weight.map((value) => value * 2 ** -10) };
    expectNear(fitted(1, 16, [scaled])[0] as number[], fitted(1, 16, [sample])[0] as number[], 1e-6);
  });
});

describe("scores that are not finite", () => {
  test.each([
    ["residual", Number.NaN],
    ["residual", Number.POSITIVE_INFINITY],
    ["weight", Number.NaN],
  ] as const)("scores that are not finite are refused: a %s of %f", async (part, bad) => {
    const sample = sampleOf(2, 16, () => [1, 0.5]);
    sample[part][16 * 16 + 5 * 16 + 3] = bad; // head 1, i = 5, j = 3
    const { code, message } = await failureOf(() => fitted(2, 16, [sample]));
    expect([code, message]).toEqual(["invalid-file", "head 1: attention scores are not finite"]);
  });
});
