// Distributions of test statistics: bounds that sound random numbers miss with a probability that is stated.

/** The probability with which a test of sound numbers fails, all its comparisons together. */
export const MISS = 1e-6;

/** Φ, from the error function's Taylor series inside and its continued fraction outside, to 1e-14 */
export function cumulative(x: number): number {
  if (x > 0) return 1 - cumulative(-x);
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x < -3) {
    let fraction = -x;
    for (let k = 60; k > 0; k--) fraction = -x + k / fraction;
    return density / fraction;
  }
  let [term, sum] = [x, x];
  for (let k = 1; k < 80; k++) {
    term *= (-x * x) / (2 * k);
    sum += term / (2 * k + 1);
  }
  return 0.5 + sum / Math.sqrt(2 * Math.PI);
}

/** The z that the largest |z| of `count` standard normals exceeds with probability MISS at most */
export function boundOf(count: number): number {
  let [low, high] = [0, 20];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (2 * count * cumulative(-middle) > MISS) low = middle;
    else high = middle;
  }
  return high;
}

/** The largest |z| of a test over its bound: below 1 unless the numbers are unsound */
export function compareWithBound(z: readonly number[]): number {
  return z.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / boundOf(z.length);
}

/** Pearson's χ² of equally likely cells as a z-score, for thousands of degrees of freedom */
export function chiSquare(counts: ArrayLike<number>, total: number): number {
  const expected = total / counts.length;
  let sum = 0;
  for (let i = 0; i < counts.length; i++) sum += ((counts[i] as number) - expected) ** 2 / expected;
  const freedom = counts.length - 1;
  return (sum - freedom) / Math.sqrt(2 * freedom);
}

/** The probability that a Poisson variable is as far from its mean on the same side as `count`, or farther */
export function poissonTail(count: number, mean: number): number {
  let [term, below] = [Math.exp(-mean), 0];
  for (let k = 0; k < count; k++) {
    below += term;
    term *= mean / (k + 1);
  }
  return count > mean ? 1 - below : below + term;
}

/** A binomial count as a z-score */
export const scoreCount = (count: number, trials: number, probability: number) =>
  (count - trials * probability) / Math.sqrt(trials * probability * (1 - probability));
