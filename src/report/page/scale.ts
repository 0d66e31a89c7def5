// Linear scales and their ticks. Steps of ticks are 1, 2 or 5 times a power of ten, which people read without counting.

import { formatThousands } from "../render/format.ts";

export type Interval = readonly [low: number, high: number];

/** The rounding error of a multiple of a step, in steps. */
const TOLERANCE = 1e-9;

/** Where a value of the domain lies in the range: r₀ + (r₁ - r₀) (v - d₀) / (d₁ - d₀); the middle for an empty domain. */
export function makeScale(domain: Interval, range: Interval): (value: number) => number {
  const width = domain[1] - domain[0];
  return (value) => {
    const share = width === 0 ? 0.5 : (value - domain[0]) / width;
    return range[0] * (1 - share) + range[1] * share;
  };
}

/** Multiples of one step inside the interval, about `count` of them. */
export function listTicks([low, high]: Interval, count: number): number[] {
  const step = chooseStep(high - low, count);
  const first = Math.ceil(low / step - TOLERANCE);
  const last = Math.floor(high / step + TOLERANCE);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

/** Ticks with all the digits that tell them apart, and no others: 0.98, 1.00; 20,000; 2e-5. */
export function formatTicks(ticks: readonly number[]): { value: number; text: string }[] {
  const [first = 0, second = first] = ticks;
  const step = Math.abs(second - first) || Math.abs(first) || 1;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + TOLERANCE));
  return ticks.map((value) => {
    if (Math.abs(value) < step * TOLERANCE) return { value, text: "0" };
    if (decimals > 4) return { value, text: String(Number(value.toPrecision(3))) };
    return { value, text: decimals === 0 ? formatThousands(value) : value.toFixed(decimals) };
  });
}

/** The interval widened to multiples of the step of about ten ticks, so that it begins and ends at one. */
export function widenToTicks([low, high]: Interval): Interval {
  const step = chooseStep(high - low, 10);
  const wide: Interval = [Math.floor(low / step + TOLERANCE) * step, Math.ceil(high / step - TOLERANCE) * step];
  // A wider interval may need a larger step; this happens at most twice, as it grows by less than half of the need.
  return chooseStep(wide[1] - wide[0], 10) > step ? widenToTicks(wide) : wide;
}

/** The 1, 2, 5 or 10 times a power of ten whose ratio to width / count is nearest to 1: it changes at √2, √10 and √50. */
function chooseStep(width: number, count: number): number {
  const power = 10 ** Math.floor(Math.log10(width / count));
  const share = width / count / power; // [1, 10)
  return power * (share >= Math.sqrt(50) ? 10 : share >= Math.sqrt(10) ? 5 : share >= Math.sqrt(2) ? 2 : 1);
}
