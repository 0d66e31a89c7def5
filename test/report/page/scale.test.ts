// Scales and ticks: positions, steps that people read, and ends at ticks.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatTicks, listTicks, makeScale, widenToTicks } from "../../../src/report/page/scale.ts";

test("a scale maps the ends of its domain to those of its range, in either direction", () => {
  const y = makeScale([10, 20], [208, 26]);
  expect([10, 15, 20].map(y)).toEqual([208, 117, 26]);
  expect(makeScale([0, 0], [0, 1])(0)).toBe(0.5);
});

const round = (values: readonly number[]) => values.map((value) => Number(value.toPrecision(12)));

describe("ticks of an axis", () => {
  test.each([
    [[0, 10], 5, [0, 2, 4, 6, 8, 10]],
    [[1, 60], 8, [10, 20, 30, 40, 50, 60]],
    [[0, 0.3], 3, [0, 0.1, 0.2, 0.3]],
    [[-0.013, 0.021], 5, [-0.01, -0.005, 0, 0.005, 0.01, 0.015, 0.02]],
    [[120, 1500], 4, [500, 1000, 1500]],
    [[0, 31], 4, [0, 10, 20, 30]],
    [[2.5, 2.5001], 3, [2.5, 2.50005, 2.5001]],
  ] as [[number, number], number, number[]][])(
    "the ticks of %j, with about %i wanted, are %j",
    (interval, count, expected) => {
      expect(round(listTicks(interval, count))).toEqual(expected);
    },
  );

  test("ticks lie inside, apart by 1, 2 or 5 times a power of ten, and number from half to twice as many as wanted", () => {
    const intervals = fc
      .tuple(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.double({ min: 1e-3, max: 1e6, noNaN: true }))
      .map(([low, width]) => [low, low + width] as const);
    fc.assert(
      fc.property(intervals, fc.integer({ min: 3, max: 10 }), ([low, high], count) => {
        const ticks = listTicks([low, high], count);
        const step = (ticks[1] as number) - (ticks[0] as number);
        expect(step.toExponential(4)).toMatch(/^[125]\.0000e/);
        const slack = step * 1e-6;
        expect(Math.min(...ticks)).toBeGreaterThanOrEqual(low - slack);
        expect(Math.max(...ticks)).toBeLessThanOrEqual(high + slack);
        expect(ticks.length).toBeGreaterThanOrEqual(Math.floor(count / 2));
        expect(ticks.length).toBeLessThanOrEqual(2 * count);
      }),
    );
  });
});

describe("widening of an interval", () => {
  test.each([
    [
      [2.013, 2.5],
      [2, 2.5],
    ],
    [
      [0.87, 3.21],
      [0.8, 3.4],
    ],
    [
      [0, 1],
      [0, 1],
    ],
    [
      [-0.004, 13.9],
      [-2, 14],
    ],
    [
      [1, 999],
      [0, 1000],
    ],
  ] as [[number, number], number[]][])("the widened interval of %j is %j", (interval, expected) => {
    expect(round(widenToTicks(interval))).toEqual(expected);
  });
});

describe("the text of ticks", () => {
  test.each([
    [
      [0, 0.5, 1],
      ["0", "0.5", "1.0"],
    ],
    [
      [1.001, 1.0012, 1.0014],
      ["1.0010", "1.0012", "1.0014"],
    ],
    [
      [0, 20_000, 40_000],
      ["0", "20,000", "40,000"],
    ],
    [
      [100_000, 102_500, 105_000],
      ["100,000", "102,500", "105,000"],
    ],
    [
      [-0.2, 0, 0.1 + 0.2],
      ["-0.2", "0", "0.3"],
    ],
    [
      [0, 2e-6, 4e-6],
      ["0", "0.000002", "0.000004"],
    ],
    [[7], ["7"]],
    [[], []],
  ])("the ticks %j are told apart as %j", (ticks, expected) => {
    expect(formatTicks(ticks).map(({ text }) => text)).toEqual(expected);
  });
});
